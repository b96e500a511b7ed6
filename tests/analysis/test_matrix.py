"""The matrix of correlations between pruning measures against plain pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.matrix import correlation_matrix, recorded_measures
from pruneviz.analysis.scores import score
from pruneviz.errors import AnalysisError
from tests.support.synthetic_runs import SMALL, make_runs

RUNS = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1))


def test_every_pair_of_every_group_equals_plain_pandas() -> None:
    names = ["magnitude", "loss_preservation", "grasp", "bn_scale"]
    found = correlation_matrix(RUNS.filters, names)
    assert set(zip(found["x"], found["y"], strict=True)) == {(x, y) for x in names for y in names}
    for (run, epoch), rows in found.groupby(["run", "epoch"], observed=True):
        own = RUNS.filters[(RUNS.filters["run"] == run) & (RUNS.filters["epoch"] == epoch)]
        values = pd.DataFrame({name: score(own, name) for name in names})
        for row in rows.itertuples():
            both = values[[row.x]].assign(other=values[row.y]).dropna()
            assert row.n == len(both)
            expected = both[row.x].rank().corr(both["other"].rank())
            assert row.r == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_matrix_is_symmetric_with_ones_and_takes_other_methods() -> None:
    names = ["theta_g", "theta_hg", "magnitude"]
    found = correlation_matrix(RUNS.filters, names, by=["epoch"], method="pearson")
    for _, rows in found.groupby("epoch"):
        square = rows.pivot_table(index="x", columns="y", values="r", dropna=False)
        assert np.allclose(square, square.T, equal_nan=True)
    last = found[found["epoch"] == 16].pivot_table(index="x", columns="y", values="r")
    assert np.allclose(np.diag(last.loc[last.columns]), 1)
    own = RUNS.filters[RUNS.filters["epoch"] == 16]
    expected = np.corrcoef(own["theta_g"], own["theta_hg"])[0, 1]
    assert last.loc["theta_g", "theta_hg"] == pytest.approx(expected)


def test_by_takes_a_single_name() -> None:
    found = correlation_matrix(RUNS.filters, ["theta_g", "theta_hg"], by="epoch")
    expected = correlation_matrix(RUNS.filters, ["theta_g", "theta_hg"], by=["epoch"])
    pd.testing.assert_frame_equal(found, expected)


def test_recorded_measures_are_those_whose_columns_have_values() -> None:
    names = recorded_measures(RUNS.filters)
    recorded = ["magnitude", "loss_preservation", "proposed", "grasp", "bn_scale", "sigma_change"]
    assert set(recorded) <= set(names)
    assert not {"snip", "random", "fisher", "synflow"} & set(names)
    without = recorded_measures(RUNS.filters.assign(sigma=np.nan))
    assert set(names) - set(without) == {"bn_scale", "sigma_change"}
    assert set(correlation_matrix(RUNS.filters)["x"]) == set(names)


def test_a_matrix_needs_two_measures() -> None:
    with pytest.raises(AnalysisError, match=r"needs two measures, this has \[magnitude\]"):
        correlation_matrix(RUNS.filters, ["magnitude"])
