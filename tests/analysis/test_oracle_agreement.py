"""Agreement of measures with the oracle: scipy's rank correlation, group by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.oracle_agreement import oracle_agreement, thirds
from pruneviz.errors import AnalysisError

ROOT = Path(pv.__file__).parent.parent


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    return pv.load(ROOT / "data" / "cifar-mini-oracle").select(network="vgg13")


@pytest.mark.parametrize("signed", [False, True])
def test_it_is_spearmans_coefficient_over_the_removed_filters(runs: pv.Runs, signed: bool) -> None:
    found = oracle_agreement(runs, ["magnitude", "bn_taylor"], signed=signed)
    found = found.set_index(["epoch", "measure"])
    filters = runs.filters.dropna(subset=["delta_loss"])
    for epoch in (0, 8, 16):
        rows = filters[filters["epoch"] == epoch]
        truth = rows["delta_loss"] if signed else np.abs(rows["delta_loss"])
        r = stats.spearmanr(np.sqrt(rows["theta_norm2"]), truth).statistic
        assert found.loc[(epoch, "magnitude"), "r"] == pytest.approx(r)
        assert found.loc[(epoch, "magnitude"), "n"] == len(rows) == 200


def test_thirds_are_of_the_layers_in_depth_order(runs: pv.Runs) -> None:
    layers = list(dict.fromkeys(runs.filters["layer"].astype(str)))
    places = dict(zip(runs.filters["layer"].astype(str), thirds(runs.filters), strict=True))
    assert layers == [f"features.conv{number}" for number in range(1, 11)]
    expected = ["first"] * 3 + ["middle"] * 4 + ["last"] * 3
    assert [places[layer] for layer in layers] == expected
    found = oracle_agreement(runs, "magnitude", by=["epoch", "third"]).set_index(["epoch", "third"])
    rows = runs.filters[runs.filters["layer"].isin(layers[-3:]) & (runs.filters["epoch"] == 4)]
    rows = rows.dropna(subset=["delta_loss"])
    r = stats.spearmanr(rows["theta_norm2"], rows["delta_loss"].abs()).statistic
    assert found.loc[(4, "last"), "r"] == pytest.approx(r)
    assert set(found.index.get_level_values("third")) == {"first", "middle", "last"}


def test_all_recorded_measures_and_chance_stand_beside_each_other(runs: pv.Runs) -> None:
    found = oracle_agreement(runs)
    assert {"random", "bn_taylor", "grasp"} <= set(found["measure"])
    assert "delta_loss" not in set(found["measure"])
    assert found.loc[found["measure"] == "random", "r"].abs().max() < 0.3
    within = oracle_agreement(runs, "magnitude", by=["run", "epoch", "layer"])
    assert within["n"].min() >= 5


def test_a_table_gives_the_same_as_runs(runs: pv.Runs) -> None:
    found = oracle_agreement(runs.filters, "proposed")
    assert found["r"].tolist() == oracle_agreement(runs, "proposed")["r"].tolist()


def test_runs_without_an_oracle_are_told_how_to_get_one(runs: pv.Runs) -> None:
    with pytest.raises(AnalysisError, match="no run has the column delta_loss; record it with"):
        oracle_agreement(runs.filters.drop(columns="delta_loss"), "magnitude")
    with pytest.raises(AnalysisError, match="no filter has a delta_loss; pass epochs"):
        oracle_agreement(runs.filters.assign(delta_loss=np.nan), "magnitude")
