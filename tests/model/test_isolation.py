"""Forward passes in `isolated` move nothing: attributes, members, hooks and generators."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune, weight_norm

from pruneviz.errors import MeasureError, UnsupportedError
from pruneviz.model.hooks import defines_function
from pruneviz.model.isolation import DEBUG, copied_tensors, isolated
from pruneviz.model.sample import call_with


class Helper:
    def __init__(self) -> None:
        self.calls = 0


class Restless(nn.Module):
    """Moves everything that a forward pass can move."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(2))
        self.count, self.plain, self.array = 0, torch.zeros(2), np.zeros(2)
        self.outputs: list[Tensor] = []
        self.last: dict[str, Any] = {"nested": [1]}
        self.names = {"a"}
        self.recent: deque[int] = deque([1, 2], maxlen=2)
        self.generator, self.random = torch.Generator(), random.Random(0)
        self.helper = Helper()
        self.hidden = [nn.BatchNorm1d(2)]

    def forward(self, x: Tensor) -> Tensor:
        output = self.hidden[0](self.layer(x))
        self.seen += 1
        self.seen = self.seen * 2
        self.count += 1
        self.new = output
        self.plain.data.add_(1)
        self.array += 1
        self.outputs.append(output)
        self.last["nested"].append(2)
        self.last["output"] = output
        self.names.add("b")
        self.recent.append(3)
        torch.rand(1, generator=self.generator)
        self.random.random()
        self.helper.calls += 1
        self.register_buffer("late", output)
        return output + torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002


def contents(model: nn.Module) -> str:
    """All attributes and tensors as text."""
    hidden = vars(model)["hidden"][0]
    tensors = {**model.state_dict(), **hidden.state_dict()}
    state = [list(vars(model)["generator"].get_state()), vars(model)["random"].getstate()]
    known = {name: value for name, value in vars(model).items() if name != "helper"}
    return repr((known, vars(model)["helper"].calls, tensors, state))


def run(model: nn.Module, times: int = 2) -> None:
    for _ in range(times):
        functional_call(model, copied_tensors(model), (torch.ones(4, 3),))


def test_forward_passes_move_nothing() -> None:
    model = Restless()
    before = contents(model)
    with isolated(model):
        run(model)
    assert contents(model) == before
    run(model)
    assert contents(model) != before


def test_every_forward_pass_starts_with_the_same_attributes() -> None:
    model = Restless()
    with isolated(model):
        run(model, 3)
        assert model.count == 1
        assert len(model.outputs) == 1


def test_attributes_are_put_back_after_an_error() -> None:
    model = Restless()
    before = contents(model)
    with pytest.raises(RuntimeError), isolated(model):
        functional_call(model, copied_tensors(model), (torch.ones(4, 5),))
    assert contents(model) == before


def logged(module: nn.Module, *values: object) -> None:
    """Returns nothing, as loggers do."""
    LOG.append(type(module).__name__)


class Logger:
    def log(self, module: nn.Module, *values: object) -> None:
        logged(module)


LOG: list[str] = []
LOGGER = Logger()


@pytest.mark.parametrize(
    "hook",
    [
        lambda *a: LOG.append("called"),
        lambda *a: logged(*a),
        lambda *a: LOGGER.log(*a),
        lambda *a: logged(*reversed(a)),
        LOGGER.log,
        logged,
        LOG.append,
    ],
)
def test_hooks_that_return_the_nothing_of_another_function_are_put_aside(
    hook: Callable[..., None],
) -> None:
    assert not defines_function("_forward_hooks", hook)


@pytest.mark.parametrize("hooks", [False, True])
def test_hooks_of_the_person_run_only_when_asked(hooks: bool) -> None:
    model, calls = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), []
    model[0].register_forward_hook(lambda *_: calls.append("forward"))
    model[1].register_forward_pre_hook(lambda *_: calls.append("before"))
    model[1].register_full_backward_hook(lambda *_: calls.append("backward"))
    everywhere = register_module_forward_hook(lambda *_: calls.append("everywhere"))
    kept = [vars(module)["_forward_hooks"] for module in model]
    try:
        with isolated(model, hooks=hooks):
            tensors = copied_tensors(model)
            tensors["0.weight"].requires_grad_()
            functional_call(model, tensors, (torch.ones(4, 3),)).sum().backward()
        assert bool(calls) == hooks
        calls.clear()
        model(torch.ones(4, 3)).sum().backward()
    finally:
        everywhere.remove()
    assert sorted(set(calls)) == ["backward", "before", "everywhere", "forward"]
    assert all(
        vars(module)["_forward_hooks"] is own for module, own in zip(model, kept, strict=True)
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_hooks_that_define_the_function_run() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    prune.l1_unstructured(model[1], "weight", 0.5)
    x, computed = torch.randn(4, 3), model[0].weight
    expected = model(x)
    with isolated(model):
        tensors = {name: 2 * tensor for name, tensor in copied_tensors(model).items()}
        tensors["1.weight_mask"] /= 2
        got = functional_call(model, tensors, (x,))
    torch.testing.assert_close(got, functional_call(model, tensors, (x,)))
    assert not torch.allclose(got, expected)
    assert model[0].weight is not computed or torch.equal(model[0].weight, computed)


class Counted(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)
        self.scale = 1.0
        self.register_forward_pre_hook(self.double)

    def double(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (2 * inputs[0],)


def test_hooks_that_are_methods_of_the_network_run() -> None:
    model, x = Counted(), torch.randn(4, 3)
    with isolated(model):
        assert torch.equal(functional_call(model, copied_tensors(model), (x,)), model(x))


def scaled(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    counted: list[int] = []
    counted.append(1)
    return output.mul(2)


class Scaled:
    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return 2 * output


@pytest.mark.parametrize(
    "hook", [scaled, Scaled(), lambda module, inputs, output: torch.relu(output)]
)
def test_forward_hooks_that_return_a_value_run(hook: Callable[..., Tensor]) -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    model.register_forward_hook(hook)
    with isolated(model):
        assert torch.equal(functional_call(model, copied_tensors(model), (x,)), model(x))


def test_fast_attention_is_off_and_then_on_again() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    with isolated(nn.Linear(2, 2)):
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled() == before


@pytest.mark.parametrize("hidden", [False, True])
def test_a_moved_parameter_is_named(hidden: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    vars(model)["teacher"] = [nn.Linear(2, 2)]
    layer = vars(model)["teacher"][0] if hidden else model[0]
    with pytest.raises(MeasureError, match="weight"), isolated(model), torch.no_grad():
        layer.weight.mul_(2)


def test_debugging_compares_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(3, 2)
    with isolated(model):
        model.weight.data.mul_(2)
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(MeasureError, match="weight"), isolated(model):
        model.weight.data.mul_(2)


def test_a_context_inside_another_restores_relative_to_its_own_start() -> None:
    model = Restless()
    with isolated(model):
        model.count = 7
        with isolated(model):
            run(model)
            assert model.count == 8
        assert model.count == 7
    assert model.count == 0


class Loss(nn.Module):
    """A loss with running centers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(2))
        self.calls = 0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        self.center += output.detach().mean(0)
        return (output - self.center).square().mean()


def test_a_loss_module_is_put_back_too() -> None:
    model, loss = nn.Linear(3, 2), Loss()
    with isolated(model, also=loss):
        for _ in range(2):
            loss(model(torch.ones(4, 3)), torch.zeros(4))
    assert loss.calls == 0
    assert not loss.center.any()


class Parts(nn.Module):
    """Counts the calls of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(3, 2), 0

    def encode(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) * self.calls

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)


@pytest.mark.parametrize(
    "call",
    [lambda m, x: m.encode(x) + m.encode(x), lambda m, x: m(x) + m(x)],
    ids=["by parts", "twice"],
)
def test_a_pass_of_several_calls_starts_once(call: Callable[..., Tensor]) -> None:
    model, x = Parts(), torch.ones(4, 3)
    with isolated(model):
        outputs = [call_with(model, copied_tensors(model), x, call) for _ in range(2)]
        assert model.calls == 2
    assert torch.equal(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], 3 * model.layer(x))
    assert model.calls == 0


def test_long_chains_of_attributes_are_put_back() -> None:
    model = nn.Linear(3, 2)
    chain: list[object] = []
    model.chain = chain
    for _ in range(5000):
        chain.append([])
        chain = chain[0]
    with isolated(model):
        chain.append(1)
    assert chain == []


def test_networks_made_in_inference_mode_can_be_isolated() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with isolated(model):
        functional_call(model, copied_tensors(model), (torch.ones(4, 3),))


def with_buffer(buffer: Tensor) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2))
    model.register_buffer("unused", buffer)
    return model


UNCOPIED: dict[str, Callable[[], Tensor]] = {
    "half bytes": lambda: torch.quantize_per_tensor(torch.ones(5, 4), 0.1, 0, torch.quint4x2),
    "mkldnn": lambda: torch.ones(4, 4).to_mkldnn(),
}


@pytest.mark.parametrize("kind", UNCOPIED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_buffer_that_torch_cannot_copy_is_refused_by_name(kind: str) -> None:
    model = with_buffer(UNCOPIED[kind]())
    with isolated(model), pytest.raises(UnsupportedError, match=r"^unused is a tensor \("):
        copied_tensors(model)


INCOMPARABLE: dict[str, Callable[[], Tensor]] = {
    "complex32": lambda: torch.zeros(3, dtype=torch.complex32),
    "bits8": lambda: torch.zeros(6, dtype=torch.uint8).view(torch.bits8),
}


@pytest.mark.parametrize("kind", INCOMPARABLE)
@pytest.mark.filterwarnings("ignore:ComplexHalf:UserWarning")
def test_buffers_that_torch_cannot_compare_are_put_back(kind: str) -> None:
    buffer = INCOMPARABLE[kind]()
    model = with_buffer(buffer)
    numbers = torch.view_as_real(buffer) if buffer.is_complex() else buffer.view(torch.uint8)
    with isolated(model):
        functional_call(model, copied_tensors(model), (torch.ones(1, 3),))
        numbers.fill_(7)
    assert (numbers == 0).all()


def test_a_buffer_with_zero_points_that_are_real_numbers_is_copied() -> None:
    quantised = torch.quantize_per_channel(
        torch.ones(5, 4), torch.ones(5), torch.zeros(5), 0, torch.qint8
    )
    model = with_buffer(quantised)
    with isolated(model):  # torch has no `clone` of it
        copy = copied_tensors(model)["unused"]
    assert copy is not quantised
    assert copy.dequantize().tolist() == torch.ones(5, 4).tolist()
