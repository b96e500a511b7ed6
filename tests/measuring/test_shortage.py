"""Lack of memory at any tensor: the numbers are right, or the error is clear; nothing is moved."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError
from pruneviz.measuring import chunking
from pruneviz.measuring.building import build_objective
from pruneviz.measuring.independence import reason_against_chunks
from pruneviz.measuring.options import Options
from pruneviz.measuring.repeatability import check_repeatable, fixed_batches
from pruneviz.model.sample import as_batches
from tests.support.cases import BY_NAME, Net, as_pair, digit_batches
from tests.support.generators import untouched
from tests.support.scarce_memory import ERRORS, FailsAt

SAMPLE = as_pair(digit_batches((6,)))
CALIBRATED: dict[str, Any] = {"bn": "calibrated", "columns": ["theta_g", "theta_hg"]}
ON_REQUEST = ["theta2_g2", "fisher_block", "wanda", "obd", "theta_g_se", "abs_theta_g_se"]


@pytest.fixture(autouse=True)
def _without_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    # In this process one takes as long as a measurement.
    monkeypatch.setattr(chunking.gc, "collect", lambda: 0)


def network() -> nn.Module:
    return BY_NAME["conv_bn_relu"].model()


def recorded(model: nn.Module) -> pd.DataFrame:
    """What a recorder checks before it records, and columns on request."""
    options = Options.of()
    check_repeatable(model, fixed_batches(model, [SAMPLE], options), options)
    return pv.measure(model, SAMPLE, columns=ON_REQUEST, probes=2)


JOBS: dict[str, Callable[[nn.Module], pd.DataFrame]] = {
    "all default columns": lambda model: pv.measure(model, SAMPLE),
    "a recorder's check, columns on request": recorded,
    "calibrated": lambda model: pv.measure(model, SAMPLE, **CALIBRATED),
    "whole batches": lambda model: pv.measure(model, SAMPLE, bn="batch", columns="theta_hg"),
    "single weights": lambda model: pv.measure(model, SAMPLE, unit="weight", columns="theta_hg"),
    "removed filters": lambda model: pv.delta_loss(model, SAMPLE, filters=3),
    "another loss": lambda model: pv.measure(model, SAMPLE, loss=squares, columns="theta_hg"),
}


def squares(output: Tensor, target: Tensor) -> Tensor:
    return (output - F.one_hot(target, output.shape[1])).square().sum(1).mean()


def count_of(job: Callable[[nn.Module], Any]) -> int:
    with FailsAt(0) as counting:
        job(network())
    return counting.made


def right_or_clear(kind: str, number: int, error: str, expected: pd.DataFrame) -> str:
    """Do a job in which one tensor cannot be made; returns what became of it."""
    model, job = network(), JOBS[kind]
    before = {name: t.clone() for name, t in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    with untouched():
        try:
            with FailsAt(number, ERRORS[error]):
                found = job(model)
        except MeasureError as raised:
            assert str(raised).startswith("memory ran out "), raised
            outcome = "clear"
        else:
            # at most the order of sums differs, that of float64 numbers
            pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-13)
            outcome = "right"
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert not hasattr(value, "grad") or value.grad is None
    return outcome


@pytest.mark.parametrize("kind", JOBS)
def test_no_tensor_that_cannot_be_made_spoils_a_number(kind: str) -> None:
    drawn = random.Random(kind)
    expected, made = JOBS[kind](network()), count_of(JOBS[kind])
    for number in drawn.sample(range(1, made + 1), 2):
        right_or_clear(kind, number, drawn.choice(list(ERRORS)), expected)


@pytest.mark.soak
@pytest.mark.parametrize("kind", JOBS)
def test_no_tensor_of_very_many_that_cannot_be_made_spoils_a_number(kind: str) -> None:
    drawn = random.Random(0)
    expected, made = JOBS[kind](network()), count_of(JOBS[kind])
    outcomes = [
        right_or_clear(kind, number, drawn.choice(list(ERRORS)), expected)
        for number in drawn.sample(range(1, made + 1), 150)
    ]
    assert outcomes.count("right") > 15


class Scarce(nn.Module):
    """A layer that runs out of memory above `room` examples, and notes what it gets."""

    def __init__(self, room: int, error: Callable[[], BaseException] = ERRORS["CPU"]) -> None:
        super().__init__()
        self.room, self.error = room, error

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise self.error()
        return x


def scarce(room: int, error: str = "CPU") -> nn.Module:
    return nn.Sequential(network(), Scarce(room, ERRORS[error]))


TWELVE = as_pair(digit_batches((12,)))


def options_of(**given: Any) -> Options:
    return Options.of(**given)


# What runs over the whole sample; chunks of 3 fit.
OVER_THE_SAMPLE: dict[str, Callable[[nn.Module], Any]] = {
    "check of a recorder": lambda m: check_repeatable(
        m, fixed_batches(m, TWELVE, options_of()), options_of()
    ),
    "measure": lambda m: pv.measure(m, TWELVE),
    "weights": lambda m: pv.measure(m, TWELVE, unit="weight", columns="theta_hg"),
    "columns on request": lambda m: pv.measure(m, TWELVE, columns=ON_REQUEST, probes=2),
    "removed filters": lambda m: pv.delta_loss(m, TWELVE, filters=3),
    "column delta_loss": lambda m: pv.measure(m, TWELVE, columns="delta_loss", oracle=3),
    "coverage": lambda m: pv.coverage(m, TWELVE).table.drop(columns="reason"),
}


@pytest.mark.parametrize(("what", "error"), list(zip(OVER_THE_SAMPLE, ERRORS, strict=False)))
def test_everything_that_runs_over_the_sample_is_halved(
    what: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = OVER_THE_SAMPLE[what](scarce(4, error))
    if isinstance(found, pd.DataFrame):
        expected = OVER_THE_SAMPLE[what](scarce(99))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-13)
    if what != "coverage":
        assert "memory ran out with 12 examples at once (" in caplog.text
        assert "going on with 6" in caplog.text


def test_a_recorder_and_a_flow_meter_work_where_measure_does(tmp_path: Path) -> None:
    model = scarce(4, "oneDNN")
    with pv.Recorder(model, TWELVE, tmp_path / "run", every=1, samples=2) as recorder:
        recorder.after_epoch(0)
        ranked = recorder.table(0, columns="theta_hg")
    direct = pv.measure(model, TWELVE, chunk=3)
    recorded = pv.load(tmp_path / "run").filters
    for table, rounding in ((ranked, 1e-9), (recorded, 1e-6)):  # tables on disk are of float32
        expected = pytest.approx(direct["theta_hg"].to_numpy(), rounding)
        assert table["theta_hg"].to_numpy() == expected
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pv.FlowMeter(model, optimizer, TWELVE, sample_every=1, bn="eval") as meter:
        loss = sum(F.cross_entropy(model(x), y) for x, y in digit_batches((3,)))
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        assert meter.take(1)["sample_flow"].notna().all()


def test_the_same_chunk_from_the_start_gives_the_same_bits() -> None:
    halved = pv.measure(scarce(3), TWELVE, chunk=12)
    pd.testing.assert_frame_equal(halved, pv.measure(scarce(99), TWELVE, chunk=3), check_exact=True)


@pytest.mark.parametrize("error", ERRORS)
def test_one_example_that_does_not_fit_says_how_much_and_what_to_do(error: str) -> None:
    amount = "33.6 MB asked for" if "llocate 3" in str(ERRORS[error]()) else ""
    with pytest.raises(MeasureError, match="memory ran out") as raised:
        pv.measure(scarce(0, error), TWELVE)
    for part in (amount, "in layer 1 (Scarce)", " free", "smaller sample", "where there is more"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"bn": "batch"}, "bn='batch' normalises .* or use bn='eval', which splits batches"),
        ({"bn": "calibrated"}, "bn='calibrated' estimates .* or use bn='eval', which splits"),
        ({"loss": lambda o, y: o.var(0).sum()}, r"the loss is no mean .* loss_weight=callable"),
    ],
)
def test_a_batch_that_stays_whole_is_not_halved(given: dict[str, Any], why: str) -> None:
    with pytest.raises(MeasureError, match=f"cannot be split: {why}"):
        pv.measure(scarce(8), TWELVE, **given)


def joined(net: Net, x: Tensor) -> Tensor:
    """Examples of a batch of more than two depend on each other."""
    y = net.conv(x).mean((2, 3))
    if len(x) > 6:
        raise ERRORS["oneDNN"]()
    return net.fc(y - y.mean(0) if len(x) > 4 else y)


def test_examples_that_depend_on_each_other_are_noticed_in_what_fits() -> None:
    model = Net(joined, conv=nn.Conv2d(1, 3, 2), fc=nn.Linear(3, 3)).double()
    sample = build_objective(
        model, as_batches(TWELVE, torch.device("cpu"), torch.float64), Options()
    )
    assert "depends on the other examples" in reason_against_chunks(sample, 6)


def test_what_names_a_fault_over_the_whole_sample_is_halved_too() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float("nan")

    model = nn.Sequential(scarce(4), Broken())
    with pytest.raises(MeasureError, match=r"NaN or infinite, first in the output of layer 1"):
        pv.measure(model, TWELVE)


def test_words_that_are_renormed_are_settled_in_pieces() -> None:
    torch.manual_seed(0)
    words, labels = torch.arange(24).reshape(12, 2), torch.arange(12) % 3

    def forward(net: Net, x: Tensor) -> Tensor:
        if len(x) > 4:
            raise ERRORS["CPU"]()
        return net.fc(net.mix(net.words(x).flatten(1)).tanh())

    def model(forward: Any) -> nn.Module:
        torch.manual_seed(1)
        layers = {"words": nn.Embedding(24, 4, max_norm=0.5), "mix": nn.Linear(8, 4)}
        return Net(forward, **layers, fc=nn.Linear(4, 3)).double()

    found = pv.measure(model(forward), (words, labels))
    whole = model(lambda net, x: net.fc(net.mix(net.words(x).flatten(1)).tanh()))
    pd.testing.assert_frame_equal(found, pv.measure(whole, (words, labels)), rtol=1e-9)


def test_lack_of_memory_is_never_taken_for_another_fault() -> None:
    """A cache that was not seen, or a layer that was not traced, would change numbers silently."""
    model = network()
    with FailsAt(0) as counting:
        pv.coverage(model, TWELVE)
    for number in random.Random(0).sample(range(1, counting.made + 1), 8):
        with pytest.raises(MeasureError, match="memory ran out"), FailsAt(number):
            pv.coverage(model, TWELVE)
