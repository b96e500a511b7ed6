"""Slices of units are cut with the attributes that count them."""

from __future__ import annotations

import torch
from torch import nn

from pruneviz.model.units import Slices, Units
from pruneviz.pruning.unit_slicing import COUNTS, take_units_out


class Attention(nn.Module):
    """Projections with counts, as many libraries write it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.width = 4, 2, 8
        self.q, self.o = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)


def test_rows_columns_and_counts_go_together() -> None:
    network = nn.ModuleDict({"attn": Attention()})
    whole = network["attn"].q.weight.detach().clone()
    index, unit = torch.arange(8), torch.arange(8) // 4
    parts = (
        Slices("attn.q.weight", 0, index, unit),
        Slices("attn.q.bias", 0, index, unit),
        Slices("attn.o.weight", 1, index, unit, reads=True),
    )
    take_units_out(network, Units("attn", "head", 2, parts), [0], COUNTS)
    attention = network["attn"]
    assert torch.equal(attention.q.weight, whole[4:])
    assert (attention.q.out_features, attention.o.in_features, attention.q.in_features) == (4, 4, 8)
    assert (attention.num_heads, attention.num_kv_heads, attention.width) == (2, 1, 8)
    assert attention.o.weight.shape == (8, 4) and attention.q.bias.shape == (4,)
