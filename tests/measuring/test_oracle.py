"""The oracle: equal to hard masking and to the really smaller network; the network stays."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from torch import nn

import pruneviz as pv
from pruneviz.errors import PruningError
from tests.support.cases import (
    CASES_AND_MODES,
    Batches,
    Case,
    as_pair,
    digit_batches,
)
from tests.support.reference import Twin, sample_of

Network = Callable[[], nn.Module]
IMAGES, LABELS = as_pair(digit_batches((6, 6)))


def loss_of(model: nn.Module, batches: Batches, bn: str = "eval") -> float:
    """The mean cross-entropy, by plain calls of a copy of the network."""
    twin = Twin(model, batches, bn)
    return float(twin.mean_loss(twin.theta, 1.0))


def without(model: nn.Module, layer: str, number: int) -> nn.Module:
    """A copy with a filter and its group masked by the pruner."""
    masked = copy.deepcopy(model)
    pv.Pruner(masked, IMAGES.to(next(model.parameters()).dtype)).prune_filters({layer: [number]})
    return masked


def masked_and_removed(
    model: nn.Module, batches: Batches, layer: str, number: int, bn: str = "eval"
) -> tuple[float, float]:
    """The change of the loss by hard masking, and by the smaller network of `remove`."""
    masked, before = without(model, layer, number), loss_of(model, batches, bn)
    smaller = pv.remove(masked, IMAGES).network
    return loss_of(masked, batches, bn) - before, loss_of(smaller, batches, bn) - before


def assert_is_truth(model: nn.Module, table: pd.DataFrame, batches: Batches, bn: str) -> None:
    for row in table.dropna().itertuples():
        wanted = masked_and_removed(model, batches, row.layer, row.filter, bn)
        assert np.allclose(row.delta_loss, wanted, rtol=0, atol=1e-10), (row, wanted)


@CASES_AND_MODES
def test_equals_hard_masking_and_the_smaller_network(case: Case, bn: str) -> None:
    model, batches = case.model(), sample_of(bn)
    try:
        table = pv.delta_loss(model, batches, bn=bn)
    except PruningError:
        with pytest.raises(PruningError):
            pv.Pruner(model, IMAGES)
        return
    assert_is_truth(model, table, batches, bn)
