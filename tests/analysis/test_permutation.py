"""Permutation tests: exact p-values by hand and by plain loops, and their size by simulation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.errors import AnalysisError
from tests.support.plain_statistics import symmetric_log


def clustered(groups: int, layers: int, slope: float, seed: int, own: float) -> pd.DataFrame:
    """Filters of layers with scales and slopes of their own; `own` is the spread of the slopes."""
    rng = np.random.default_rng(seed)
    shape = (groups, layers, 8)
    of_layer = rng.normal(size=(2, groups, layers, 1))
    x = np.exp(of_layer[0]) * rng.standard_t(4, size=shape)
    y = (slope + own * of_layer[1]) * x + np.exp(of_layer[0]) * rng.normal(size=shape)
    names = [range(groups), range(layers), range(8)]
    keys = pd.MultiIndex.from_product(names, names=["run", "layer", "filter"]).to_frame(index=False)
    return keys.assign(epoch=0, x=x.ravel(), y=y.ravel())


@pytest.mark.parametrize("method", ["pearson", "spearman", "symlog"])
def test_flips_of_few_layers_are_all_tried(method: Any) -> None:
    table = clustered(1, 6, 0.3, 0, 0.5)
    found = pv.permutation_test(table, "x", "y", method=method).iloc[0]
    changes = {"pearson": np.asarray, "spearman": stats.rankdata, "symlog": symmetric_log}
    a, b = (np.array(changes[method](table[name])) for name in ("x", "y"))
    sums = ((a - a.mean()) * (b - b.mean())).reshape(6, 8).sum(axis=1).tolist()
    sizes = [
        abs(sum(sign * one for sign, one in zip(signs, sums, strict=True)))
        for signs in itertools.product([-1, 1], repeat=6)
    ]
    expected = np.mean([size >= abs(sum(sums)) - 1e-9 for size in sizes])
    assert found["p"] == pytest.approx(expected)


@pytest.mark.parametrize(("layers", "own"), [(8, 0.0), (20, 0.7)])
def test_the_size_of_the_test_over_layers(layers: int, own: float) -> None:
    p = pv.permutation_test(clustered(400, layers, 0.0, 1, own), "x", "y", resamples=99)["p"]
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.035)  # three standard errors
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_the_size_of_the_test_within_layers() -> None:
    table = clustered(150, 6, 0.0, 2, 0.0)
    # Means of layers that go together are no association within layers.
    table = table.assign(x=table["x"] + 3 * table["layer"], y=table["y"] + 3 * table["layer"])
    options: dict[str, Any] = {"null": "within_layers", "resamples": 99}
    p = pv.permutation_test(table, "x", "y", **options)["p"]
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.055)
    assert (pv.correlate(table, "x", "y", interval=None)["r"] > 0.5).mean() > 0.9


def test_an_association_is_found_and_one_of_both_signs_only_within_layers() -> None:
    clear = pv.permutation_test(clustered(20, 20, 1.0, 3, 0.1), "x", "y")
    assert (clear["p"] == 0.001).mean() > 0.9
    mixed = clustered(40, 10, 0.0, 4, 1.0)
    over = pv.permutation_test(mixed, "x", "y")["p"]
    within = pv.permutation_test(mixed, "x", "y", null="within_layers", resamples=99)["p"]
    assert (within <= 0.05).mean() > 2 * (over <= 0.05).mean()


def test_groups_without_a_correlation_have_no_p_value() -> None:
    table = clustered(2, 5, 0.0, 0, 0.0)
    table["x"] = table["x"].where(table["run"] == 1, 1.0)
    assert pv.permutation_test(table, "x", "y")["p"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "kendall"}, "choose one of pearson, spearman, symlog"),
        ({"null": "filters"}, "choose one of layers, within_layers"),
        ({"resamples": 0}, "resamples=0; give a whole number"),
        ({"seed": -1}, "seed=-1; give a whole number"),
        ({"by": ["run", "layer"]}, "so that a group has several layers"),
    ],
)
def test_bad_choices_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AnalysisError, match=told):
        pv.permutation_test(clustered(1, 5, 0.0, 0, 0.0), "x", "y", **options)


@pytest.mark.parametrize("null", ["layers", "within_layers"])
def test_the_order_of_rows_does_not_matter(null: Any) -> None:
    table = clustered(1, 20, 0.5, 0, 0.1)
    found = [
        pv.permutation_test(rows, "x", "y", null=null)["p"].item()
        for rows in (table, table.iloc[::-1], table.sample(frac=1, random_state=1))
    ]
    assert len(set(found)) == 1
