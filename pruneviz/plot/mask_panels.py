"""Distances of consecutive masks beside correlations: panels of their own, or a second axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator
from matplotlib.typing import LineStyleType

from pruneviz.analysis.settings import different
from pruneviz.log.vocabulary import MASK_SCORES
from pruneviz.plot.correlation_lines import Lines
from pruneviz.plot.glyphs import literal
from pruneviz.plot.legends import shortened
from pruneviz.plot.panels import wrapped_label
from pruneviz.plot.row_kind import ROW_KINDS_BY_UNIT, row_kind_in
from pruneviz.plot.signed_log import SignedLog
from pruneviz.plot.words import listed

_CHANCE: dict[str, Any] = {"linestyle": ":", "linewidth": 0.9}
_DECADE = 10  # distances that differ by such a factor have a logarithmic axis
_ABOVE = 1.12  # upper end of a linear axis, in largest values
_LABEL = 18  # characters of a line beside a panel
_GAP = 0.19  # least distance of two tick labels, as a fraction of the axis
_MOST_BELOW = 0.5  # of a panel that zero may stand above its foot, where two axes share it


def has_masks(table: pd.DataFrame) -> bool:
    """Whether a table of `pruneviz.plot.correlation` has mask distances."""
    return "mask_distance" in table and bool(table["mask_distance"].notna().any())


def draw_masks(axes: Axes, panel: pd.DataFrame, lines: Lines, own: bool) -> None:
    """Mask distances and their chance level: a line for each set of runs with distances of its own.

    Args:
        axes: The panel.
        panel: Its rows of a table of `pruneviz.plot.correlation`.
        lines: The lines of the correlations; sets of runs that differ have their colours.
        own: Whether the panel shows nothing else; otherwise lines are dashed.
    """
    known = panel.dropna(subset=["mask_distance"])
    if known.empty:
        return
    columns = ["mask_distance", "chance"]
    series = [(look.colour, rows.set_index("epoch")[columns]) for look, rows in lines.of(known)]
    one = all(values.equals(series[0][1]) for _, values in series)
    for colour, values in series[:1] if one else series:
        axes.plot(
            values.index,
            values["mask_distance"],
            color=lines.right if one else colour,
            linestyle=_line(own),
            linewidth=1.0,
        )
    if _is_constant(known["chance"]):
        series = [(lines.right, series[0][1])]
    for colour, values in series:
        _draw_chance(axes, values["chance"], lines.right if one else colour)


def _line(own: bool) -> LineStyleType:
    return "-" if own else (0, (4, 1.5))


def _draw_chance(axes: Axes, chance: pd.Series, colour: str) -> None:
    """The distance of random masks, which pruning changes from epoch to epoch."""
    if _is_constant(chance):
        axes.axhline(chance.iloc[0], color=colour, **_CHANCE)
    else:
        axes.plot(chance.index, chance, color=colour, **_CHANCE)


def _is_constant(values: pd.Series) -> bool:
    return bool(values.min() == values.max())


def scale_below(panels: Sequence[Axes], table: pd.DataFrame) -> None:
    """Give panels of mask distances one axis, from zero on, without labels of ticks.

    It is logarithmic beyond a strip at zero if the distances differ by a factor of ten.

    Args:
        panels: The panels.
        table: Rows of all of them.
    """
    values = _values(table)
    for axes in panels:
        if distance_threshold(table) is not None:
            SignedLog.fit(values).apply(axes, "y", _GAP)
        else:
            axes.set_ylim(0, _ABOVE * (values.max(initial=0.0) or 1.0))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", labelleft=False)


def distance_threshold(table: pd.DataFrame) -> float | None:
    """The distance from which the axis of `scale_below` is logarithmic; None if it is linear.

    Args:
        table: Rows of all panels.
    """
    distances = table["mask_distance"].to_numpy(dtype="float64")
    sizes = distances[distances > 0]
    if not sizes.size or sizes.max() < _DECADE * sizes.min():
        return None
    return SignedLog.fit(_values(table)).threshold


def _values(table: pd.DataFrame) -> np.ndarray:
    values = table[["mask_distance", "chance"]].to_numpy(dtype="float64").ravel()
    return values[~np.isnan(values)]


def scale_beside(axes: Axes, twin: Axes, table: pd.DataFrame) -> None:
    """Give mask distances a second axis whose zero is that of the correlations.

    Args:
        axes: Panel of the correlations, whose limits leave room below and above zero.
        twin: The second axis.
        table: Rows of the panel.
    """
    low, high = axes.get_ylim()
    high = max(high, -low * (1 - _MOST_BELOW) / _MOST_BELOW)
    axes.set_ylim(low, high)
    top = _ABOVE * float(table[["mask_distance", "chance"]].max().max() or 1.0)
    twin.set_ylim(top * low / high, top)
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(0, top)
    twin.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if 0 <= tick <= top]))


def masks_label(table: pd.DataFrame) -> str:
    """The label of an axis of mask distances; it names masks other than the usual ones."""
    kind = row_kind_in(table)
    by = ""
    if "mask_score" in table:
        known = list(map(str, different(table["mask_score"])))
        usual = MASK_SCORES[next(u for u, k in ROW_KINDS_BY_UNIT.items() if k is kind)]
        by = f", by {literal(listed(shortened(known, _LABEL - 4)))}" if known != [usual] else ""
    of = wrapped_label(f"(share of {kind.noun}s{by})", _LABEL)
    return f"mask distance\n{of}"


def mask_handles(lines: Lines, own: bool) -> list[Line2D]:
    """Entries of the legend.

    Args:
        lines: The lines of the correlations.
        own: Whether mask distances have a panel of their own.
    """
    name = "mask distance" if own else "mask distance (right axis)"
    return [
        Line2D([], [], color=lines.right, linestyle=_line(own), linewidth=1.0, label=name),
        Line2D([], [], color=lines.right, label="distance of random masks", **_CHANCE),
    ]
