"""A cut copy knows where its entries were, and has the masks of what is left."""

from __future__ import annotations

import torch
from torch import nn

from pruneviz.pruning.held_entries import kept_of, prune_entries
from pruneviz.pruning.shrinking import shrunk
from pruneviz.pruning.slicing import OUT, take_out


def test_entries_masks_and_flags_follow_the_cut() -> None:
    network = nn.Sequential(nn.Linear(2, 4))
    network[0].bias.requires_grad_(False)
    keep = torch.ones(4, 2, dtype=torch.bool)
    keep[1], keep[3, 0] = False, False
    prune_entries(network, {"0.weight": keep})
    smaller, entries = shrunk(network, lambda copy: take_out(copy, {("0", OUT): frozenset({1})}))
    assert entries["0.weight"].tolist() == [0, 1, 4, 5, 6, 7]
    assert torch.equal(smaller[0].weight, network[0].weight[[0, 2, 3]])
    assert kept_of(smaller[0], "weight").tolist() == keep[[0, 2, 3]].tolist()
    assert not smaller[0].bias.requires_grad and smaller[0].weight.requires_grad
    assert network[0].weight.shape == (4, 2)
