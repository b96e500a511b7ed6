"""Figures of single weights: their numbers come from the log, and their words say weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import find
from pruneviz.figures.draw import compose
from pruneviz.figures.kinds import correlation_curve, scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.log.schema import CORRELATIONS
from pruneviz.log.vocabulary import ROW_KINDS
from pruneviz.plot.row_kind import (
    FILTER,
    ROW_KINDS_BY_UNIT,
    WEIGHT,
    row_kind_in,
    row_kind_of,
)
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs

DEFAULT = DrawOptions()
WEIGHTS = 861_620  # in ResNet-56: the longest number that a heading holds
PER_FILTER = 9  # rows stored for each filter
PAIRS = (("theta_g", "theta_hg"), ("theta_change", "loss_preservation"))
METHODS = ("pearson", "spearman")
SHOWN = PER_FILTER * sum(SMALL["resnet56"])


def weight_runs(seeds: Sequence[int] = (0, 1, 2), epochs: int = 16, every: int = 4) -> Runs:
    """Runs measured by single weights, with made-up correlations and distances over all weights."""
    runs = make_runs(SMALL, seeds, epochs, every, unit="weight", mask_score="magnitude")
    copies = [runs.filters.assign(weight=place) for place in range(PER_FILTER)]
    filters = pd.concat(copies, ignore_index=True)
    signs = np.random.default_rng(5).choice([-1.0, 1.0], len(filters))
    filters = filters.assign(
        theta_g=signs * filters["theta_g"],
        theta_hg=signs * filters["theta_hg"],
        sigma=np.nan,
        sigma_delta=np.nan,
    )
    parts = [logged(run, seed, epochs, every) for seed, run in enumerate(runs.spec["run"])]
    correlations = pd.concat([table for table, _ in parts], ignore_index=True)
    distances = np.concatenate([found for _, found in parts])
    return replace(
        runs,
        filters=filters,
        correlations=correlations.reindex(columns=list(CORRELATIONS)),
        epochs=runs.epochs.assign(mask_distance=distances),
    )


def logged(run: str, seed: int, epochs: int, every: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Correlations of a run, and its mask distance at every epoch."""
    random = np.random.default_rng(seed)
    keys = [
        (epoch, *pair, method)
        for epoch in range(0, epochs + 1, every)
        for pair in PAIRS
        for method in METHODS
    ]
    table = pd.DataFrame(keys, columns=["epoch", "x", "y", "method"])
    r = 0.3 + 0.6 * table["epoch"] / epochs + random.uniform(-0.05, 0.05, len(table))
    # No weight has changed before the first epoch.
    changed = (table["x"] != "theta_change") | (table["epoch"] > 0)
    table = table.assign(run=run, n=WEIGHTS, n_eff=40.0, r=r.where(changed))
    falling = 0.3 * np.exp(-4 * np.arange(epochs + 1) / epochs)
    distances = falling + random.uniform(0, 0.01, epochs + 1)
    return table, np.append(np.nan, distances[1:])


@pytest.fixture(scope="module")
def runs() -> Runs:
    return weight_runs()


def scatter_of(runs: Runs, options: DrawOptions = DEFAULT) -> pd.DataFrame:
    return scatter.table(runs, find("H1a"), options)


def curve_of(runs: Runs, options: DrawOptions = DEFAULT) -> pd.DataFrame:
    return correlation_curve.table(runs, find("H1b"), options)


def words_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


# The numbers


def test_row_kinds_are_told_by_the_kind_of_runs_and_by_the_table(runs: Runs) -> None:
    for unit, row_kind in {"filter": FILTER, "weight": WEIGHT}.items():
        assert row_kind_of(pd.DataFrame({"unit": [unit]})) is row_kind
    assert set(ROW_KINDS_BY_UNIT) == set(ROW_KINDS)
    assert row_kind_in(scatter_of(runs)) is WEIGHT
    assert WEIGHT.column("theta_g").meaning != FILTER.column("theta_g").meaning
    assert WEIGHT.column("sigma") == FILTER.column("sigma")


@pytest.mark.parametrize("method", METHODS)
def test_scatter_stands_under_correlations_over_all_weights(runs: Runs, method: Any) -> None:
    table = scatter_of(runs, DrawOptions(method=method))
    held = runs.correlations
    held = held[held["run"].str.startswith("resnet56") & (held["x"] == "theta_g")]
    assert list(dict.fromkeys(table["epoch"])) == [0, 4, 16]
    for epoch, panel in table.groupby("epoch"):
        for name in METHODS:
            each = held.loc[(held["epoch"] == epoch) & (held["method"] == name), "r"]
            assert panel[name].unique() == pytest.approx([each.mean()])
            assert panel[f"{name}_sd"].unique() == pytest.approx([each.std()])
    assert set(table["weights"]) == {WEIGHTS}
    assert set(table["seeds"]) == {3}


def test_scatter_shows_the_stored_sample_of_one_seed(runs: Runs) -> None:
    table = scatter_of(runs, DrawOptions(seed=1))
    assert set(table["seed"]) == {1}
    run = runs.filters[runs.filters["run"] == "resnet56-digits-weights-s1"]
    keys = ["epoch", "layer", "filter", "weight"]
    stored = run[run["epoch"].isin([0, 4, 16])].astype({"layer": "str"})
    both = table.merge(stored, on=keys, suffixes=("", "_stored"), validate="one_to_one")
    assert len(both) == len(table) == len(stored) == 3 * SHOWN
    for name in ("theta_g", "theta_hg"):
        assert both[name].tolist() == both[f"{name}_stored"].tolist()


@pytest.mark.parametrize("network", SMALL)
def test_curve_takes_correlations_from_the_log(runs: Runs, network: str) -> None:
    mine = curve_of(runs).set_index(["network", "epoch"]).loc[network]
    held = runs.correlations[runs.correlations["x"] == "theta_change"].dropna(subset=["r"])
    held = held[held["run"].str.startswith(network)]
    for method in METHODS:
        each = held[held["method"] == method].groupby("epoch")["r"]
        assert mine[method].dropna().to_dict() == pytest.approx(each.mean().to_dict())
        assert mine[f"{method}_sd"].dropna().to_dict() == pytest.approx(each.std().to_dict())
    low = (mine["pearson"] - mine["pearson_sd"]).dropna()
    assert mine["band_low"].dropna().to_dict() == pytest.approx(low.to_dict())
    assert set(mine["weights"].dropna()) == {WEIGHTS}


@pytest.mark.parametrize("network", SMALL)
def test_curve_takes_mask_distances_from_the_log(runs: Runs, network: str) -> None:
    mine = curve_of(runs).set_index(["network", "epoch"]).loc[network]
    rows = runs.epochs[runs.epochs["run"].astype(str).str.startswith(network)]
    held = rows.dropna(subset=["mask_distance"]).groupby("epoch")["mask_distance"]
    assert mine["mask_distance"].dropna().to_dict() == pytest.approx(held.mean().to_dict())
    assert mine["mask_distance_sd"].dropna().to_dict() == pytest.approx(held.std().to_dict())
    assert list(mine.index) == list(range(1, 17))
    assert (mine["mask_ref_epoch"] == mine.index - 1).all()
    assert mine["chance"].dropna().unique() == pytest.approx([0.32])


def test_one_seed_has_the_interval_in_its_log() -> None:
    runs = weight_runs(seeds=(0,))
    assert scatter_of(runs)[["pearson_low", "pearson_high"]].isna().all(axis=None)  # schema 2
    ends = {"low": runs.correlations["r"] - 0.2, "high": runs.correlations["r"] + 0.1}
    table = scatter_of(replace(runs, correlations=runs.correlations.assign(**ends)))
    np.testing.assert_allclose(table["pearson_low"], table["pearson"] - 0.2)
    np.testing.assert_allclose(table["pearson_high"], table["pearson"] + 0.1)
    assert table["pearson_sd"].isna().all()


def test_a_coefficient_that_older_logs_lack_is_null(runs: Runs) -> None:
    # METHODS are those of schema 2.
    table = scatter_of(runs)
    assert table["symlog"].isna().all() and table["pearson"].notna().all()
    assert (table["pearson_n_eff"] == 40).all()


def test_both_forms_of_loss_preservation_are_one_measure_of_a_weight(runs: Runs) -> None:
    terms = curve_of(runs, DrawOptions(loss_preservation="abs_of_sum"))
    pd.testing.assert_frame_equal(curve_of(runs), terms)


def test_masks_of_weights_are_by_magnitude_unless_named(runs: Runs) -> None:
    named = curve_of(runs, DrawOptions(mask_score="magnitude"))
    pd.testing.assert_frame_equal(named, curve_of(runs))


def test_filters_and_weights_of_one_folder_do_not_mix(runs: Runs) -> None:
    filters = make_runs(SMALL)
    both = Runs(
        spec=pd.concat([runs.spec, filters.spec], ignore_index=True),
        epochs=joined(runs.epochs, filters.epochs, "run"),
        filters=joined(runs.filters, filters.filters, "run", "layer"),
        rounds=runs.rounds,
        correlations=runs.correlations,
    )
    for figure, alone in (("H1a", runs), ("3", filters), ("H1b", runs), ("2", filters)):
        picture = scatter if figure in ("H1a", "3") else correlation_curve
        mixed, single = (picture.table(each, find(figure), DEFAULT) for each in (both, alone))
        pd.testing.assert_frame_equal(mixed, single, check_dtype=False, check_categorical=False)
        assert row_kind_in(mixed) is (WEIGHT if figure.startswith("H") else FILTER)


def joined(one: pd.DataFrame, other: pd.DataFrame, *text: str) -> pd.DataFrame:
    """Two tables as one, with category columns as text."""
    parts = [table.astype(dict.fromkeys(text, "str")) for table in (one, other)]
    return pd.concat(parts, ignore_index=True)


# What the log does not hold


@pytest.mark.parametrize(("figure", "picture"), [("H1a", scatter), ("H1b", correlation_curve)])
def test_a_coefficient_that_was_not_recorded_is_refused(
    runs: Runs, figure: str, picture: ModuleType
) -> None:
    asked = r"the kendall correlation of theta_\w+ and \w+ over all weights"
    with pytest.raises(FigureError, match=rf"{asked} .*only pearson and spearman.*--method"):
        picture.table(runs, find(figure), DrawOptions(method="kendall"))
    without = replace(runs, correlations=runs.correlations[:0])
    with pytest.raises(FigureError, match=r"the pearson correlation .* holds only no correlation"):
        picture.table(without, find(figure), DEFAULT)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (DrawOptions(mask_ratio=0.5), "by magnitude at a ratio of 0.5"),
        (DrawOptions(mask_score="bn_scale"), "by bn_scale at a ratio of 0.2"),
        (DrawOptions(mask_score="l1_norm", mask_ratio=0.1), "by l1_norm at a ratio of 0.1"),
    ],
)
def test_masks_that_were_not_recorded_are_refused(
    runs: Runs, options: DrawOptions, asked: str
) -> None:
    held = r"by magnitude at a ratio of 0\.2.*--mask-score and --mask-ratio"
    with pytest.raises(FigureError, match=rf"masks {asked} were asked for.*{held}"):
        curve_of(runs, options)


def test_epochs_without_a_change_are_told(runs: Runs) -> None:
    unmoved = replace(runs, correlations=runs.correlations.assign(r=np.nan))
    with pytest.raises(FigureError, match="x is theta_change, which needs theta, theta_delta"):
        curve_of(unmoved)
    maskless = replace(runs, epochs=runs.epochs.assign(mask_distance=np.nan))
    with pytest.raises(FigureError, match=r"no two epochs .* have masks by magnitude"):
        curve_of(maskless)


# The pictures and the words


@pytest.mark.parametrize(("figure", "picture"), [("H1a", scatter), ("H1b", correlation_curve)])
def test_words_say_weights(runs: Runs, figure: str, picture: ModuleType) -> None:
    table = picture.table(runs, find(figure), DEFAULT)
    drawn = picture.drawn(table, DEFAULT)
    values = " ".join(picture.values(table, DEFAULT))
    shown = words_of(picture.draw(table, DEFAULT))
    assert not any("filter" in part for part in (drawn, values, shown))
    assert "weight" in drawn
    assert f"{WEIGHTS:,} weights" in values


def test_the_curve_names_the_change_of_a_weight(runs: Runs) -> None:
    table = curve_of(runs)
    assert "|θ Δθ|" in words_of(correlation_curve.draw(table, DEFAULT))
    assert "theta_change" in correlation_curve.drawn(table, DEFAULT)


def test_the_caption_says_how_many_weights_are_shown_and_which_masks(runs: Runs) -> None:
    points, curve = (" ".join(compose(name, runs).long_caption.split()) for name in ("H1a", "H1b"))
    assert f"Shown are {SHOWN:,} of its {WEIGHTS:,} weights" in points
    assert "measure of the masks: magnitude" in curve
    assert "random masks, 0.32." in curve


def test_a_log_of_all_weights_says_nothing_about_a_sample(runs: Runs) -> None:
    every = replace(runs, correlations=runs.correlations.assign(n=SHOWN))
    assert "Shown are" not in scatter.drawn(scatter_of(every), DEFAULT)


@pytest.mark.parametrize(("seeds", "epochs"), [((0,), 4), ((0, 1, 2), 16), ((0, 1), 160)])
def test_pictures_of_weights_are_readable(seeds: Sequence[int], epochs: int) -> None:
    runs = weight_runs(seeds, epochs, max(1, epochs // 8))
    assert_readable(scatter.draw(scatter_of(runs), DEFAULT))
    assert_readable(correlation_curve.draw(curve_of(runs), DEFAULT))


def test_scatter_of_weights_is_as_its_baseline(runs: Runs, tmp_path: Path) -> None:
    assert_as_before(scatter.draw(scatter_of(runs), DEFAULT), "scatter_of_weights", tmp_path)
