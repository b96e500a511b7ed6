"""The numbers of trajectories: quantiles of layers, and single filters until they are pruned."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.trajectories import QUANTILES, chosen_layers, trajectory_table
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=4, every=2)


def pruned_table() -> pd.DataFrame:
    """Two layers of four filters over three epochs; `b` is gone at the last, a[0] at the second."""
    keys = [(e, layer, p) for e in (5, 6, 7) for layer in ("b", "a") for p in range(4)]
    table = pd.DataFrame(keys, columns=["epoch", "layer", "filter"])
    value = table["epoch"] + 0.25 * table["filter"]
    gone = (table["layer"] == "b") & (table["epoch"] == 7)
    gone |= (table["layer"] == "a") & (table["filter"] == 0) & (table["epoch"] > 5)
    return table.assign(mine=value, kept=~gone)


def test_quantiles_are_those_of_the_kept_filters_of_all_seeds(runs: Runs) -> None:
    found = trajectory_table(runs, "theta_g", runs={"network": "vgg13"})
    rows = runs.filters[runs.filters["run"].astype(str).str.startswith("vgg13")]
    values = rows.loc[(rows["layer"] == found["layer"][0]) & (rows["epoch"] == 4), "theta_g"]
    row = found[(found["layer"] == found["layer"][0]) & (found["epoch"] == 4)].iloc[0]
    assert row[list(QUANTILES)].tolist() == pytest.approx(
        np.quantile(values, list(QUANTILES.values()))
    )
    assert (row["seeds"], row["filters"]) == (3, len(values))
    assert sorted(set(found["epoch"])) == [0, 2, 4]


def test_pruned_filters_leave_the_quantiles_and_are_counted() -> None:
    found = trajectory_table(pruned_table(), "mine").set_index(["layer", "epoch"])
    assert found.loc[("a", 5), "p50"] == 5 + 0.25 * 1.5
    assert found.loc[("a", 6), "p50"] == 6.5
    assert found["pruned"].to_dict() == {
        **{("b", 5): 0, ("b", 6): 0, ("b", 7): 4},
        **{("a", 5): 0, ("a", 6): 1, ("a", 7): 1},
    }
    assert np.isnan(found.loc[("b", 7), "p50"])
    assert found.loc["b", "depth"].unique().tolist() == [1]


def test_infinite_values_are_counted_and_not_averaged() -> None:
    table = pruned_table().assign(mine=lambda rows: rows["mine"].replace(5.25, np.inf))
    row = trajectory_table(table, "mine").set_index(["layer", "epoch"]).loc[("a", 5)]
    assert (row["infinite"], row["filters"], row["p50"]) == (1, 3, 5.5)


def test_chosen_filters_are_those_of_the_lowest_seed(runs: Runs) -> None:
    chosen = [("features.0.conv", 1), ("features.1.conv", 0)]
    found = trajectory_table(runs, "magnitude", runs={"network": "vgg13"}, filters=chosen)
    rows = runs.filters[(runs.filters["run"] == "vgg13-digits-s0") & (runs.filters["epoch"] == 3)]
    expected = np.sqrt(
        rows.loc[(rows["layer"] == "features.0.conv") & (rows["filter"] == 1), "theta_norm2"]
    )
    at = (found["layer"] == "features.0.conv") & (found["epoch"] == 3)
    assert found.loc[at, "value"].tolist() == pytest.approx(expected.tolist())
    assert (len(found), set(found["run"]), set(found["seeds"])) == (10, {"vgg13-digits-s0"}, {3})


def test_a_chosen_filter_has_no_value_once_it_is_pruned() -> None:
    found = trajectory_table(pruned_table(), "mine", filters=("a", 0))
    assert found["pruned"].tolist() == [False, True, True]
    assert found["value"].isna().tolist() == [False, True, True]


def test_filters_are_chosen_in_several_ways() -> None:
    table = pruned_table()
    pairs = trajectory_table(table, "mine", filters=[("a", 1), ("b", 2)])
    rows = trajectory_table(
        table, "mine", filters=pd.DataFrame({"layer": ["a", "b"], "filter": [1, 2]})
    )
    assert pairs.equals(rows)
    assert set(trajectory_table(table, "mine", filters="a")["layer"]) == {"a"}
    assert set(trajectory_table(table, "mine", layers="[ab]")["layer"]) == {"a", "b"}
    weights = table.assign(weight=table["filter"] % 2)
    assert trajectory_table(weights, "mine", filters=[("a", 1, 1)])["weight"].tolist() == [1] * 3


def test_layers_are_named_or_matched_in_the_order_asked_for() -> None:
    rows = pd.DataFrame({"layer": ["a.1", "a.2", "b"]})
    assert chosen_layers(rows, None) == ["a.1", "a.2", "b"]
    assert chosen_layers(rows, ["b", "a.*", "a.1"]) == ["b", "a.1", "a.2"]
    with pytest.raises(FigureError, match=r"no layer 'c'.* a\.1, a\.2, b"):
        chosen_layers(rows, "c")


def test_groups_without_a_layer_or_an_epoch_are_left_out(runs: Runs) -> None:
    one = pruned_table().assign(run="one", network="one")
    two = pruned_table().assign(run="two", network="two", layer="c", epoch=9, filter=range(24))
    both = pd.concat([one, two])
    assert set(trajectory_table(both, "mine", layers="c")["group"]) == {"two"}
    assert set(trajectory_table(both, "mine", epochs=5)["group"]) == {"one"}
    assert set(trajectory_table(both, "mine", filters=("c", 3))["group"]) == {"two"}


def test_what_is_not_there_is_told() -> None:
    table = pruned_table()
    with pytest.raises(FigureError, match="layer a has no filter 9; it has 4 from 0 to 3"):
        trajectory_table(table, "mine", filters=[("a", 9)])
    with pytest.raises(FigureError, match="no layer 'c'"):
        trajectory_table(table, "mine", filters=[("c", 0)])
    with pytest.raises(FigureError, match="names no filter"):
        trajectory_table(table, "mine", filters=[])
    with pytest.raises(
        FigureError, match="expected the name of a layer, or tuples of layer, filter"
    ):
        trajectory_table(table, "mine", filters=[("a", 0, 1)])
    with pytest.raises(FigureError, match="give one"):
        trajectory_table(table, "mine", filters=[("a", 0)], layers="a")
    with pytest.raises(FigureError, match="give one"):
        trajectory_table(table, "mine", filters="a", layers="a")
    with pytest.raises(FigureError, match="every value of mine is null"):
        trajectory_table(table.assign(kept=False), "mine")
    with pytest.raises(FigureError, match=r"epoch 4 holds none .*5, 6 and 7"):
        trajectory_table(table, "mine", epochs=4)
