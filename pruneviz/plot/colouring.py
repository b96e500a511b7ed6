"""Colours of points: by layer depth, by a number, or by a name, each with its explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from pruneviz.analysis.settings import different
from pruneviz.analysis.symmetric_log import linear_threshold
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.plot import style
from pruneviz.plot.glyphs import literal
from pruneviz.plot.groups import label
from pruneviz.plot.layer_names import layer_title
from pruneviz.plot.legends import shortened

_NAMED_LAYERS = 7  # beside a colour bar
_LONGEST_LAYER = 16  # characters
_WIDE = 100.0  # values that span a larger factor are coloured by their logarithm


_CLEAR = ("run", "unit")  # facts whose values need no name in front
KEPT = "kept"
_UNPRUNED: Mapping[object, str] = {None: style.REFERENCE_COLOUR}
_KEPT_COLOURS: Mapping[object, str] = {True: style.LEFT_COLOUR, False: style.RIGHT_COLOUR}


_CHARACTER = 0.065  # inches: the width of one in a label
_NUMBER = 4  # characters of a number
_EDGE, _LARGER = 0.5, 1.0  # points: width of the edge of hollow points; square points of their size


@dataclass(frozen=True)
class Colouring:
    """How the points of all panels of a picture are coloured: alike, by names or by numbers.

    Attributes:
        column: Column of the table that colours the points.
        names: Values that have a colour each, by their label; an absent value is None.
        norm: Scale of the numbers that have a colour each.
        title: Label of the colour bar.
        ticks: Labels of places on the colour bar. Empty: those of matplotlib.
    """

    column: str
    names: Mapping[str, object] = field(default_factory=dict)
    norm: Normalize | None = None
    title: str = ""
    ticks: Mapping[float, str] = field(default_factory=dict)

    def draw(self, axes: Axes, points: pd.DataFrame, x: str, y: str) -> None:
        """Draw points in their order; more of them are drawn smaller and paler.

        Points whose column `clear`, if there is one, is false are hollow, below the others.
        """
        size = float(np.clip(6000 / max(1, len(points)), 1.6, 9))
        opacity = float(np.clip(1500 / max(1, len(points)), 0.4, 0.8))
        known = points.get("clear", pd.Series(True, index=points.index))
        hollow = ~known.fillna(True).astype(bool)
        groups = [(points, True)]
        if hollow.any():
            groups = [(points[hollow], False), (points[~hollow], True)]
        for group, filled in groups:
            for rows, colours, marker in self._parts(group):
                axes.scatter(
                    rows[x],
                    rows[y],
                    s=size if filled else size + _LARGER,
                    alpha=opacity,
                    linewidths=0 if filled else _EDGE,
                    facecolors=colours if filled else "none",
                    edgecolors=colours,
                    rasterized=True,
                    marker=marker,
                )

    def _parts(self, points: pd.DataFrame) -> list[tuple[pd.DataFrame, Any, str]]:
        """Points that matplotlib draws at once, with their colours and marker."""
        if self.norm is not None:
            numbers = points[self.column].to_numpy(dtype="float64", na_value=np.nan)
            return [(points, _colours()(self.norm(np.ma.masked_invalid(numbers))), "o")]
        if not self.names:
            return [(points, style.LEFT_COLOUR, "o")]
        looks, values = self._looks(), points[self.column]
        return [
            (
                points[values.isna() if value is None else values == value],
                looks[name].colour,
                looks[name].marker,
            )
            for name, value in self.names.items()
        ]

    def explain(self, figure: Figure | SubFigure, row: Sequence[Axes]) -> None:
        """Add a colour bar to panels, if their colours are numbers."""
        if self.norm is None:
            return
        bar = figure.colorbar(
            ScalarMappable(self.norm, style.depth_colours()),
            ax=list(row),
            label=self.title,
            aspect=30,
            pad=0.015,
            fraction=0.04,
        )
        bar.outline.set_linewidth(0.4)
        if self.ticks:
            bar.ax.yaxis.set_major_locator(FixedLocator(list(self.ticks)))
            bar.ax.yaxis.set_major_formatter(FixedFormatter(list(self.ticks.values())))
            bar.ax.yaxis.set_minor_locator(NullLocator())

    @property
    def room(self) -> float:
        """Inches by which names beside the colour bar are wider than its numbers."""
        longest = max(map(len, self.ticks.values()), default=0)
        return _CHARACTER * max(0, longest - _NUMBER)

    def colour_at(self, number: float) -> tuple[float, ...]:
        """The colour of a number."""
        place = 0.0 if self.norm is None else float(self.norm(number))
        return tuple(style.depth_colours()(place))

    @property
    def handles(self) -> list[Artist]:
        """Entries of a legend, if the colours are names."""
        looks = self._looks()
        return [
            Line2D([], [], linestyle="", marker=look.marker, color=look.colour, label=name)
            for name, look in looks.items()
        ]

    def _looks(self) -> dict[str, style.Style]:
        keys = {name: style_name(self.column, value) for name, value in self.names.items()}
        styles = style.styles_of(keys.values())
        looks = {name: styles[key] for name, key in keys.items()}
        colours = {KEPT: _KEPT_COLOURS, "measure": _UNPRUNED}.get(self.column, {})
        return {
            name: replace(look, colour=colours.get(self.names[name], look.colour))
            for name, look in looks.items()
        }


def colouring(table: pd.DataFrame, hue: str | None, title: str) -> Colouring:
    """Choose the colours of a table's points.

    Args:
        table: Table of `pruneviz.plot.scatter`.
        hue: "depth", "layer", a column of the table, or None for one colour.
        title: What the colours show, for a colour bar.
    """
    if hue is None:
        return Colouring("depth")
    if hue in ("depth", "layer"):
        return _by_depth(table, named=hue == "layer")
    if _is_number(table, hue):
        return Colouring(hue, norm=_scale(table[hue].to_numpy(dtype="float64")), title=title)
    values = different(table[hue])
    names: dict[str, object] = {value_name(hue, value): value for value in values}
    if table[hue].isna().any():
        names[value_name(hue, None)] = None
    return Colouring(hue, names)


def _by_depth(table: pd.DataFrame, named: bool) -> Colouring:
    layers = table.drop_duplicates("depth").set_index("depth")["layer"].astype(str)
    deepest = int(layers.index.max())
    norm = Normalize(1, max(2, deepest))
    if not named:
        places = sorted({1, round((1 + deepest) / 2), deepest})
        return Colouring("depth", {}, norm, "layer depth", {place: str(place) for place in places})
    places = sorted({round(place) for place in np.linspace(1, deepest, _NAMED_LAYERS)})
    texts = shortened([layer_title(layers[place]) for place in places], _LONGEST_LAYER)
    return Colouring(
        "depth", {}, norm, "layer", dict(zip(places, map(literal, texts), strict=True))
    )


def _is_number(table: pd.DataFrame, name: str) -> bool:
    """Whether a column holds numbers that differ within a run; facts of runs are names."""
    values = table[name]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    by_run = values.groupby(table["run"].astype(str))
    return bool((by_run.max() > by_run.min()).any())


def _scale(values: np.ndarray) -> Normalize:
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not len(sizes) or sizes.max() < _WIDE * np.quantile(sizes, 0.1):
        return Normalize(low, high)
    if low > 0:
        return LogNorm(low, high)
    return SymLogNorm(linear_threshold(values), vmin=low, vmax=high)


def value_name(fact: str, value: object) -> str:
    """A value of a fact or column as a legend names it."""
    if fact == KEPT and value is not None:
        return "kept" if value else "pruned"
    if isinstance(value, str) and fact == "layer":
        return layer_title(value)
    if isinstance(value, str) and (fact not in SPEC_FACTS or fact in _CLEAR):
        return value
    return label({fact: value})


def style_name(fact: str, value: object) -> str:
    """The name that a value has its look by, which is the same in every kind of picture."""
    if fact in ("measure", "layer"):
        return str(value)
    return label({fact: value}) or str(value)


def _colours() -> Colormap:
    """Colours of numbers; grey for points without one."""
    return style.depth_colours().with_extremes(bad=style.GUIDE_COLOUR)
