"""Measures that compare filters do so over all of a run and epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz import plot
from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs

VGG = {"vgg13": SMALL["vgg13"]}


def within_layer(filters: pd.DataFrame) -> pd.Series:
    return filters["theta_norm2"] / filters.groupby("layer")["theta_norm2"].transform("mean")


within_layer.needs = ["theta_norm2", "layer"]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Runs of which every third filter has the oracle's column."""
    found = make_runs(VGG, seeds=(0, 1), epochs=4, every=2)
    drawn = np.arange(len(found.filters)) % 3 == 0
    measured = found.filters["theta_g"].notna() & drawn
    oracle = found.filters["theta_g"].where(measured)
    return replace(found, filters=found.filters.assign(delta_loss=oracle))


def expected(runs: Runs) -> pd.Series:
    each = pv.correlate(runs, within_layer, "delta_loss", method="spearman")
    return each.groupby("epoch")["r"].mean()


def test_a_curve_is_that_of_the_analysis(runs: Runs) -> None:
    table = plot.correlation.table(
        runs, within_layer, "delta_loss", method="spearman", mask_score=None
    )
    found = table.dropna(subset="spearman").set_index("epoch")["spearman"]
    np.testing.assert_allclose(found, expected(runs)[found.index], rtol=1e-9, atol=1e-9)


def test_points_and_their_colours_are_those_of_all_filters(runs: Runs) -> None:
    table = plot.scatter.table(
        runs, within_layer, "delta_loss", hue=within_layer, method="spearman"
    )
    every = runs.filters.assign(expected=pv.score(runs, within_layer))
    every = every[every["run"] == table["run"].iloc[0]]
    keys = ["epoch", "layer", "filter"]
    every = every.astype({"layer": "str"}).set_index(keys)["expected"]
    at = pd.MultiIndex.from_frame(table.astype({"layer": "str"})[keys])
    np.testing.assert_allclose(table["within_layer"], every[at], rtol=1e-9)


def test_masks_of_a_measure_that_needs_a_fact_of_the_runs_have_distances() -> None:
    made = make_runs(VGG, seeds=(0,), epochs=4, every=2)
    filters = made.filters.assign(theta_g_se_iid=made.filters["theta_g"].abs() / 3)
    found = replace(made, filters=filters)
    table = plot.correlation.table(found, "theta_g", "theta_hg", mask_score="gate_fisher")
    plain = pv.mask_distance(filters.assign(sample_size=500), score="gate_fisher", ratio=0.2)
    want = plain.dropna(subset="distance").set_index("epoch")["distance"]
    drawn = table.dropna(subset="mask_distance").set_index("epoch")["mask_distance"]
    np.testing.assert_allclose(drawn, want[drawn.index], rtol=1e-9)


def test_a_heatmap_of_pruned_filters_alone_says_so() -> None:
    made = make_runs(VGG, seeds=(0,), epochs=2, every=1)
    gone = replace(made, filters=made.filters.assign(kept=False))
    with pytest.raises(FigureError):
        plot.heatmap(gone, ["magnitude", "theta_g"], epochs=1)
