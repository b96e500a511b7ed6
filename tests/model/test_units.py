"""Units over several parameters: sums count every entry of a unit once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruneviz.errors import MeasureError
from pruneviz.model.units import grouped


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))


def squares(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().double().square() for name, p in model.named_parameters()}


def test_sums_run_over_all_slices_of_a_unit() -> None:
    model = network()
    grouping = {
        "neurons": [
            [("0.weight", 0, [i]), ("0.bias", 0, i), ("2.weight", 1, range(i, i + 1))]
            for i in range(4)
        ]
    }
    (units,) = grouped(model, grouping)
    w, b, v = (squares(model)[name] for name in ("0.weight", "0.bias", "2.weight"))
    assert units.filters == 4
    torch.testing.assert_close(units.sums(squares(model)), w.sum(1) + b + v.sum(0))


def test_an_entry_in_two_slices_of_a_unit_counts_once() -> None:
    model = network()
    unit = [("2.weight", 0, [1]), ("2.weight", 1, [1]), ("2.weight", 0, [1])]
    (units,) = grouped(model, {"one": unit})
    values = squares(model)
    v = values["2.weight"]
    expected = v[1].sum() + v[:, 1].sum() - v[1, 1]
    torch.testing.assert_close(units.sums(values), expected[None])
    assert int(units.masks(model, 0)["2.weight"].sum()) == 7


def test_an_entry_in_two_units_counts_in_both() -> None:
    model = network()
    (units,) = grouped(model, {"pair": [[("0.bias", 0, [0, 1])], [("0.bias", -1, [1, -1])]]})
    b = squares(model)["0.bias"]
    torch.testing.assert_close(units.sums(squares(model)), torch.stack([b[:2].sum(), b[1] + b[3]]))


@pytest.mark.parametrize(
    ("grouping", "message"),
    [
        ({}, "the grouping is empty"),
        ({"a": []}, "without entries"),
        ({"a": [("0.weigth", 0, [0])]}, "did you mean '0.weight'"),
        ({"a": [("0.weight", 2, [0])]}, "no dimension 2"),
        ({"a": [("0.weight", 0, [4])]}, "indices lie in 0..3"),
        ({"a": [("0.weight", 0, [])]}, "no indices for 0.weight"),
        ({"a": [[("0.weight", 0)]]}, r"give \(parameter, dim, indices\)"),
    ],
)
def test_a_wrong_grouping_is_refused_by_name(grouping: dict, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        grouped(network(), grouping)
