"""The lines of a correlation plot and their looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pruneviz.analysis.settings import present
from pruneviz.plot import style
from pruneviz.plot.colouring import Colouring, colouring, style_name, value_name
from pruneviz.plot.correlation_table import LAYER, RANDOM
from pruneviz.plot.groups import name_in

_BEST = 8  # measures, where none are named
_MOST_NAMED = 10  # layers; more have a colour bar


@dataclass(frozen=True)
class Look:
    """Look of one line."""

    label: str
    colour: Any
    marker: str
    dashes: Any = "-"


@dataclass(frozen=True)
class Lines:
    """The lines of all panels: what tells them apart, and their looks.

    Attributes:
        column: Column of the table that tells them apart.
        looks: Look by value.
        ramp: Colour bar that explains them instead of a legend, for many layers.
    """

    column: str
    looks: Mapping[object, Look]
    ramp: Colouring | None = None

    @property
    def single(self) -> bool:
        """Whether there is one line, so that its axis has its colour."""
        return len(self.looks) == 1

    @property
    def left(self) -> str:
        """Colour of the axis of correlations: that of a single line."""
        return style.LEFT_COLOUR if self.single else style.NOTE_COLOUR

    @property
    def right(self) -> str:
        """Colour of mask distances, which is that of a measure where lines have several."""
        return style.RIGHT_COLOUR if self.single else style.NOTE_COLOUR

    def of(self, panel: pd.DataFrame) -> Iterator[tuple[Look, pd.DataFrame]]:
        """The lines of a panel, each with its look."""
        for value, look in self.looks.items():
            named = panel[self.column]
            rows = panel[named.isna() if value is None else named == value]
            if len(rows):
                yield look, rows


def best_of(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """The lines of the measures that go best with y, by their mean size of r, and of the control.

    Args:
        table: Table of `pruneviz.plot.correlation` with a line for each x.
        method: Correlation coefficient.
    """
    others = table[table["x"] != RANDOM]
    sizes = others[method].abs().groupby(others["x"], sort=False).mean()
    best = sizes.sort_values(ascending=False, kind="stable").index[:_BEST]
    return table[table["x"].isin([*best, RANDOM])]


def lines_of(table: pd.DataFrame, by: str | None) -> Lines:
    """The lines of a table of `pruneviz.plot.correlation`, which differ in `by` or in x."""
    column = name_in(table, by) if by else "x"
    values = list(dict.fromkeys(map(present, table[column])))
    if len(values) == 1:
        return Lines(column, {values[0]: Look("correlation", style.LEFT_COLOUR, "o")})
    if column == LAYER and len(values) > _MOST_NAMED:
        ramp = colouring(table, LAYER, "")
        layers = table.drop_duplicates(LAYER)
        depths = dict(zip(layers[LAYER], layers["depth"], strict=True))
        looks = {value: Look(str(value), ramp.colour_at(depths[value]), "") for value in values}
        return Lines(column, looks, ramp)
    names = {value: value_name("measure" if column == "x" else column, value) for value in values}
    keys = {value: style_name("measure" if column == "x" else column, value) for value in values}
    styles = style.styles_of(keys.values())
    found = {
        value: Look(names[value], styles[key].colour, styles[key].marker)
        for value, key in keys.items()
    }
    if column == "measure" and None in found:
        found[None] = Look(names[None], style.REFERENCE_COLOUR, "")
    if column == "x" and RANDOM in found:
        found[RANDOM] = Look("random", style.GUIDE_COLOUR, "", (0, (1, 1)))
    return Lines(column, found)
