"""Channels taken out of single modules, with the attributes that count them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruneviz.pruning.slicing import IN, OUT, is_depthwise, take_out

GONE = frozenset({1})
LEFT = [0, 2]


def test_rows_and_columns_of_layers_go_with_their_counts() -> None:
    whole = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 3),
            "conv": nn.Conv2d(3, 3, 2, bias=False),
            "up": nn.ConvTranspose2d(3, 4, 2),
            "norm": nn.BatchNorm1d(3),
            "prelu": nn.PReLU(3),
            "single": nn.PReLU(),
        }
    )
    smaller = copy.deepcopy(whole)
    places = [("linear", OUT), ("conv", IN), ("up", IN), ("norm", OUT), ("prelu", OUT)]
    take_out(smaller, dict.fromkeys([*places, ("single", OUT)], GONE))
    assert torch.equal(smaller["linear"].weight, whole["linear"].weight[LEFT])
    assert torch.equal(smaller["linear"].bias, whole["linear"].bias[LEFT])
    assert torch.equal(smaller["conv"].weight, whole["conv"].weight[:, LEFT])
    assert torch.equal(smaller["up"].weight, whole["up"].weight[LEFT])
    assert smaller["norm"].running_var.shape == (2,)
    x = torch.randn(2, 3)
    assert smaller["linear"](x).shape == smaller["norm"](x[:, LEFT]).shape == (2, 2)
    assert smaller["conv"](torch.randn(1, 2, 4, 4)).shape == (1, 3, 3, 3)
    assert smaller["up"](torch.randn(1, 2, 4, 4)).shape == (1, 4, 5, 5)
    assert smaller["prelu"](torch.randn(1, 2)).shape == smaller["single"](torch.randn(1, 2)).shape
    counts = (smaller["linear"].out_features, smaller["conv"].in_channels)
    assert counts == (smaller["norm"].num_features, smaller["prelu"].num_parameters) == (2, 2)


def test_a_depthwise_filter_goes_with_its_input_channel() -> None:
    whole = nn.Sequential(nn.Conv2d(3, 6, 1, groups=3))
    assert is_depthwise(whole[0]) and not is_depthwise(nn.Conv2d(4, 4, 1, groups=2))
    smaller = copy.deepcopy(whole)
    take_out(smaller, {("0", OUT): frozenset({2, 3})})
    x = torch.randn(1, 3, 2, 2)
    expected = whole(x)[:, [0, 1, 4, 5]]
    torch.testing.assert_close(smaller(x[:, LEFT]), expected)


def test_a_tied_weight_is_cut_once_and_stays_tied() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    take_out(network, {("0", IN): GONE})
    assert network[0].weight is network[1].weight
    assert network[0].weight.shape == (3, 2)
    assert network[0].in_features == network[1].in_features == 2


def test_other_modules_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be taken out of a LayerNorm"):
        take_out(nn.Sequential(nn.LayerNorm(3)), {("0", OUT): GONE})
