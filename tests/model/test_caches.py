"""Modules that keep a tensor computed from their parameters are measured right, or named."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import UnsupportedError
from pruneviz.model.caches import without_caches
from pruneviz.model.isolation import evaluate, isolated
from tests.support.plain_autograd import assert_as_plain


class Plain(nn.Linear):
    """A linear layer that standardises its weight in every pass."""

    def made(self) -> Tensor:
        return (self.weight - self.weight.mean(1, keepdim=True)) * self.weight.norm()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.made(), self.bias)


class Cached(Plain):
    """The same; keeps the weight in evaluation mode."""

    kept: Tensor | None = None
    graph, ends = True, False  # computed with gradients; dropped by `train`

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.prepare()

    def prepare(self) -> None:
        self.kept = None

    def train(self, mode: bool = True) -> Cached:
        if self.ends:
            self.prepare()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.made() if self.training else self.fetch(), self.bias)

    def fetch(self) -> Tensor:
        if self.kept is None:
            with torch.set_grad_enabled(self.graph):
                self.kept = self.made()
        return self.kept


class InvalidatedByTrain(Cached):
    ends = True


class WithoutGraph(Cached):
    graph = False


class ByKey(Cached):
    def prepare(self) -> None:
        self.store: dict[str, Tensor] = {}

    def fetch(self) -> Tensor:
        if "weight" not in self.store:
            self.store["weight"] = self.made()
        return self.store["weight"]


class ByAttribute(Cached):
    def prepare(self) -> None:
        vars(self).pop("late", None)

    def fetch(self) -> Tensor:
        if not hasattr(self, "late"):
            self.late = self.made()
        return self.late


class InBuffer(Cached):
    def prepare(self) -> None:
        self.register_buffer("own", None, persistent=False)

    def fetch(self) -> Tensor:
        if self.own is None:
            self.own = self.made().detach()
        return self.own


KINDS = [Cached, InvalidatedByTrain, WithoutGraph, ByKey, ByAttribute, InBuffer]


def networks(kind: type[Plain]) -> tuple[nn.Module, nn.Module]:
    """A network with layers of a kind, and its twin without caches."""
    torch.manual_seed(0)
    made = [
        nn.Sequential(k(6, 7), nn.Tanh(), k(7, 5), nn.Tanh(), nn.Linear(5, 3))
        for k in (kind, Plain)
    ]
    made[1].load_state_dict(made[0].state_dict())
    return made[0], made[1]


def evaluated(model: nn.Module, inputs: Tensor) -> None:
    model.eval()(inputs)


def evaluated_without_gradients(model: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        model.eval()(inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "before",
    [lambda m, x: m.train(), lambda m, x: m.eval(), evaluated, evaluated_without_gradients],
)
def test_cached_weights_are_measured_right(
    kind: type[Plain], before: Callable[[nn.Module, Tensor], object]
) -> None:
    (model, plain), inputs, targets = networks(kind), torch.randn(8, 6), torch.arange(8) % 3
    before(model, inputs)
    frame = pv.measure(
        model, (inputs, targets), columns=["theta_g", "theta_hg"], dtype=torch.float64, chunk=3
    )
    assert "0" in set(frame["layer"])
    assert_as_plain(frame, plain, lambda net: F.cross_entropy(net(inputs.double()), targets))


@pytest.mark.parametrize("kind", KINDS)
def test_caches_are_as_before_and_the_network_can_be_copied(kind: type[Plain]) -> None:
    model, inputs = networks(kind)[0].eval(), torch.randn(8, 6)
    before = repr([list(vars(module)) for module in model.modules()])
    pv.measure(model, (inputs, torch.arange(8) % 3))
    assert repr([list(vars(module)) for module in model.modules()]) == before
    copy.deepcopy(model)
    assert not model.training


class Frozen(WithoutGraph):
    """Computes with its cache in training mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.fetch(), self.bias)


def test_a_cache_that_cuts_the_derivative_in_both_modes_is_named() -> None:
    model = networks(Frozen)[0]
    with pytest.raises(UnsupportedError, match=r"layer 0 \(Frozen\).*attribute kept"):
        pv.measure(model, (torch.randn(8, 6), torch.arange(8) % 3))


class Table(nn.Module):
    """Keeps things that are no caches of parameters: a table, statistics, its last input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(6, 3), 0
        self.scale, self.made, self.mean = torch.ones(3), None, None

    def forward(self, x: Tensor) -> Tensor:
        if self.made is None:
            self.made = torch.arange(3.0)
        self.last, self.mean = x, self.layer.weight.detach().norm()
        return self.layer(x) * self.scale + self.made


def test_other_attributes_stay() -> None:
    model, inputs = Table(), torch.randn(4, 6)
    model(inputs)
    held = vars(model) | {}
    with isolated(model):
        evaluate(model)
        with without_caches(model, inputs):
            assert model.scale is held["scale"]
            assert model.made is held["made"]
    assert vars(model) == held
