"""Networks that do not answer the same twice are refused; batches that matter stay whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import DataError, MeasureError
from tests.support.plain_autograd import assert_as_plain

torch.manual_seed(0)
N = 12
X, Y = torch.randn(N, 4, dtype=torch.float64), torch.arange(N) % 3
EXACT: dict[str, Any] = {"dtype": torch.float64, "temperatures": (1.0,)}


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x)


def network(change: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Between(change), nn.Linear(6, 3)).double()


next_call = itertools.count().__next__
REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "functional dropout": (
        lambda x: F.dropout(x, 0.5),
        r"random numbers by (native_)?(dropout|bernoulli) in layer 2\. Use nn\.Dropout rather than",
    ),
    "noise": (lambda x: x + torch.randn_like(x), "random numbers by randn_like in layer 2"),
    "noise of NumPy": (
        lambda x: x * float(np.random.rand()),  # noqa: NPY002
        r"random numbers outside of torch\. Use nn\.Dropout",
    ),
    "noise in the gradient alone": (
        lambda x: x + (x - x.detach()) * torch.rand(()),
        "the gradient moved by .* random numbers by rand in layer 2",
    ),
    "a counter that no module holds": (
        lambda x: x * (1 + next_call()),
        r"differ with equal random numbers too, so it keeps state .* forward=callable",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_measure_and_recorder_refuse_with_the_cause(kind: str, tmp_path: Any) -> None:
    change, match = REFUSED[kind]
    with pytest.raises(MeasureError, match=f"different results when evaluated twice: .*{match}"):
        pv.measure(network(change), (X, Y))
    with pytest.raises(MeasureError, match=f"different results when evaluated twice: .*{match}"):
        pv.Recorder(network(change), (X, Y), tmp_path / "run")


def best_of_batch(x: Tensor) -> Tensor:
    """The two examples of the batch with the largest activations are kept."""
    return torch.zeros_like(x).index_copy(0, best := x.sum(1).topk(2).indices, x[best])


def of_twelve(x: Tensor) -> Tensor:
    return x * torch.linspace(0, 1, N, dtype=x.dtype)[:, None]


DEPENDENT: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over the batch": lambda x: x - x.mean(0),
    "best of the batch": best_of_batch,
    "softmax over the batch": lambda x: x.softmax(0),
    "a buffer of the batch's size": of_twelve,
}


@pytest.mark.parametrize("chunk", [None, 1, 5])
@pytest.mark.parametrize("kind", DEPENDENT)
def test_examples_that_depend_on_their_batch_are_measured_together(
    kind: str, chunk: int | None
) -> None:
    model = network(DEPENDENT[kind])
    given: dict[str, Any] = {"chunk": chunk, "trace_examples": None, **EXACT}
    frame = pv.measure(model, (X, Y), **given)
    assert_as_plain(frame, model, lambda net: F.cross_entropy(net(X), Y))
    assert frame["theta_g_se"].isna().all()
    with pytest.raises(MeasureError, match=r"theta2_g2 .* depends on the other examples"):
        pv.measure(model, (X, Y), columns="theta2_g2", **given)


@pytest.mark.parametrize("bn", ["batch", "calibrated"])
def test_a_network_that_runs_on_whole_batches_alone_is_measured_in_every_norm_mode(bn: str) -> None:
    model = network(of_twelve)
    frame = pv.measure(model, (X, Y), bn=bn, trace_examples=None, **EXACT)
    assert_as_plain(frame, model, lambda net: F.cross_entropy(net(X), Y))


def test_batches_of_such_examples_stay_whole() -> None:
    model = network(DEPENDENT["mean over the batch"])
    batches = [(X[:7], Y[:7]), (X[7:], Y[7:])]
    frame = pv.measure(model, batches, chunk=2, **EXACT)
    assert_as_plain(
        frame,
        model,
        lambda net: sum(F.cross_entropy(net(x), y) * len(y) for x, y in batches) / N,  # type: ignore[arg-type]
    )
    assert frame["theta_g_se"].notna().all()


class Spiking(nn.Module):
    """A membrane potential that is kept from one call to the next, unless it is reset."""

    def __init__(self) -> None:
        super().__init__()
        self.potential: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before = 0.0 if self.potential is None else self.potential
        self.potential = 0.5 * before + x
        return self.potential.sigmoid()


def test_a_spiking_network_that_was_reset_is_measured_as_reset() -> None:
    model = network(lambda x: x)
    model[1] = Spiking()
    frame = pv.measure(model, (X, Y), chunk=5, **EXACT)
    silent = network(lambda x: x)
    silent[1] = nn.Sigmoid()
    assert_as_plain(frame, silent, lambda net: F.cross_entropy(net(X), Y))
    model(X[:5])
    with pytest.raises(MeasureError, match=r"layer 1 .* potential of shape \(5, 6\).* reset it"):
        pv.measure(model, (X, Y))


def test_arrays_among_the_inputs_that_differ_from_pass_to_pass_are_refused(tmp_path: Path) -> None:
    class Changing:
        """Batches with an array that is another one at every pass, or the same."""

        def __init__(self, *, by: int) -> None:
            self.by, self.passes = by, 0

        def __iter__(self) -> Any:
            self.passes += self.by
            scale = np.array([float(self.passes), np.nan])
            yield {"x": torch.eye(4), "scale": scale}, torch.arange(4)

    class Scaled(nn.Linear):
        def forward(self, x: Tensor, scale: np.ndarray) -> Tensor:  # type: ignore[override]
            return super().forward(x * float(scale[0]))

    model = Scaled(4, 4)
    pv.Recorder(model, Changing(by=0), tmp_path / "same", classifier=True)
    with pytest.raises(DataError, match="differs when it is iterated over a second time"):
        pv.Recorder(model, Changing(by=1), tmp_path / "other", classifier=True)
