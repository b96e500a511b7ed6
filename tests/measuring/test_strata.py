"""How a sample was drawn, as its labels show it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.measuring.building import build_objective
from pruneviz.measuring.objective import Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.strata import strata_of
from pruneviz.model.sample import as_batches


def objective(labels: Tensor, size: int, bn: str = "eval") -> Objective:
    x = torch.randn(len(labels), 4)
    batches = list(zip(x.split(size), labels.split(size), strict=True))
    model = nn.Linear(4, 3)
    placed = as_batches(batches, torch.device("cpu"), torch.float32)
    return build_objective(model, placed, Options(bn=bn))


@pytest.mark.parametrize(
    ("labels", "sizes"),
    [
        ([0, 1, 2, 0, 1, 2], [2, 2, 2]),
        ([0, 1, 2, 0, 1, 2, 2], [2, 2, 3]),
        ([0, 1, 2, 0, 1, 1, 1], [7]),  # unequal: drawn at random from everything
        ([0, 1, 2, 0, 1], [5]),  # a class with one example has no spread
        ([1, 1, 1, 1], [4]),
    ],
)
@pytest.mark.parametrize("size", [2, 7])
def test_classes_are_strata_where_each_has_as_many_examples(
    labels: list[int], sizes: list[int], size: int
) -> None:
    strata = strata_of(objective(torch.tensor(labels), size))
    assert strata.sizes.tolist() == sizes
    assert strata.degrees == len(labels) - len(sizes)
    assert len(sizes) == 1 or strata.of_each.tolist() == labels
    assert strata.left.tolist() == [1.0] * len(sizes)


def test_targets_that_are_no_classes_have_no_strata() -> None:
    one_hot = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])]
    assert strata_of(objective(0.8 * one_hot + 0.2 / 3, 6)).sizes.tolist() == [6]


def test_rows_of_a_single_one_are_classes() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    strata = strata_of(objective(torch.eye(3)[labels], 4))
    assert (strata.sizes.tolist(), strata.of_each.tolist()) == ([2, 2, 2], labels.tolist())


def test_batches_that_cannot_be_split_are_one_stratum() -> None:
    strata = strata_of(objective(torch.tensor([0, 1, 2, 0, 1, 2]), 2, bn="batch"))
    assert (strata.sizes.tolist(), strata.degrees) == ([3], 2)


def test_examples_without_a_weight_are_no_observations() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(60, 4), torch.arange(60) % 4
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4)).double()
    first = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0, 0, 0]))
    table = pv.measure(model, (x, labels), loss=first, dtype=torch.float64)
    alone = pv.measure(model, (x[::4], labels[::4]), dtype=torch.float64)
    assert table.attrs["se_df"] == alone.attrs["se_df"] == 14
    for name in ("theta_g_se", "theta_hg_se_given_g"):
        torch.testing.assert_close(torch.tensor(table[name]), torch.tensor(alone[name]))
    one = labels.clone().fill_(-100)
    one[7] = 2
    table = pv.measure(model, (x, one), dtype=torch.float64)
    assert table.attrs["se_df"] == 0
    assert table[["theta_g_se", "theta_hg_se_given_g"]].isna().all(axis=None)
