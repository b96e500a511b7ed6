"""What goes with a filter, what its removal changes, and why some cannot go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import PruningError
from pruneviz.pruning.removals import Removals
from tests.support.cases import BY_NAME, as_pair, digit_batches

IMAGES, _ = as_pair(digit_batches((4,)))


def test_a_filter_goes_with_what_reads_nothing_else() -> None:
    removals = Removals(BY_NAME["grouped"].model(), IMAGES)
    assert removals.going_with(("0", 1)) == {("0", 1)}
    # a depthwise filter goes with the filter that it reads, and with its twin in the group
    assert removals.going_with(("6", 3)) == {("3", 1), ("6", 2), ("6", 3)}


def test_changes_are_the_masks_of_the_pruner() -> None:
    model = BY_NAME["conv_bn_relu"].model()
    removals = Removals(model, IMAGES)
    changes = removals.changes(removals.going_with(("0", 2)))
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: tensor.detach().clone() for name, tensor in before.items()}
    pv.Pruner(model, IMAGES).prune_filters({"0": [2]})
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in after.items():
        if name in changes:
            gone, value = changes[name]
            assert torch.equal(tensor, before[name].masked_fill(gone, value))
            assert gone.any()
        else:
            assert torch.equal(tensor, before[name])
    assert {"0.weight", "1.weight", "1.running_mean", "1.running_var", "4.weight"} <= set(changes)


def test_what_is_pruned_already_changes_nothing() -> None:
    model = BY_NAME["conv_bn_relu"].model()
    pv.Pruner(model, IMAGES).prune_filters({"0": [2]})
    removals = Removals(model, IMAGES)
    assert removals.going_with(("0", 2)) == frozenset()
    gone, _ = removals.changes(removals.going_with(("0", 0)))["0.weight"]
    assert gone[0].all() and not gone[1:].any()


def test_the_last_filter_of_a_layer_stays() -> None:
    model = BY_NAME["plain"].model()
    pv.Pruner(model, IMAGES).prune_filters({"0": [0, 1]})
    removals = Removals(model, IMAGES)
    assert removals.reason_against("0") == ""
    with pytest.raises(
        PruningError, match=r"would be left without a filter|nothing would reach the output"
    ):
        removals.going_with(("0", 2))
    with pytest.raises(PruningError, match="no filters that a Pruner prunes"):
        removals.going_with(("5", 0))


def test_a_network_that_is_one_layer_has_nothing_to_remove() -> None:
    with pytest.raises(PruningError, match="no filter that can be pruned"):
        Removals(nn.Sequential(nn.Conv2d(1, 4, 2), nn.GroupNorm(1, 4), nn.Conv2d(4, 2, 3)), IMAGES)
