"""Plot functions with their tables; figures that a notebook shows; given axes."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pruneviz.errors import FigureError
from pruneviz.plot.canvas import (
    Canvas,
    canvas,
    in_row,
    letters,
    row_heights,
    upper_and_lower,
    with_rows_below,
    with_table,
)
from tests.support.readable import assert_readable


def drawn(ax: Axes | None = None, names: tuple[str, ...] = ("a",), **options: Any) -> Canvas:
    with canvas(ax, names, "choose one with epochs=0", size=(4, 2), **options) as found:
        for axes in found.axes:
            axes.plot([1, 2])
    return found


def test_a_plot_function_stays_itself_and_has_a_table() -> None:
    def numbers(x: int) -> pd.DataFrame:
        return pd.DataFrame({"x": [x]})

    @with_table(numbers)
    def plot(x: int, *, ax: Axes | None = None) -> Any:
        """What help shows."""
        return x

    assert plot(3) == 3
    assert plot.table(3)["x"].tolist() == [3]
    assert inspect.getdoc(plot) == "What help shows."
    assert list(inspect.signature(plot).parameters) == ["x", "ax"]


def test_a_notebook_shows_a_picture_and_nothing_global_moves() -> None:
    before, known = dict(matplotlib.rcParams), plt.get_fignums()
    picture = drawn().result
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == known


def test_where_there_is_no_window_showing_says_so_and_leaves_nothing() -> None:
    picture, known = drawn().result, plt.get_fignums()
    with pytest.warns(UserWarning, match="write it with savefig"):
        picture.show()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture.show(warn=False)
    assert plt.get_fignums() == known


def test_given_axes_are_drawn_into_in_their_own_style_and_returned() -> None:
    with matplotlib.rc_context({"lines.linewidth": 5}):
        axes = Figure().subplots()
        found = drawn(axes)
    assert found.result is axes
    assert axes.get_lines()[0].get_linewidth() == 5
    found.legend([Line2D([], [], label="a")])
    assert axes.get_legend() is not None


def test_given_axes_hold_one_panel() -> None:
    axes = Figure().subplots()
    with pytest.raises(FigureError, match="has 2: a and b; choose one with epochs=0"):
        drawn(axes, ("a", "b"))
    with pytest.raises(FigureError, match="ax is a list, expected matplotlib axes"):
        drawn([axes])  # type: ignore[arg-type]


def test_places_without_a_name_stay_empty() -> None:
    found = drawn(names=("a", "b", "", "c"), columns=2)
    assert found.names == ("a", "b", "c")
    assert len(found.figure.axes) == 3
    left, low = found.axes[0].get_position().x0, found.axes[2].get_position().y1
    assert found.axes[2].get_position().x0 > left
    assert low < found.axes[0].get_position().y0


def test_a_long_legend_adds_height_and_covers_nothing() -> None:
    with canvas(None, ("a",), "", size=(3, 2)) as found:
        found.axes[0].plot([0, 1])
        found.legend([Line2D([], [], label=f"a measure of name {i}") for i in range(20)])
    assert found.result.get_size_inches()[1] > 3
    assert found.axes[0].get_position().height * found.result.get_size_inches()[1] > 1.2
    assert_readable(found.result)


def test_panels_are_lettered_while_there_are_letters() -> None:
    assert letters(2) == ["(a) ", "(b) "]
    assert set(letters(27)) == {""}


def test_long_names_are_not_cut_off_at_the_resolution_of_a_screen() -> None:
    name = "loss_preservation_abs_of_sum" * 2
    with canvas(None, ["one"], "", size=(4, 3)) as drawn:
        drawn.axes[0].set_yticks([0, 1], [name, name])
    box, (width, height) = drawn.figure.get_tightbbox(), drawn.figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize(("panels", "across"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (9, 3)])
def test_four_panels_are_two_rows_of_two(panels: int, across: int) -> None:
    assert in_row(panels) == across


def test_lower_panels_belong_to_those_above_them() -> None:
    names = ["a", "b", "c", "d", "", "e"]
    places = with_rows_below(names, 3)
    assert places == ["a", "b", "c", "a", "b", "c", "d", "", "e", "d", "", "e"]
    with canvas(None, places, "", size=(4, 4), columns=3, **row_heights(names, 3, (2, 1))) as drawn:
        upper, lower = upper_and_lower(drawn.axes, names, 3)
    assert len(upper) == len(lower) == 5
    for above, below in zip(upper, lower, strict=True):
        assert above.get_position().x0 == below.get_position().x0
        assert above.get_position().height > 1.5 * below.get_position().height
        assert 0 < above.get_position().y0 - below.get_position().y1 < 0.2
