"""The matrix of correlations between pruning measures, against plain pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.matrix import correlation_matrix, recorded_measures
from pruneviz.analysis.scores import score
from pruneviz.errors import AnalysisError
from tests.support.synthetic_runs import SMALL, make_runs

RUNS = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1))


def test_every_pair_of_every_group_is_what_pandas_says() -> None:
    names = ["magnitude", "loss_preservation", "grasp", "bn_scale"]
    found = correlation_matrix(RUNS.filters, names)
    assert set(zip(found["x"], found["y"], strict=True)) == {(x, y) for x in names for y in names}
    for (run, epoch), rows in found.groupby(["run", "epoch"], observed=True):
        own = RUNS.filters[(RUNS.filters["run"] == run) & (RUNS.filters["epoch"] == epoch)]
        values = pd.DataFrame({name: score(own, name) for name in names})
        for row in rows.itertuples():
            both = values[[row.x]].assign(other=values[row.y]).dropna()
            assert row.n == len(both)
            assert row.r == pytest.approx(
                both[row.x].rank().corr(both["other"].rank()), abs=1e-12, nan_ok=True
            )


def test_the_matrix_is_symmetric_with_ones_and_pearson_is_taken_when_asked_for() -> None:
    found = correlation_matrix(
        RUNS.filters, ["theta_g", "theta_hg", "magnitude"], by=["epoch"], method="pearson"
    )
    for _, rows in found.groupby("epoch"):
        square = rows.pivot_table(index="x", columns="y", values="r", dropna=False)
        assert np.allclose(square, square.T, equal_nan=True)
    last = found[found["epoch"] == 16].pivot_table(index="x", columns="y", values="r")
    assert np.allclose(np.diag(last.loc[last.columns]), 1)
    own = RUNS.filters[RUNS.filters["epoch"] == 16]
    assert last.loc["theta_g", "theta_hg"] == pytest.approx(
        np.corrcoef(own["theta_g"], own["theta_hg"])[0, 1]
    )


def test_all_recorded_measures_are_taken_once_and_those_that_are_not_recorded_left_out() -> None:
    names = recorded_measures(RUNS.filters)
    assert {
        "magnitude",
        "loss_preservation",
        "proposed",
        "grasp",
        "bn_scale",
        "sigma_change",
    } <= set(names)
    assert not {"snip", "random", "fisher", "synflow"} & set(names)
    assert set(correlation_matrix(RUNS.filters)["x"]) == set(names)
    with pytest.raises(AnalysisError, match=r"needs two measures, this has \[magnitude\]"):
        correlation_matrix(RUNS.filters, ["magnitude"])
