"""Captured steps train as plain steps do, with a stub that captures on a CPU as a GPU would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruneviz.errors import PresetError
from pruneviz.experiment import training
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, subset
from pruneviz.experiment.step import CapturedStep, Step, matrix_units, output_of
from pruneviz.experiment.training import TrainingState, start, train
from pruneviz.log.vocabulary import PRECISIONS
from pruneviz.model.isolation import tried_kernels
from pruneviz.plans.run_plan import RunPlan, precision_on
from pruneviz.pruning.held_entries import prune_entries
from tests.support.hooks import Hooks
from tests.support.plans import changed

# 80 images: five batches of 15, three of which warm up, and one of 5
PLAN = RunPlan("tiny-s0", "test", "tiny", "digits", 0, epochs=8, lr_drops=(5,), batch_size=15)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return subset(load_dataset("digits"), 8, 4, seed=0)


def network() -> nn.Module:
    torch.manual_seed(0)
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10)]
    return nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), *head)


class Captures:
    """Captures as a GPU does: without doing the work, and with the rate and tensors of then."""

    def __init__(self, step: Step) -> None:
        self.step, self.sizes, self.replayed = step, [], 0
        self.within = False

    @contextmanager
    def stream(self) -> Iterator[None]:
        self.within = True
        yield
        self.within = False

    def tensors(self) -> dict[str, int]:
        optimizer, model = self.step.optimizer, self.step.network
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        momentum = {
            f"momentum of {n}": optimizer.state[p].get("momentum_buffer")
            for n, p in model.named_parameters()
        }
        return {
            name: 0 if tensor is None else tensor.data_ptr()
            for name, tensor in {**named, **momentum}.items()
        }

    def capture(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        assert self.within
        assert generator is self.step.generator
        (group,) = self.step.optimizer.param_groups
        rate, tensors = group["lr"], self.tensors()
        self.sizes.append(len(work.__closure__[0].cell_contents))  # type: ignore[index]

        def replay() -> None:
            assert self.within
            assert self.tensors() == tensors, (
                "the graph works on tensors that the network no longer has"
            )
            assert min(tensors.values()) > 0, "the graph makes momentum anew at every replay"
            now, group["lr"] = group["lr"], rate
            work()
            group["lr"] = now
            self.replayed += 1

        return replay


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[Captures]:
    """Captures of every training that starts after this."""
    made: list[Captures] = []

    def captured(step: Step) -> CapturedStep:
        made.append(Captures(step))
        return CapturedStep(step, made[-1])

    monkeypatch.setattr(training, "best_of", captured)
    return made


def halve(state: TrainingState) -> None:
    """Prune every second filter that is left."""
    weight = state.network.get_parameter("1.weight")
    left = weight.detach().flatten(1).any(1).nonzero().flatten()
    keep = torch.ones_like(weight, dtype=torch.bool)
    keep[left[::2]] = False
    prune_entries(state.network, {"1.weight": keep})


def trained(data: ImageData, plan: RunPlan) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    state, rows = start(network(), plan), []

    def record(epoch: int, **facts: Any) -> None:
        rows.append({**facts, "seconds": 0})

    train(state, data, plan, Hooks(record, lambda epoch: halve(state)))
    return {**state.network.state_dict(), "generator": state.generator.get_state()}, rows


ROUNDS = {"measure": "magnitude", "target": 0.5, "rounds": 2}
PLANS = {
    "plain": PLAN,
    "no augmentation": changed(PLAN, augment=False),
    "rounds": changed(PLAN, **ROUNDS),
    "rounds, momentum carried": changed(PLAN, **ROUNDS, carry_momentum=True),
    "rounds from the start": changed(PLAN, **ROUNDS, prune_at_start=True),
    "few batches": changed(PLAN, batch_size=40),
    "batches of one size": changed(PLAN, batch_size=16),
}


@pytest.mark.parametrize("name", PLANS)
def test_captured_steps_train_to_the_same_bits(
    data: ImageData, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain, rows = trained(data, PLANS[name])
    made: list[Captures] = []
    monkeypatch.setattr(
        training,
        "best_of",
        lambda step: CapturedStep(step, made.append(Captures(step)) or made[-1]),
    )  # type: ignore[func-returns-value]
    captured, captured_rows = trained(data, PLANS[name])
    assert all(torch.equal(captured[name], value) for name, value in plain.items())
    assert captured_rows == rows or str(captured_rows) == str(rows)  # NaN is no equal of itself
    assert made[0].replayed > 0


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (
            {},
            [15, 5, 15],
        ),  # at the drop of the rate anew; the second 5 would be captured three epochs after it
        ({"lr_drops": ()}, [15, 5]),
        ({"batch_size": 16, "lr_drops": ()}, [16]),
        ({"lr_drops": (), **ROUNDS}, [15, 15, 15, 5]),  # epoch 1, and after each round
    ],
    ids=["drop", "plain", "one size", "rounds"],
)
def test_each_size_of_batch_is_captured_once_and_anew_after_a_change(
    data: ImageData, captures: list[Captures], change: dict[str, Any], sizes: list[int]
) -> None:
    trained(data, changed(PLAN, **change))
    assert captures[0].sizes == sizes


def test_a_graph_that_is_kept_too_long_would_be_noticed(
    data: ImageData, captures: list[Captures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CapturedStep, "_fixed", lambda step: (1,))
    with pytest.raises(AssertionError, match="tensors that the network no longer has"):
        trained(data, changed(PLAN, **ROUNDS))


def test_the_rest_of_an_epoch_is_done_while_the_next_one_runs(
    data: ImageData, captures: list[Captures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_STEPS_AHEAD", 4)
    told: list[tuple[str, int, int]] = []
    steps = 0
    step_once = Step.__call__

    def counted(step: Step, chosen: Tensor) -> None:
        nonlocal steps
        steps += 1
        step_once(step, chosen)

    def record(epoch: int, **facts: object) -> Callable[[], None]:
        told.append(("seen", epoch, steps))
        return lambda: told.append(("written", epoch, steps))

    monkeypatch.setattr(Step, "__call__", counted)
    train(start(network(), PLAN), data, changed(PLAN, epochs=2), Hooks(record))
    assert told == [
        ("seen", 0, 0),
        ("written", 0, 4),
        ("seen", 1, 6),
        ("written", 1, 10),
        ("seen", 2, 12),
        ("written", 2, 12),
    ]


@pytest.mark.parametrize("batch_size", [15, 80])
def test_an_epoch_of_few_steps_leaves_nothing_for_later(
    data: ImageData, captures: list[Captures], batch_size: int
) -> None:
    told: list[int] = []
    plan = changed(PLAN, epochs=3, batch_size=batch_size)
    record = Hooks(lambda epoch, **facts: lambda: told.append(epoch))
    train(start(network(), plan), data, plan, record)
    assert told == [0, 1, 2, 3]


def test_on_a_cpu_nothing_is_put_off(data: ImageData) -> None:
    told: list[str] = []

    def record(epoch: int, **facts: object) -> Callable[[], None]:
        return lambda: told.append(f"written {epoch}")

    hooks = Hooks(record, report=lambda epochs, note: told.append(f"told of {epochs}"))
    train(start(network(), PLAN), data, changed(PLAN, epochs=2), hooks)
    assert told == ["written 0", "written 1", "told of 1", "written 2", "told of 2"]


def test_bfloat16_is_for_activations_alone() -> None:
    model, x = network(), torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen: list[torch.dtype] = []
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))  # type: ignore[index]
    exact, output = (output_of(model, x, precision) for precision in ("fp32", "bf16"))
    assert seen == [torch.float32, torch.bfloat16]
    assert output.dtype == exact.dtype == torch.float32
    assert 0 < (output - exact).abs().max() < 0.05
    output.sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    assert torch.equal(exact, model(x))


UNITS = {"fp32": "ieee", "tf32": "tf32", "bf16": "ieee"}


@pytest.mark.parametrize("precision", PRECISIONS["cuda"])
def test_the_matrix_units_are_as_asked_for_and_put_back(precision: str) -> None:
    def units() -> list[str]:
        backends: Any = torch.backends
        return [
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.mkldnn.conv.fp32_precision,
        ]

    before = units()
    with pytest.raises(ZeroDivisionError), matrix_units(torch.device("cuda"), precision):
        assert units() == [UNITS[precision], UNITS[precision], before[2]]
        raise ZeroDivisionError
    assert units() == before
    with matrix_units(torch.device("cpu"), "fp32"):
        assert units() == before


def test_every_device_has_a_default_precision_and_refuses_what_it_has_not() -> None:
    assert [precision_on(device) for device in ("cpu", "cuda", "mps")] == ["fp32", "tf32", "fp32"]
    assert [precision_on("cuda", precision) for precision in PRECISIONS["cuda"]] == list(
        PRECISIONS["cuda"]
    )
    with pytest.raises(
        PresetError,
        match="precision 'bf16' is not available on cpu; choose fp32, or another device",
    ):
        precision_on("cpu", "bf16")


def test_training_in_a_precision_that_the_device_has_not_is_refused(data: ImageData) -> None:
    plan = changed(PLAN, precision="tf32")
    with pytest.raises(PresetError, match="precision 'tf32' is not available on cpu"):
        train(start(network(), plan), data, plan, Hooks())


@pytest.mark.parametrize(
    ("device", "deterministic", "tried"),
    [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)],
)
def test_kernels_are_tried_on_a_gpu_unless_a_program_wants_determinism(
    monkeypatch: pytest.MonkeyPatch, device: str, deterministic: bool, tried: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    with tried_kernels(torch.device(device)):
        assert torch.backends.cudnn.benchmark is tried
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(("epochs", "tries"), [(1_600, False), (1_700, True)])
def test_only_a_long_run_tries_kernels(data: ImageData, epochs: int, tries: bool) -> None:
    plan = changed(PLAN, epochs=epochs)  # six steps each
    assert training.first_step(start(network(), plan), data, plan).tries_kernels is tries
