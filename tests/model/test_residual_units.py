"""Channels of the residual stream: all rows that write one, all columns that read it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pruneviz.errors import MeasureError
from pruneviz.model.filters import Trace
from pruneviz.model.unit_kinds import find_units
from tests.model.test_unit_kinds import WIDTH, Block, Fused, Separate, Torch

X = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
ATTENTION = {
    "separate": lambda: Separate(4),
    "grouped": lambda: Separate(2),
    "fused": lambda: Fused(True),
    "torch": lambda: Torch(WIDTH, 4, batch_first=True),
}


class Network(nn.Module):
    """A stem and positions write the stream, a block reads and writes it."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem, self.block = nn.Linear(3, WIDTH), Block(attention)
        self.place = nn.Parameter(torch.randn(1, 5, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.stem(x) + self.place)


@pytest.mark.parametrize("name", ATTENTION)
def test_a_permutation_of_the_channels_keeps_the_output(name: str) -> None:
    torch.manual_seed(0)
    model = Network(ATTENTION[name]())
    (units,) = find_units(model, "residual", Trace.of(model, X))
    assert (units.name, units.filters) == ("residual", WIDTH)
    order = torch.randperm(WIDTH)
    state = {name: p.detach() for name, p in model.named_parameters()}
    for part in units.slices:
        assert part.index.tolist() == part.unit.tolist() == list(range(WIDTH))
        state[part.parameter] = state[part.parameter].index_select(part.dim, order)
    torch.testing.assert_close(functional_call(model, state, (X,)), model(X))
    written = {part.parameter for part in units.slices if not part.reads}
    assert {"stem.weight", "stem.bias", "place", "block.norm.weight", "block.down.bias"} <= written
    read = {part.parameter for part in units.slices if part.reads}
    assert {"block.up.weight", "block.gate.weight", "block.head.weight"} <= read


def test_a_stream_that_comes_from_outside_is_refused() -> None:
    model = Block(Fused(False))
    x = torch.randn(2, 5, WIDTH)
    with pytest.raises(MeasureError, match="exchanging two of its channels in all weights changes"):
        find_units(model, "residual", Trace.of(model, x))


def test_a_network_without_norms_has_no_stream() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(MeasureError, match="no residual stream: no layer norm"):
        find_units(model, "residual", Trace.of(model, torch.randn(2, 3)))
