"""Figures 2, H1b and I1: numbers, structure and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError, LogError
from pruneviz.figures.catalogue import FIGURES, find
from pruneviz.figures.kinds import (
    correlation_curve,
    layer_ratios,
    scatter,
)
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import RATIO_MEASURES
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import (
    SMALL,
    make_pruned_runs,
    make_runs,
)

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL)


CASES: Mapping[str, tuple[dict[str, object], DrawOptions]] = {
    "16 epochs": ({}, DEFAULT),
    "one seed": ({"seeds": (3,)}, DEFAULT),
    "linear, Kendall": ({}, DrawOptions(scale="linear", method="kendall")),
    "two epochs": ({"epochs": 2, "every": 2}, DEFAULT),
    "160 epochs": ({"epochs": 160, "every": 20, "seeds": (0, 1)}, DEFAULT),
}


def test_correlation_curve_numbers(runs: Runs) -> None:
    table = correlation_curve.table(runs, FIGURES["2"], DEFAULT).set_index(["network", "epoch"])
    filters = runs.filters.assign(
        change=(runs.filters["sigma"] * runs.filters["sigma_delta"]).abs()
    )
    for network in FIGURES["2"].networks:
        each = filters[filters["run"].astype(str).str.startswith(network)].groupby(
            ["run", "epoch"], observed=True
        )
        pairs = (
            each[["change", "abs_theta_g"]]
            .corr()
            .xs("change", level=2)["abs_theta_g"]
            .dropna()
            .reset_index()
        )
        correlations = pairs.pivot_table(
            index="epoch", columns="run", values="abs_theta_g", observed=True
        )
        mine = table.loc[network]
        assert mine["pearson"].dropna().to_dict() == pytest.approx(
            correlations.mean(axis="columns").to_dict()
        )
        assert mine["pearson_sd"].dropna().to_dict() == pytest.approx(
            correlations.std(axis="columns").to_dict()
        )
        assert mine["band_high"].dropna().to_dict() == pytest.approx(
            (correlations.mean(axis=1) + correlations.std(axis=1)).to_dict()
        )
        assert mine["mask_distance"].dropna().to_dict() == pytest.approx(
            _plain_distances(each["sigma"].apply(np.array))
        )


def _plain_distances(sigma: pd.Series) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run, epoch in sigma.index:
        before, now = sigma.get((run, epoch - 1)), sigma[(run, epoch)]
        if (
            before is not None and np.ptp(before) > 0
        ):  # scales that are all equal, as at initialisation, give no mask
            masks = [
                np.argsort(np.argsort(abs(values))) >= round(0.2 * len(values))
                for values in (before, now)
            ]
            found.setdefault(epoch, []).append(float(np.mean(masks[0] != masks[1])))
    return {epoch: float(np.mean(values)) for epoch, values in found.items()}


@pytest.mark.parametrize(
    ("options", "column"),
    [
        (DrawOptions(loss_preservation="abs_of_sum"), "pearson"),
        (DrawOptions(mask_ratio=0.5), "mask_distance"),
        (DrawOptions(mask_score="loss_preservation"), "mask_distance"),
        (DrawOptions(method="kendall"), "band_high"),
    ],
)
def test_options_change_the_numbers(runs: Runs, options: DrawOptions, column: str) -> None:
    before, after = (
        correlation_curve.table(runs, FIGURES["2"], chosen).dropna(subset=[column])[column]
        for chosen in (DEFAULT, options)
    )
    assert before.tolist() != after.tolist()


def test_absent_columns_seeds_and_epochs_are_named(runs: Runs) -> None:
    with pytest.raises(LogError, match="no column theta_hg"):
        scatter.table(
            replace(runs, filters=runs.filters.drop(columns="theta_hg")), FIGURES["3"], DEFAULT
        )
    with pytest.raises(FigureError, match="seed 9 is not recorded; recorded are seeds 0, 1 and 2"):
        scatter.table(runs, FIGURES["3"], DrawOptions(seed=9))
    with pytest.raises(FigureError, match="no epoch at which all of"):
        scatter.table(
            replace(runs, filters=runs.filters.assign(theta_hg=np.nan)), FIGURES["3"], DEFAULT
        )
    with pytest.raises(FigureError, match="holds both sigma_change and loss_preservation"):
        correlation_curve.table(
            replace(runs, filters=runs.filters.assign(sigma_delta=np.nan)), FIGURES["2"], DEFAULT
        )
    with pytest.raises(FigureError, match=r"no two epochs .* have masks by magnitude"):
        correlation_curve.table(
            replace(runs, filters=runs.filters.assign(theta_norm2=np.nan)),
            FIGURES["2"],
            DrawOptions(mask_score="magnitude"),
        )


@pytest.mark.parametrize(("facts", "options"), CASES.values(), ids=CASES)
def test_correlation_curve_is_readable(facts: dict[str, object], options: DrawOptions) -> None:
    table = correlation_curve.table(make_runs(SMALL, **facts), FIGURES["2"], options)  # type: ignore[arg-type]
    figure = correlation_curve.draw(table, options)
    left, right = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title("left") for axes in left] == [
        "(a) VGG-13",
        "(b) MobileNet-V1",
        "(c) ResNet-56",
    ]
    assert (
        "loss preservation" in left[0].get_ylabel()
        and "fraction of filters" in right[-1].get_ylabel()
    )
    for axes, twin, (_, rows) in zip(
        left, right, table.groupby("network", sort=False), strict=True
    ):
        assert axes.get_xlabel() == "epochs trained"
        (_, curve), (masks, chance) = axes.get_lines(), twin.get_lines()
        assert curve.get_ydata().tolist() == rows[options.method].dropna().tolist()
        assert masks.get_ydata().tolist() == rows["mask_distance"].dropna().tolist()
        assert set(chance.get_ydata()) == set(rows["chance"].dropna())
        assert (
            len({curve.get_color(), masks.get_color()})
            == len({curve.get_linestyle(), masks.get_linestyle()})
            == 2
        )
    assert_readable(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in left)


def test_correlation_curve_of_one_network_is_readable() -> None:
    table = correlation_curve.table(
        make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)), FIGURES["2"], DEFAULT
    )
    figure = correlation_curve.draw(table, DEFAULT)
    assert [axes.get_title("left") for axes in figure.axes] == ["VGG-13", ""]
    assert_readable(figure)


def test_figure_2_on_tiny_imagenet_has_a_panel_a_network() -> None:
    table = correlation_curve.table(
        make_runs(SMALL, seeds=(0,), dataset="tiny-imagenet"), find("I1"), DEFAULT
    )
    figure = correlation_curve.draw(table, DEFAULT)
    assert [axes.get_title("left") for axes in figure.axes[:3]] == [
        "(a) VGG-13",
        "(b) MobileNet-V1",
        "(c) ResNet-56",
    ]
    assert set(table["dataset"]) == {"tiny-imagenet"} and "filters" in table
    assert_readable(figure)


def test_correlation_curve_is_as_its_baseline(tmp_path: Path) -> None:
    runs = make_runs(SMALL, seeds=(0, 1))
    assert_as_before(
        correlation_curve.draw(correlation_curve.table(runs, find("2"), DEFAULT), DEFAULT),
        "correlation_curve",
        tmp_path,
    )


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_one_seed_is_a_hint_at_most(seeds: tuple[int, ...]) -> None:
    ratios = make_pruned_runs(
        {"vgg13": SMALL["vgg13"]},
        RATIO_MEASURES,
        (1, 5, 25),
        seeds=seeds,
        target=0.65,
        prune_phase_only=True,
    )
    layers = layer_ratios.finding(layer_ratios.table(ratios, find("16"), DEFAULT), DEFAULT)
    assert layers.count("(one seed, so a hint at most)") == (2 if len(seeds) == 1 else 0)
    curves = correlation_curve.table(
        make_runs(SMALL, seeds=seeds, epochs=8, every=1), find("2"), DEFAULT
    )
    said = correlation_curve.finding(curves, DEFAULT)
    assert ("one seed gives a hint at most" in said) == (len(seeds) == 1)
    assert "describes the two curves and tests nothing" in said
