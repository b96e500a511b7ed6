"""Figures 2, H1b and I1 against plain pandas; the picture by structure; what is said of the claim.

Figures of single weights are tested in tests/figures/test_row_kind.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.kinds import correlation_curve as picture
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs

DEFAULT = DrawOptions()
TITLES = ["(a) VGG-13", "(b) MobileNet-V1", "(c) ResNet-56"]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL)


def table_of(runs: Runs, options: DrawOptions = DEFAULT, figure: str = "2") -> pd.DataFrame:
    return picture.table(runs, FIGURES[figure], options)


# The numbers


@pytest.mark.parametrize("network", SMALL)
def test_numbers_against_plain_pandas(runs: Runs, network: str) -> None:
    mine = table_of(runs).set_index(["network", "epoch"]).loc[network]
    filters = runs.filters[runs.filters["run"].astype(str).str.startswith(network)]
    filters = filters.assign(change=(filters["sigma"] * filters["sigma_delta"]).abs())
    each = filters.groupby(["run", "epoch"], observed=True)
    pairs = each[["change", "abs_theta_g"]].corr().xs("change", level=2)["abs_theta_g"]
    by_run = (
        pairs.dropna()
        .reset_index()
        .pivot_table(index="epoch", columns="run", values="abs_theta_g", observed=True)
    )
    mean, sd = by_run.mean(axis="columns"), by_run.std(axis="columns")
    assert mine["pearson"].dropna().to_dict() == pytest.approx(mean.to_dict())
    assert mine["pearson_sd"].dropna().to_dict() == pytest.approx(sd.to_dict())
    assert mine["band_high"].dropna().to_dict() == pytest.approx((mean + sd).to_dict())
    distances = plain_distances(each["sigma"].apply(np.array))
    assert mine["mask_distance"].dropna().to_dict() == pytest.approx(distances)


def plain_distances(sigma: pd.Series) -> dict[int, float]:
    """Mean distance of each epoch's mask to the one of the epoch before it."""
    found: dict[int, list[float]] = {}
    for run, epoch in sigma.index:
        before, now = sigma.get((run, epoch - 1)), sigma[(run, epoch)]
        if before is None or np.ptp(before) == 0:  # scales that are all equal give no mask
            continue
        old, new = (kept_by_size(scales) for scales in (before, now))
        found.setdefault(epoch, []).append(float(np.mean(old != new)))
    return {epoch: float(np.mean(values)) for epoch, values in found.items()}


def kept_by_size(scales: np.ndarray) -> np.ndarray:
    ranks = np.argsort(np.argsort(abs(scales)))
    return ranks >= round(0.2 * len(scales))


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
    before, after = (table_of(runs, chosen)[column].dropna() for chosen in (DEFAULT, options))
    assert before.tolist() != after.tolist()


@pytest.mark.parametrize(
    ("absent", "options", "message"),
    [
        ("sigma_delta", DEFAULT, "x is sigma_change, which needs .* no values of sigma_delta"),
        (
            "theta_norm2",
            DrawOptions(mask_score="magnitude"),
            r"no two epochs .* have masks by magnitude",
        ),
    ],
)
def test_columns_that_were_never_measured_are_named(
    runs: Runs, absent: str, options: DrawOptions, message: str
) -> None:
    lacking = replace(runs, filters=runs.filters.assign(**{absent: np.nan}))
    with pytest.raises(FigureError, match=message):
        table_of(lacking, options)


# The picture


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({}, DEFAULT),
        ({"seeds": (3,)}, DrawOptions(method="kendall")),
        ({"epochs": 2, "every": 2}, DEFAULT),
        ({"epochs": 160, "every": 20, "seeds": (0, 1)}, DEFAULT),
    ],
    ids=["16 epochs", "one seed, Kendall", "two epochs", "160 epochs"],
)
def test_picture_is_readable_and_shows_the_table(
    facts: dict[str, Any], options: DrawOptions
) -> None:
    table = table_of(make_runs(SMALL, **facts), options)
    figure = picture.draw(table, options)
    above, below = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title("left") for axes in above] == TITLES
    assert "loss preservation" in above[0].get_ylabel()
    assert "share of filters" in below[0].get_ylabel()
    panels = table.groupby("network", sort=False)
    for axes, lower, (_, rows) in zip(above, below, panels, strict=True):
        assert lower.get_xlabel() == "epochs trained"
        assert lower.get_xlim() == axes.get_xlim()
        masks, chance = [line for line in lower.get_lines() if len(line.get_ydata())][-2:]
        (_, curve) = axes.get_lines()
        assert curve.get_ydata().tolist() == rows[options.method].dropna().tolist()
        assert masks.get_ydata().tolist() == rows["mask_distance"].dropna().tolist()
        assert set(chance.get_ydata()) == set(rows["chance"].dropna())
        assert curve.get_color() != masks.get_color()
        assert masks.get_linestyle() != chance.get_linestyle()
    assert_readable(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 4
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_no_mask_distance_is_drawn_below_zero() -> None:
    table = table_of(make_runs(SMALL))
    large = table["mask_distance"].clip(0.05, 0.2)
    small = large.where(table["epoch"] != 16, 0.0).where(table["epoch"] < 8, 1e-3)
    for distance, ticks in ((large, 2), (small, 4)):
        shown = table.assign(mask_distance=distance)
        for axes in picture.draw(shown, DEFAULT).axes[3:]:
            low, high = axes.get_ylim()
            inside = [tick for tick in axes.get_yticks() if low <= tick <= high]
            assert min(inside) == 0 and len(inside) >= ticks
            assert (axes.get_yscale() == "symlog") == (distance is small)
            heights = axes.transData.transform([(0, 0), (0, 1e-3)])[:, 1] - axes.bbox.y0
            assert (heights / axes.bbox.height)[0] < 0.06
            if distance is small:
                assert np.ptp(heights) / axes.bbox.height > 0.15, "a small distance is not zero"


def test_the_caption_states_the_axis_and_the_chance_level_of_the_masks() -> None:
    table = table_of(make_runs(SMALL, seeds=(0,)))
    assert "random masks, 0.32 to 0.33. Its axis is linear from zero to 1e-02" in picture.drawn(
        table, DEFAULT
    )
    few = table.assign(
        chance=table["chance"].where(table["epoch"] < 9, 0.1),
        mask_distance=table["mask_distance"].clip(0.05, 0.2),
    )
    said = picture.drawn(few, DEFAULT)
    assert "random masks, 0.10 to 0.33. Its axis begins at zero." in said


def test_picture_of_one_network_is_readable() -> None:
    table = table_of(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)))
    figure = picture.draw(table, DEFAULT)
    assert [axes.get_title("left") for axes in figure.axes] == ["VGG-13", ""]
    assert_readable(figure)


def test_figure_i1_is_of_tiny_imagenet() -> None:
    table = table_of(make_runs(SMALL, seeds=(0,), dataset="tiny-imagenet"), figure="I1")
    assert set(table["dataset"]) == {"tiny-imagenet"}
    assert "filters" in table
    figure = picture.draw(table, DEFAULT)
    assert [axes.get_title("left") for axes in figure.axes[:3]] == TITLES
    assert_readable(figure)


def test_picture_is_as_its_baseline(tmp_path: Path) -> None:
    table = table_of(make_runs(SMALL, seeds=(0, 1)))
    assert_as_before(picture.draw(table, DEFAULT), "correlation_curve", tmp_path)
