"""Figures 3 and 13-15 against plain pandas; the picture by structure; what the caption says.

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
from pruneviz.figures.kinds import scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.scatter_axes import linear_ticks
from pruneviz.plot.words import mean_and_sd
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import MOBILENET_FILTERS, SMALL, make_runs

DEFAULT = DrawOptions()
RESNET = {"resnet56": SMALL["resnet56"]}
VGG = {"vgg13": SMALL["vgg13"]}


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({**RESNET, **VGG})


def table_of(runs: Runs, figure: str, options: DrawOptions = DEFAULT) -> pd.DataFrame:
    return scatter.table(runs, FIGURES[figure], options)


# The numbers


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_numbers_against_plain_pandas(runs: Runs, method: Any) -> None:
    table = table_of(runs, "13", DrawOptions(method=method))
    mine = runs.filters[runs.filters["run"].astype(str).str.startswith("vgg13")]
    layers = SMALL["vgg13"]
    assert list(dict.fromkeys(table["epoch"])) == [0, 4, 16]
    for epoch, panel in table.groupby("epoch"):
        by_run = mine[mine["epoch"] == epoch].groupby("run", observed=True)
        each = [rows["theta_g"].corr(rows["theta_hg"], method=method) for _, rows in by_run]
        assert panel[method].unique() == pytest.approx([np.mean(each)])
        assert panel[f"{method}_sd"].unique() == pytest.approx([np.std(each, ddof=1)])
        assert set(panel["seeds"]) == {3}
        assert set(panel["filters"]) == {len(panel)} == {sum(layers)}
        shown = mine[(mine["epoch"] == epoch) & (mine["run"] == "vgg13-digits-s0")]
        assert panel["theta_hg"].tolist() == shown["theta_hg"].tolist()
        depth = np.repeat(range(1, len(layers) + 1), layers)
        assert panel["depth"].tolist() == depth.tolist()


def test_the_seed_asked_for_is_shown_and_all_are_averaged(runs: Runs) -> None:
    lowest, other = (table_of(runs, "13", DrawOptions(seed=seed)) for seed in (None, 2))
    assert set(lowest["seed"]) == {0}
    assert set(other["seed"]) == {2}
    assert lowest["pearson"].unique().tolist() == other["pearson"].unique().tolist()


def test_one_seed_has_an_interval_but_no_spread() -> None:
    table = table_of(make_runs(VGG, seeds=(4,)), "13")
    assert table["pearson_sd"].isna().all()
    assert table[["pearson_low", "pearson_high"]].notna().all(axis=None)
    assert "± " not in scatter.draw(table, DEFAULT).axes[0].texts[0].get_text()


def test_absent_columns_seeds_and_epochs_are_named(runs: Runs) -> None:
    without_column = replace(runs, filters=runs.filters.drop(columns="theta_hg"))
    with pytest.raises(FigureError, match="y is theta_hg, a column without values"):
        table_of(without_column, "3")
    with pytest.raises(FigureError, match="seed 9 is not recorded; recorded are seeds 0, 1 and 2"):
        table_of(runs, "3", DrawOptions(seed=9))
    never_measured = replace(runs, filters=runs.filters.assign(theta_hg=np.nan))
    with pytest.raises(FigureError, match="y is theta_hg, a column without values"):
        table_of(never_measured, "3")


# The picture


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({}, DEFAULT),
        ({"seeds": (3,)}, DEFAULT),
        ({}, DrawOptions(scale="linear", method="kendall")),
        ({"epochs": 2, "every": 2}, DEFAULT),
        ({"epochs": 160, "every": 40, "seeds": (0, 1)}, DEFAULT),
    ],
    ids=["16 epochs", "one seed", "linear, Kendall", "two epochs", "160 epochs"],
)
def test_picture_is_readable_and_shows_the_table(
    facts: dict[str, Any], options: DrawOptions
) -> None:
    table = table_of(make_runs(RESNET, **facts), "3", options)
    figure = scatter.draw(table, options)
    *panels, bar = figure.axes
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    assert bar.get_ylabel() == "layer depth"
    assert "nats²/weight²" in panels[0].get_ylabel()
    groups = table.groupby("epoch")
    for letter, axes, (epoch, rows) in zip("abc", panels, groups, strict=False):
        named = "ResNet-56\n" if letter == "a" else ""
        assert axes.get_title("left").startswith(f"{named}({letter}) ")
        assert epoch == 0 or f"epoch {epoch} of" in axes.get_title("left")
        assert axes.get_xscale() == options.scale
        assert "nats" in axes.get_xlabel()
        (points,) = axes.collections
        assert points.get_offsets().shape == (len(rows), 2)
        assert points.get_rasterized()
        assert rows["theta_g"].between(*axes.get_xlim()).all()
        assert rows["theta_hg"].between(*axes.get_ylim()).all()
        heading = axes.texts[0].get_text()
        mean, sd = rows[options.method].iloc[0], rows[f"{options.method}_sd"].iloc[0]
        assert mean_and_sd(mean, sd) in heading
        assert f"{len(rows)} filters" in heading
    assert len(panels) == len(groups)
    assert_readable(figure)


def test_picture_holds_eleven_thousand_points_and_the_longest_numbers() -> None:
    networks = {"mobilenet_v1": MOBILENET_FILTERS}
    runs = make_runs(networks, seeds=(0,), epochs=4, every=1, dataset="cifar100")
    table = table_of(runs, "14")
    assert sum(MOBILENET_FILTERS) > 10_000
    assert (table["epoch"].value_counts() == sum(MOBILENET_FILTERS)).all()
    sizes = table.loc[table["epoch"] == 0, "theta_hg"].abs()
    assert np.log10(sizes.max() / sizes[sizes > 0].min()) > 10
    assert_readable(scatter.draw(table.assign(spearman=-0.88, spearman_sd=0.88, seeds=3), DEFAULT))


@pytest.mark.parametrize(
    "ends", [(-1.0, 1.0), (0.0, 2.5e6), (-3e-14, 4e-14), (-7.8, 1.3), (0.9, 1.1)]
)
@pytest.mark.parametrize("most", [3, 6])
def test_linear_axis_has_a_few_ticks(ends: tuple[float, float], most: int) -> None:
    ticks = linear_ticks(*ends, most)
    assert 2 <= len(ticks) <= most
    assert ends[0] < min(ticks)
    assert max(ticks) < ends[1]


def test_picture_is_as_its_baseline(tmp_path: Path) -> None:
    table = table_of(make_runs(RESNET, seeds=(0, 1)), "3")
    assert_as_before(scatter.draw(table, DEFAULT), "scatter", tmp_path)


def test_points_that_are_not_clear_of_noise_are_hollow(runs: Runs) -> None:
    table = table_of(runs, "3")
    odd = table["filter"] % 2 == 1
    known = table.assign(theta_g_clear=odd, theta_hg_clear=pd.array([True] * len(table)))
    for axes in scatter.draw(known, DEFAULT).axes[:3]:
        hollow, filled = axes.collections
        assert len(hollow.get_facecolors()) == 0 and len(hollow.get_edgecolors()) > 1
        assert len(filled.get_facecolors()) == len(filled.get_offsets())
        shares = [len(points.get_offsets()) for points in (hollow, filled)]
        assert shares[0] == table[(table["epoch"] == 0) & ~odd].shape[0]
        assert f"{100 * shares[1] / sum(shares):.0f} % clear" in axes.texts[0].get_text()
    assert "Hollow points are not clear" in scatter.drawn(known, DEFAULT)
    assert "Hollow" not in scatter.drawn(table, DEFAULT)
    assert_readable(scatter.draw(known, DEFAULT))


# The words


def test_the_caption_tells_how_many_points_are_clear_of_noise(runs: Runs) -> None:
    filters = runs.filters
    errors = {
        "theta_g_se": filters["theta_g"].abs() / 3,
        "theta_hg_se": filters["theta_hg"].abs(),
    }
    table = table_of(replace(runs, filters=filters.assign(**errors)), "3")
    dead = table[table["epoch"] == 0]["theta_g"].eq(0).mean()
    values = "\n".join(scatter.values(table, DEFAULT))
    assert f"theta_g in {1 - dead:.0%} and theta_hg in 0%" in values
    assert "noise of the sample. " in scatter.drawn(table, DEFAULT)
    # with g held fixed it says nothing about theta_hg
    errors["theta_hg_se_given_g"] = errors.pop("theta_hg_se")
    table = table_of(replace(runs, filters=filters.assign(**errors)), "3")
    assert "theta_hg_clear" not in table
    assert f"sample: theta_g in {1 - dead:.0%} of" in "\n".join(scatter.values(table, DEFAULT))
    assert "noise of the sample in theta_g. " in scatter.drawn(table, DEFAULT)
    above = scatter.draw(table, DEFAULT).axes[0].texts[0].get_text()
    assert "% clear" in above


def test_the_caption_says_nothing_about_errors_that_were_not_recorded(runs: Runs) -> None:
    table = table_of(runs, "3")
    assert "standard error" not in "\n".join(scatter.values(table, DEFAULT))
