"""Matrices as coloured cells."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from pruneviz.plot.cells import Cells, absent_handles, colours, draw_cells
from tests.support.readable import assert_readable


def cells(rows: int, columns: int) -> Cells:
    values = np.linspace(-1, 1, rows * columns).reshape(rows, columns)
    names = [tuple(f"a long name {i}" for i in range(count)) for count in (rows, columns)]
    return Cells(*names, values)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 5), (60, 60), (120, 4)])
def test_labels_never_overlap_whatever_the_size_of_the_axes(rows: int, columns: int) -> None:
    figure = Figure(figsize=(4, 4), layout="constrained")
    draw_cells(figure.subplots(), cells(rows, columns), upright=True)
    assert_readable(figure)


def test_numbers_are_written_where_they_fit_and_signs_hatched_elsewhere() -> None:
    small, large = Figure(figsize=(5, 3)).subplots(), Figure(figsize=(5, 3)).subplots()
    draw_cells(small, cells(3, 3), upright=False)
    draw_cells(large, cells(3, 60), upright=False)
    assert {text.get_text() for text in small.texts} >= {"−1.00", "0.00", "1.00"}
    assert len(small.collections) == 1
    assert not large.texts
    assert "/" in str(large.collections[1].get_hatch())


def test_the_middle_is_the_lightest_and_opposite_ends_differ_in_hue() -> None:
    low, middle, high = (np.array(colours()(value)[:3]) for value in (0.0, 0.5, 1.0))
    assert middle.sum() > 2.8 > max(low.sum(), high.sum())
    assert low[2] > low[0]
    assert high[0] > high[2]


def test_absent_numbers_are_explained_only_where_there_are_any() -> None:
    assert not absent_handles([cells(2, 2)])
    assert (
        absent_handles([Cells(("a",), ("b",), np.array([[np.nan]]))])[0].get_label() == "no value"
    )
