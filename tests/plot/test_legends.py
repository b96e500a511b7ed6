"""Legends of many and of long names."""

from __future__ import annotations

from typing import Literal

import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from pruneviz.plot import style
from pruneviz.plot.legends import legend, shortened
from tests.support.readable import assert_readable


def handles(names: list[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=style.styles_of([name])[name].colour, label=name) for name in names
    ]


def entries(found: Legend | None) -> list[str]:
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["_hidden", "a$b$", "<x>"], 0),
        ([f"measure_{number}" for number in range(12)], 0),
        ([f"features.block{n}.a_long_name_of_a_layer.conv{n}" for n in range(60)], 47),
    ],
    ids=["odd", "twelve", "sixty long"],
)
def test_a_legend_below_a_figure_is_readable(names: list[str], more: int) -> None:
    with style.paper():
        figure = Figure((style.TEXT_WIDTH, 3), layout="constrained")
        axes = figure.subplots()
        found = legend(figure, handles(names))
        assert_readable(figure)
    assert found is not None
    shown = entries(found)
    assert len(shown) == len(names) - more + bool(more)
    assert not more or shown[-1] == f"… and {more} more, in the table"
    assert not found.get_window_extent().overlaps(axes.bbox)
    assert axes.get_window_extent().height > 0.4 * figure.bbox.height


def test_names_are_drawn_as_they_stand() -> None:
    assert entries(legend(Figure(), handles(["_a", "$b$"]))) == ["_a", r"\$b\$"]


def test_nothing_to_name_is_no_legend() -> None:
    assert legend(Figure(), []) is None


@pytest.mark.parametrize(("number", "beside"), [(8, False), (9, True)])
def test_a_long_legend_of_axes_stands_beside_them(number: int, beside: bool) -> None:
    with style.paper():
        figure = Figure((style.TEXT_WIDTH, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        found = legend(axes, handles([f"n{place}" for place in range(number)]))
        assert_readable(figure)
    assert found is not None
    assert found.get_window_extent().overlaps(axes.bbox) is not beside


def test_a_long_legend_stays_inside_axes_of_a_figure_without_a_layout() -> None:
    with style.paper():
        figure = Figure(figsize=(5, 3))
        axes = figure.subplots()
        found = legend(axes, handles([f"n{place}" for place in range(20)]))
        figure.draw_without_rendering()
    assert found is not None
    assert axes.bbox.contains(*found.get_window_extent().min)
    assert axes.bbox.contains(*found.get_window_extent().max)


def test_labels_are_cut_only_as_far_as_they_differ() -> None:
    assert shortened(["short", "a" * 40], 20) == ["short", "a" * 10 + "…" + "a" * 9]
    alike = [f"features.{number:02}.convolution.weights" for number in range(3)]
    assert shortened(alike, 16) == [f"features.{n:02}.…ion.weights" for n in range(3)]


@pytest.mark.parametrize("second", [False, True])
def test_a_legend_inside_axes_hides_no_line(second: bool) -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    lines = [
        axes.plot([0, 1, 2], [4 - shift, 2 + shift, 4], label=f"a name {shift}")[0]
        for shift in range(5)
    ]
    twin = axes.twinx() if second else axes
    lines += twin.plot([0, 1, 2], [3, 3.5, 2], label="another")
    twin.set_ylim(axes.get_ylim())
    before = axes.get_yticks()
    found = legend(axes, lines)
    figure.draw_without_rendering()
    box = found.get_window_extent()
    for line in lines:
        path = line.get_transform().transform_path(line.get_path())
        assert not path.intersects_bbox(box, filled=False)
    assert set(axes.get_yticks()) <= set(before), "no tick stands in the room of the legend"
    assert axes.get_ylim() == twin.get_ylim()


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("second", [False, True])
def test_a_legend_that_would_take_most_of_its_axes_moves_beside_them(
    layout: Literal["constrained"] | None, second: bool
) -> None:
    figure = Figure(figsize=(4, 1.8), layout=layout)
    axes = figure.subplots()
    lines = [
        axes.plot([0, 1], [0, 1], label=f"a name of some length {shift}")[0] for shift in range(6)
    ]
    if second:
        lines += axes.twinx().plot([0, 1], [1, 0], label="another")
    found = legend(axes, lines)
    figure.draw_without_rendering()
    assert found is not None
    box = found.get_window_extent()
    assert not any(box.overlaps(each.bbox) for each in figure.axes)
    labels = [label for each in figure.axes[1:] for label in each.get_yticklabels()]
    assert not any(box.overlaps(label.get_window_extent()) for label in labels)
    assert layout is None or figure.bbox.x1 >= box.x1
