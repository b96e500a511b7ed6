"""Words around panels: what they show, how many seeds, and what their axes are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from pruneviz.log.schema import is_filter_column
from pruneviz.plot.glyphs import literal
from pruneviz.plot.row_kind import RowKind
from pruneviz.plot.words import measure_title

_CHARACTER = 0.075  # inches of a bold character of a title


def wrapped(title: str, inches: float) -> str:
    """A title in as many lines as its panel is narrow, drawn as it stands."""
    return "\n".join(map(literal, textwrap.wrap(title, max(12, int(inches / _CHARACTER)))))


def seeds_in_words(table: pd.DataFrame) -> str:
    """`mean of 3 seeds`, from a column `seeds`; nothing for a single one."""
    seeds = table.loc[table["seeds"] > 0, "seeds"]
    least, most = int(seeds.min() if len(seeds) else 0), int(seeds.max() if len(seeds) else 0)
    if most <= 1:
        return ""
    return f"mean of {most} seeds" if least == most else f"mean of {least} to {most} seeds"


def label_edges(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label and number the axes of panels at the left and lower edge of their grid.

    Panels must share both scales. A panel above an empty place counts as one at the edge.
    """
    places = [_place(axes) for axes in panels]
    for axes, (row, column) in zip(panels, places, strict=True):
        below = len(panels) > 1 and (row + 1, column) in places
        axes.set_xlabel("" if below else x)
        axes.tick_params(axis="x", labelbottom=not below)
        if len(panels) == 1 or column == 0:
            axes.set_ylabel(y)


def value_label(name: str, row_kind: RowKind) -> str:
    """The label of an axis: the symbol and unit of a column, the title of a measure."""
    if not is_filter_column(name):
        return literal(measure_title(name))
    column = row_kind.column(name)
    unit = f" ({column.unit})" if column.unit not in ("", "1") else ""
    return (column.symbol or literal(name)) + unit


def _place(axes: Axes) -> tuple[int, int]:
    """Row and column of axes in their grid."""
    place = axes.get_subplotspec()
    return (place.rowspan.start, place.colspan.start) if place else (0, 0)
