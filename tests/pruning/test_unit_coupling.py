"""Units as groups: masks of all their entries, and nothing that depends on them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruneviz.errors import MeasureError
from pruneviz.pruning.held_entries import prune_entries
from pruneviz.pruning.unit_coupling import UnitCoupling

X = torch.ones(2, 3)


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_a_neuron_is_pruned_with_its_row_its_bias_and_its_column() -> None:
    network = perceptron()
    coupling = UnitCoupling(network, X, "neuron")
    (layer,) = coupling.layers
    unit = (layer.name, 1)
    assert coupling.members[unit] == [unit] and coupling.leads[unit] == unit
    assert coupling.count_groups([unit, ("other", 3)]) == 1
    assert coupling.coupled_to(layer) is None and not coupling.has_sums
    kept = coupling.kept([unit])
    assert {name: (~keep).nonzero().tolist() for name, keep in kept.items()} == {
        "0.weight": [[1, 0], [1, 1], [1, 2]],
        "0.bias": [[1]],
        "2.weight": [[0, 1], [1, 1]],
    }
    prune_entries(network, kept)
    assert coupling.pruned() == {unit}
    assert UnitCoupling(network, X, "neuron").pruned() == {unit}


def test_a_unit_with_any_alive_entry_is_not_pruned() -> None:
    network = perceptron()
    coupling = UnitCoupling(network, X, "neuron")
    keep = torch.ones(4, 3, dtype=torch.bool)
    keep[2] = False
    prune_entries(network, {"0.weight": keep})
    assert coupling.pruned() == set()


def test_a_network_without_such_units_is_refused() -> None:
    with pytest.raises(MeasureError, match="no neurons"):
        UnitCoupling(nn.Sequential(nn.Linear(3, 2)), X, "neuron")
