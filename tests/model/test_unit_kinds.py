"""Heads, neurons, experts and embedding channels are found by structure, in any layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pruneviz.errors import MeasureError
from pruneviz.model.filters import Trace
from pruneviz.model.unit_kinds import find_units
from pruneviz.model.units import Units

WIDTH, HEADS, SIZE = 8, 4, 2


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over [examples, heads, tokens, size], heads side by side."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def as_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, SIZE)).transpose(1, 2)


class Separate(nn.Module):
    """Query, key and value by layers of their own; fewer key-value heads than query heads."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_heads, self.groups = HEADS, groups
        self.a, self.b, self.c = (nn.Linear(WIDTH, n * SIZE) for n in (HEADS, groups, groups))
        self.o = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q = as_heads(self.a(x), HEADS)
        k, v = (
            as_heads(layer(x), self.groups).repeat_interleave(HEADS // self.groups, dim=1)
            for layer in (self.b, self.c)
        )
        return self.o(attended(q, k, v))


class Fused(nn.Module):
    """One layer for query, key and value: one after the other, or head by head."""

    def __init__(self, by_head: bool) -> None:
        super().__init__()
        self.num_heads, self.by_head = HEADS, by_head
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.qkv(x)
        parts = (
            y.unflatten(-1, (HEADS, 3, SIZE)).unbind(-2)
            if self.by_head
            else (part.unflatten(-1, (HEADS, SIZE)) for part in y.chunk(3, -1))
        )
        return self.proj(attended(*(part.transpose(1, 2) for part in parts)))


class Block(nn.Module):
    """Attention and a gated MLP in a residual stream, and a classifier."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.norm = attention, nn.LayerNorm(WIDTH)
        self.up, self.gate, self.down = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 8)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(x)
        y = self.norm(x + (y[0] if isinstance(y, tuple) else y))
        y = y + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(y.mean(1))


class Torch(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)


ATTENTION = {
    "separate": (lambda: Separate(4), 4, 3),
    "grouped queries": (lambda: Separate(2), 2, 3),
    "one key for all": (lambda: Separate(1), 1, 3),
    "fused": (lambda: Fused(False), 4, 1),
    "fused by head": (lambda: Fused(True), 4, 1),
    "torch": (lambda: Torch(WIDTH, HEADS, batch_first=True), 4, 1),
}


def found(name: str, kind: str) -> tuple[nn.Module, Trace, list[Units]]:
    torch.manual_seed(0)
    model = Block(ATTENTION[name][0]())
    trace = Trace.of(model, torch.randn(2, 5, WIDTH))
    return model, trace, find_units(model, kind, trace)


def without(model: nn.Module, units: Units, unit: int, only_reads: bool) -> Tensor:
    """The output once a unit's entries are zero, all or only those that read it."""
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    for part in units.slices:
        if part.reads or not only_reads:
            state[part.parameter].index_fill_(part.dim, part.of(unit), 0.0)
    torch.manual_seed(1)
    return functional_call(model, state, (torch.randn(2, 5, WIDTH),))


@pytest.mark.parametrize("kind", ["head", "neuron"])
@pytest.mark.parametrize("name", ATTENTION)
def test_every_unit_is_gone_once_nothing_reads_it(name: str, kind: str) -> None:
    model, _, (units,) = found(name, kind)
    outputs = []
    for unit in range(units.filters):
        outputs.append(without(model, units, unit, only_reads=True))
        torch.testing.assert_close(outputs[-1], without(model, units, unit, only_reads=False))
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == units.filters


@pytest.mark.parametrize("name", ATTENTION)
def test_heads_hold_all_rows_of_query_key_and_value_once(name: str) -> None:
    _, count, makers = ATTENTION[name]
    model, _, (units,) = found(name, "head")
    assert (units.name, units.filters) == ("attention", count)
    weights = [p for p in units.slices if p.parameter.endswith("weight") and not p.reads]
    assert len(weights) == makers
    assert sum(part.reads for part in units.slices) == 1
    for part in units.slices:
        size = model.get_parameter(part.parameter).shape[part.dim]
        assert sorted(part.index.tolist()) == list(range(size))
    biases = [part for part in units.slices if part.parameter.endswith("bias")]
    assert len(biases) == makers


def test_neurons_of_a_gated_layer_hold_a_row_of_each_and_a_column() -> None:
    _, _, (units,) = found("separate", "neuron")
    assert [part.parameter for part in units.slices if part.reads] == ["down.weight"]
    assert {part.parameter for part in units.slices if not part.reads} == {
        "gate.weight", "gate.bias", "up.weight", "up.bias",
    }  # fmt: skip
    assert units.filters == 6


def test_zero_initialised_outputs_do_not_hide_the_heads() -> None:
    torch.manual_seed(0)
    model = Block(Fused(by_head=True))
    nn.init.zeros_(model.attention.proj.weight)
    (units,) = find_units(model, "head", Trace.of(model, torch.randn(2, 5, WIDTH)))
    assert units.slices[0].of(0).tolist() == list(range(3 * SIZE))


def test_a_layer_norm_between_two_layers_makes_no_neurons() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    with pytest.raises(MeasureError, match=r"has no neurons: .* give a grouping"):
        find_units(model, "neuron", Trace.of(model, torch.randn(2, 4)))


@pytest.mark.parametrize("kind", ["head", "expert", "channel"])
def test_a_network_without_such_units_is_told_what_was_looked_for(kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    looked_for = {"head": "num_heads", "expert": "num_experts", "channel": "nn.Embedding"}[kind]
    with pytest.raises(MeasureError, match=rf"{looked_for}.*give a grouping"):
        find_units(model, kind, Trace.of(model, torch.randn(2, 4)))


class Mixture(nn.Module):
    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.router = nn.Linear(4, 3)
        if stacked:
            self.experts = Stacked()
        else:
            self.experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        outputs = [expert(x) for expert in self.experts]
        return sum(g[:, None] * y for g, y in zip(gates.T, outputs, strict=True))


class Stacked(nn.Module):
    num_experts = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.randn(*s)) for s in ((3, 2, 4), (3, 2)))

    def __iter__(self):
        return (lambda x, i=i: F.linear(x, self.weight[i], self.bias[i]) for i in range(3))


@pytest.mark.parametrize("stacked", [False, True])
def test_an_expert_holds_all_its_parameters_and_no_row_of_the_router(stacked: bool) -> None:
    model = Mixture(stacked)
    (units,) = find_units(model, "expert", Trace.of(model, torch.randn(2, 4)))
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    assert (units.name, units.sums(ones).tolist()) == ("experts", [10.0, 10.0, 10.0])
    assert not any("router" in name for name in units.parameters)
