"""Figures 3, 13-15 and H1a: numbers, structure and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pruneviz.errors import FigureError, LogError
from pruneviz.figures import style
from pruneviz.figures.catalogue import FIGURES, find
from pruneviz.figures.kinds import correlation_curve, scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import mean_and_sd
from pruneviz.log.runs import Runs
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import (
    MOBILENET_FILTERS,
    SMALL,
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


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_scatter_numbers(runs: Runs, method: str) -> None:
    table = scatter.table(runs, FIGURES["13"], DrawOptions(method=method))  # type: ignore[arg-type]
    mine = runs.filters[runs.filters["run"].astype(str).str.startswith("vgg13")]
    assert list(dict.fromkeys(table["epoch"])) == [0, 4, 16]
    for epoch, panel in table.groupby("epoch"):
        each = [
            rows["theta_g"].corr(rows["theta_hg"], method=method)
            for _, rows in mine[mine["epoch"] == epoch].groupby("run", observed=True)
        ]
        assert panel[method].unique() == pytest.approx([np.mean(each)])
        assert panel[f"{method}_sd"].unique() == pytest.approx([np.std(each, ddof=1)])
        assert set(panel["seeds"]) == {3} and set(panel["filters"]) == {len(panel)} == {
            sum(SMALL["vgg13"])
        }
        shown = mine[(mine["epoch"] == epoch) & (mine["run"] == "vgg13-digits-s0")]
        assert panel["theta_hg"].tolist() == shown["theta_hg"].tolist()
        assert (
            panel["depth"].tolist()
            == np.repeat(range(1, len(SMALL["vgg13"]) + 1), SMALL["vgg13"]).tolist()
        )


def test_scatter_shows_the_seed_asked_for_and_averages_all(runs: Runs) -> None:
    lowest, other = (
        scatter.table(runs, FIGURES["13"], DrawOptions(seed=seed)) for seed in (None, 2)
    )
    assert set(lowest["seed"]) == {0} and set(other["seed"]) == {2}
    assert lowest["pearson"].unique().tolist() == other["pearson"].unique().tolist()


def test_one_seed_has_an_interval_but_no_spread() -> None:
    table = scatter.table(make_runs({"vgg13": SMALL["vgg13"]}, seeds=(4,)), FIGURES["13"], DEFAULT)
    assert table["pearson_sd"].isna().all() and table[["pearson_low", "pearson_high"]].notna().all(
        axis=None
    )
    assert "± " not in scatter.draw(table, DEFAULT).axes[0].texts[0].get_text()


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
def test_scatter_is_readable(facts: dict[str, object], options: DrawOptions) -> None:
    table = scatter.table(
        make_runs({"resnet56": SMALL["resnet56"]}, **facts), FIGURES["3"], options
    )  # type: ignore[arg-type]
    figure = scatter.draw(table, options)
    *panels, bar = figure.axes
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    assert len(panels) == table["epoch"].nunique() and bar.get_ylabel() == "layer depth"
    for axes, (epoch, rows) in zip(panels, table.groupby("epoch"), strict=True):
        assert axes.get_title("left").startswith(f"({'abc'[panels.index(axes)]}) ") and (
            epoch == 0 or str(epoch) in axes.get_title("left")
        )
        assert (
            axes.collections[0].get_offsets().shape == (len(rows), 2)
            and axes.collections[0].get_rasterized()
        )
        assert (
            axes.get_xscale() == options.scale
            and "nats" in axes.get_xlabel()
            and "nats²/weight²" in panels[0].get_ylabel()
        )
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert (
            rows["theta_g"].between(low, high).all() and rows["theta_hg"].between(bottom, top).all()
        )
        heading = axes.texts[0].get_text()
        assert (
            mean_and_sd(rows[options.method].iloc[0], rows[f"{options.method}_sd"].iloc[0])
            in heading
            and f"{len(rows)} filters" in heading
        )
    assert_readable(figure)


def test_scatter_holds_eleven_thousand_points_and_the_longest_numbers() -> None:
    runs = make_runs(
        {"mobilenet_v1": MOBILENET_FILTERS}, seeds=(0,), epochs=4, every=1, dataset="cifar100"
    )
    table = scatter.table(runs, FIGURES["14"], DEFAULT)
    assert (table["epoch"].value_counts() == sum(MOBILENET_FILTERS)).all() and sum(
        MOBILENET_FILTERS
    ) > 10_000
    spread = table.loc[table["epoch"] == 0, "theta_hg"].abs().loc[lambda sizes: sizes > 0]
    assert np.log10(spread.max() / spread.min()) > 10
    assert_readable(scatter.draw(table.assign(spearman=-0.88, spearman_sd=0.88, seeds=3), DEFAULT))


@pytest.mark.parametrize(
    "ends", [(-1.0, 1.0), (0.0, 2.5e6), (-3e-14, 4e-14), (-7.8, 1.3), (0.9, 1.1)]
)
@pytest.mark.parametrize("most", [3, 6])
def test_linear_axis_has_a_few_ticks(ends: tuple[float, float], most: int) -> None:
    ticks = scatter._linear_ticks(*ends, most)
    assert 2 <= len(ticks) <= most and ends[0] < min(ticks) and max(ticks) < ends[1]


def test_the_caption_tells_how_many_points_stand_clear_of_their_standard_error(runs: Runs) -> None:
    filters = runs.filters.assign(
        theta_g_se=runs.filters["theta_g"].abs() / 3, theta_hg_se=runs.filters["theta_hg"].abs()
    )
    table = scatter.table(replace(runs, filters=filters), FIGURES["3"], DrawOptions())
    dead = table[table["epoch"] == 0]["theta_g"].eq(0).mean()
    assert f"theta_g in {1 - dead:.0%} and theta_hg in 0%" in "\n".join(
        scatter.values(table, DrawOptions())
    )
    assert "noise of the sample" in scatter.finding(table, DrawOptions())
    unknown = scatter.table(runs, FIGURES["3"], DrawOptions())
    assert "standard error" not in "\n".join(
        scatter.values(unknown, DrawOptions())
    ) + scatter.finding(unknown, DrawOptions())


def test_scatter_is_as_its_baseline(tmp_path: Path) -> None:
    runs = make_runs({"resnet56": SMALL["resnet56"]}, seeds=(0, 1))
    assert_as_before(
        scatter.draw(scatter.table(runs, find("3"), DEFAULT), DEFAULT), "scatter", tmp_path
    )
