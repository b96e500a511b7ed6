"""Words above panels."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.plot.panels import check_number, label_edges, seeds_in_words, wrapped, wrapped_label


def test_a_title_is_broken_where_its_panel_ends_and_drawn_as_it_stands() -> None:
    assert wrapped("one two", 5) == "one two"
    assert wrapped("a first half, a second half", 1) == "a first half,\na second half"
    assert wrapped("cost in $", 5) == r"cost in \$"


def test_seeds_are_counted_where_there_is_a_value() -> None:
    def words(*seeds: int) -> str:
        return seeds_in_words(pd.DataFrame({"seeds": seeds}))

    assert words(1, 1) == words(0, 1) == words() == ""
    assert words(0, 3, 3) == "mean of 3 runs"
    assert words(2, 3) == "mean of 2 to 3 runs"


def test_inner_panels_have_no_labels_unless_the_place_below_is_empty() -> None:
    figure = Figure()
    panels = list(figure.subplots(2, 2).flat)
    panels.pop().remove()
    label_edges(panels, "x", "y")
    assert [axes.get_xlabel() for axes in panels] == ["", "x", "x"]
    assert [axes.get_ylabel() for axes in panels] == ["y", "", "y"]


def test_too_many_panels_are_refused() -> None:
    check_number(["a"] * 24)
    with pytest.raises(FigureError, match=r"25 panels, at most 24 .*: a; a; a; and others; choose"):
        check_number(["a"] * 25)


def test_labels_break_between_words_and_symbols() -> None:
    label = r"correlation of $\theta_p^\top H g_p$ with \$10 more"
    assert wrapped_label(label, 20).split("\n") == [
        r"correlation of $\theta_p^\top H g_p$",
        r"with \$10 more",
    ]
    assert wrapped_label("gradient_norm_preservation", 5) == "gradient_norm_preservation"
