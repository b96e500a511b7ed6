"""A result that holds a network is used as this network."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.model.network_result import NetworkResult
from tests.support.cases import head, norm2d, randomise

IMAGES, LABELS = torch.randn(6, 1, 6, 6), torch.arange(6) % 3


def masked() -> nn.Module:
    layers = [nn.Conv2d(1, 6, 3), norm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), norm2d(5), nn.ReLU()]
    network = randomise(nn.Sequential(*layers, *head(5)))
    pv.Pruner(network, IMAGES).prune_filters({"0": [1, 4], "3": 0})
    return network


def test_the_smaller_network_is_called_trained_and_saved_as_a_network() -> None:
    network = masked().eval()
    smaller = pv.remove(network, IMAGES)
    assert torch.allclose(smaller(IMAGES), network(IMAGES), atol=1e-6)
    optimizer = torch.optim.SGD(smaller.parameters(), lr=0.1)
    before = smaller(IMAGES)
    smaller.train()
    assert smaller.network.training
    nn.functional.cross_entropy(smaller(IMAGES), LABELS).backward()
    optimizer.step()
    smaller.eval()
    assert not torch.equal(smaller(IMAGES), before)
    assert smaller.state_dict().keys() == smaller.network.state_dict().keys()
    assert [name for name, _ in smaller.named_modules()] == [n for n, _ in network.named_modules()]


def test_functions_take_it_where_they_take_a_network() -> None:
    smaller = pv.remove(masked(), IMAGES)
    sample = (IMAGES, LABELS)
    assert pv.measure(smaller, sample).equals(pv.measure(smaller.network, sample))
    assert str(pv.coverage(smaller, sample)) == str(pv.coverage(smaller.network, sample))
    drawn = {"filters": 3}
    assert pv.delta_loss(smaller, sample, **drawn).equals(
        pv.delta_loss(smaller.network, sample, **drawn)
    )
    pruner = pv.Pruner(smaller, IMAGES)
    pruner.prune(pv.measure(smaller, sample), "magnitude", gone=2)
    again = pv.remove(smaller, IMAGES)
    assert sum(map(len, again.filters.values())) == sum(map(len, smaller.filters.values())) - 2


def test_it_is_copied_and_pickled_and_says_in_one_line_what_it_is() -> None:
    smaller = pv.remove(masked(), IMAGES)
    for other in (copy.deepcopy(smaller), pickle.loads(pickle.dumps(smaller))):
        assert torch.equal(other(IMAGES), smaller(IMAGES))
    assert repr(smaller) == (
        "<Sequential without 3 of its 11 filters: "
        f"{smaller.after.parameters:,d} of {smaller.before.parameters:,d} parameters>"
    )


def test_what_neither_has_is_named() -> None:
    with pytest.raises(AttributeError, match="neither NetworkResult nor its network has 'weihgt'"):
        _ = NetworkResult(nn.Linear(2, 2)).weihgt
