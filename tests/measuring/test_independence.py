"""Examples that depend on their batch in a way that few examples do not show: measured together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.measuring.building import build_objective
from pruneviz.measuring.independence import reason_against_chunks
from pruneviz.measuring.options import Options
from pruneviz.model.isolation import module_modes
from pruneviz.model.sample import as_batches
from tests.support.plain_autograd import assert_as_plain

N = 25
torch.manual_seed(0)
X, Y = torch.randn(N, 6, dtype=torch.float64), torch.randint(0, 4, (N,))
X[20, 0] = 9.0
EXACT: dict[str, Any] = {"dtype": torch.float64, "temperatures": (1.0,)}


class Between(nn.Module):
    """A network with a function of (network, activations) between its layers."""

    def __init__(self, change: Callable[[Between, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.gate, self.fc = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 4)
        self.experts = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.change(self, self.a(x)))


def routed(net: Between, u: Tensor) -> Tensor:
    """The best expert of every example, which takes at least four and a third of the batch."""
    gate, best = net.gate(u).softmax(1).max(1)
    out = u.clone()
    for k, expert in enumerate(net.experts):
        taken = (best == k).nonzero()[:, 0][: max(4, math.ceil(len(u) / 3))]
        out = out.index_add(0, taken, expert(u[taken]).tanh() * gate[taken, None])
    return out


class SharedBackward(torch.autograd.Function):
    """The identity, with a gradient that is centred over the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad - grad.mean(0)


DEPENDENT: dict[str, Callable[[Between, Tensor], Tensor]] = {
    "experts with a capacity": routed,
    "a largest value": lambda net, u: u.tanh() / max(1.0, float(u.detach().abs().max()) / 2),
    "a branch on a value": lambda net, u: u.tanh() if u.abs().amax() > 2 else u.sigmoid(),
    "a branch on the size": lambda net, u: u.tanh() if len(u) > 8 else u.sigmoid(),
    "a gradient of the batch": lambda net, u: SharedBackward.apply(u).tanh(),
}


def loss_of(net: nn.Module) -> Tensor:
    return F.cross_entropy(net(X), Y)


@pytest.mark.parametrize("chunk", [None, 1, 5])
@pytest.mark.parametrize("kind", DEPENDENT)
def test_what_depends_on_the_batch_does_not_depend_on_the_chunk(
    kind: str, chunk: int | None
) -> None:
    model = Between(DEPENDENT[kind])
    frame = pv.measure(model, (X, Y), chunk=chunk, **EXACT)
    assert_as_plain(frame, model, loss_of)
    assert frame["theta_g_se"].isna().all()


def test_a_recorder_finds_it_once_and_keeps_it(tmp_path: Any) -> None:
    model = Between(routed)
    with pv.Recorder(model, (X, Y), tmp_path / "run", chunk=5, **EXACT) as recorder:
        recorder.after_epoch(0)
    assert_as_plain(pv.load(tmp_path / "run").filters, model, loss_of, 1e-6)


def reason(model: nn.Module, chunk: int, **options: Any) -> str:
    batches = as_batches((X, Y), torch.device("cpu"), torch.float32)
    with module_modes(model, "eval"):
        return reason_against_chunks(build_objective(model, batches, Options(**options)), chunk)


@pytest.mark.parametrize("chunk", [1, 4, N])
def test_ordinary_networks_are_cut_in_float32(chunk: int) -> None:
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.ReLU(),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    assert reason(model, chunk) == ""


def test_memory_that_runs_out_compares_smaller_pieces() -> None:
    def scarce(net: Between, u: Tensor) -> Tensor:
        if len(u) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return u.tanh() if len(u) > 8 else u.sigmoid()

    assert "depends on the other examples" in reason(Between(scarce), 4)


def confident(output: Tensor, target: Tensor) -> Tensor:
    """The mean over the examples whose label is certain."""
    sure = (output.softmax(1).amax(1) > 0.6).to(output.dtype)
    return (F.cross_entropy(output, target, reduction="none") * sure).sum() / sure.sum().clamp(1)


@pytest.mark.parametrize("seed", range(4))
def test_a_mean_over_confident_outputs_is_no_mean_over_examples(seed: int) -> None:
    torch.manual_seed(seed)
    x = (
        torch.randn(24, 6, dtype=torch.float64)
        * torch.tensor([30.0, 3.0]).repeat_interleave(12)[:, None]
    )
    model, y = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), torch.arange(24) % 4
    with torch.no_grad():
        model[2].weight *= 4
    frame = pv.measure(model, (x, y), loss=confident, chunk=5, **EXACT)
    assert_as_plain(frame, model, lambda net: confident(net(x), y))


class Words(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(9, 6, **options)
        self.a, self.fc = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.fc(self.a(self.embed(words)).tanh().mean(1))


@pytest.mark.parametrize("chunk", [None, 1, 5])
@pytest.mark.parametrize("options", [{"scale_grad_by_freq": True}, {"max_norm": 1.0}])
def test_embeddings_that_look_at_the_batch_are_exact(
    options: dict[str, Any], chunk: int | None
) -> None:
    words, model = torch.randint(0, 9, (N, 5)), Words(**options)
    twin = Words(**options).double()
    theta = list(twin.parameters())
    loss = F.cross_entropy(twin(words), Y)
    g = torch.autograd.grad(loss, theta, create_graph=True)
    hg = torch.autograd.grad(sum((part * part.detach()).sum() for part in g), theta)
    names = [name.removesuffix(".weight") for name, _ in twin.named_parameters()]
    for sample in ((words, Y), [(words[:1], Y[:1]), (words[1:], Y[1:])]):
        if options.get("scale_grad_by_freq") and isinstance(sample, list):
            continue  # its gradient is that of every batch
        frame = pv.measure(model, sample, chunk=chunk, layers=["embed.weight", "a"], **EXACT)
        for layer in ("embed", "a"):
            at = names.index(layer)
            rows = frame[frame["layer"].str.removesuffix(".weight") == layer]
            for column, d in (("theta_g", g[at]), ("theta_hg", hg[at])):
                want = (theta[at] * d).sum(1).detach()
                np.testing.assert_allclose(rows[column], want, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("chunk", [None, 1, 2, 4])
def test_networks_that_squeeze_their_batch_are_measured(chunk: int | None) -> None:
    model = Between(lambda net, u: u.tanh()[:, None].squeeze())
    frame = pv.measure(model, (X, Y), chunk=chunk, **EXACT)
    assert_as_plain(frame, model, loss_of)
