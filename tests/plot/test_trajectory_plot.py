"""Pictures of a quantity over epochs: bands, medians by depth, and single filters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.trajectory_plot import trajectory
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=4, every=2)


def table(layers: int = 2, epochs: int = 3) -> pd.DataFrame:
    """Filter 0 of every layer is pruned at epoch 2, and all of layer 1."""
    keys = [(e, f"conv{i}", p) for e in range(epochs) for i in range(layers) for p in range(4)]
    rows = pd.DataFrame(keys, columns=["epoch", "layer", "filter"])
    gone = (rows["epoch"] >= 2) & ((rows["filter"] == 0) | (rows["layer"] == "conv1"))
    return rows.assign(mine=rows["filter"] + 0.5 * rows["epoch"] + 1, kept=~gone)


def crosses(axes: Axes) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_marker() == "x"]
    return [tuple(np.asarray(line.get_xydata())[0]) for line in lines]  # type: ignore[misc]


def entries(picture: Figure) -> list[str]:
    return [text.get_text() for legend in picture.legends for text in legend.get_texts()]


def test_a_layer_has_a_panel_with_its_median() -> None:
    picture = trajectory(table(), "mine")
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["conv0", "conv1"]
    median = np.asarray(picture.axes[0].get_lines()[0].get_ydata())
    assert median.tolist() == trajectory.table(table(), "mine", layers="conv0")["p50"].tolist()
    assert_readable(picture)


def test_a_layer_ends_in_a_cross_where_all_of_it_is_pruned() -> None:
    picture = trajectory(table(), "mine")
    assert crosses(picture.axes[0]) == []
    assert crosses(picture.axes[1]) == [(1.0, 3.0)]
    assert entries(picture)[-2:] == ["filters pruned", "all filters pruned"]


def test_infinite_values_are_said_to_be_left_out() -> None:
    rows = table(epochs=1).assign(mine=[np.inf, *range(7)])
    assert entries(trajectory(rows, "mine"))[-1] == "1 infinite value left out"


def test_a_filter_is_a_line_that_ends_in_a_cross_where_it_is_pruned() -> None:
    picture = trajectory(table(), "mine", filters=[("conv0", 0), ("conv0", 1)])
    (axes,) = picture.axes
    assert crosses(axes) == [(1.0, 1.5)]
    assert entries(picture) == ["conv0[0]", "conv0[1]", "pruned"]
    assert len({to_hex(line.get_color()) for line in axes.get_lines()}) == 2


def test_many_layers_are_one_line_each_coloured_by_depth() -> None:
    picture = trajectory(table(layers=60), "mine")
    axes, scale = picture.axes
    assert len([line for line in axes.get_lines() if line.get_marker() != "x"]) == 60
    assert scale.get_ylabel() == "layer depth"
    assert "median of 60 layers" in axes.get_title(loc="left")
    assert_readable(picture)


def test_runs_that_differ_get_panels_and_seeds_count_together(runs: Runs) -> None:
    picture = trajectory(runs, "sigma", layers="features.0.conv")
    assert len(picture.axes) == len(SMALL)
    assert entries(picture)[0] == "median of the filters of 3 runs"
    chosen = trajectory(runs, "sigma", filters=[("features.0.conv", 0)])
    assert all("one of 3 runs" in axes.get_title(loc="left") for axes in chosen.axes)
    assert_readable(picture)


def test_given_axes_hold_all_layers_of_one_group(runs: Runs) -> None:
    axes = Figure().subplots()
    assert trajectory(runs, "sigma", runs={"network": "vgg13"}, ax=axes) is axes
    with pytest.raises(FigureError, match=r"has 3: .*choose one with runs="):
        trajectory(runs, "sigma", ax=Figure().subplots())


def test_a_single_epoch_is_visible() -> None:
    axes = trajectory(table(epochs=1), "mine").axes[0]
    assert axes.get_lines()[0].get_marker() == "o"
    low, high = axes.get_xlim()
    assert low < 0 < high


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((1.0, 2.0), "linear"),
        ((1e-4, 1.0), "log"),
        ((-1.0, 1e-4), "symlog"),
        ((0.0, 0.0), "linear"),
    ],
)
def test_the_scale_fits_the_values(values: tuple[float, float], scale: str) -> None:
    rows = table(epochs=2).assign(kept=True)
    rows["mine"] = np.resize(np.array(values), len(rows))
    assert trajectory(rows, "mine").axes[0].get_yscale() == scale


def test_a_scale_that_cannot_be_is_refused() -> None:
    with pytest.raises(FigureError, match="no scale 'logarithmic'; choose one of linear, log"):
        trajectory(table(), "mine", scale="logarithmic")  # type: ignore[arg-type]
    with pytest.raises(FigureError, match="a value is -1; choose 'symlog'"):
        trajectory(table().assign(mine=-1.0), "mine", scale="log")
