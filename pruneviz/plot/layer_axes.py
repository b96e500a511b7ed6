"""Axes of bars per layer: shares in per cent, or values on one of three scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pruneviz.errors import FigureError, unknown_name
from pruneviz.plot import style
from pruneviz.plot.layer_table import SHARE, VALUE
from pruneviz.plot.quantities import axis_label
from pruneviz.plot.row_kind import FILTER, ROW_KINDS_BY_UNIT
from pruneviz.plot.signed_log import SignedLog
from pruneviz.plot.words import scientific

Scale = Literal["linear", "log", "symlog"]

DASHED: style.Line = (0, (4, 1.5))  # of the target
_MOST_CHARACTERS = 5  # of a number at a tick
_GAP = 0.08  # between tick labels, as a fraction of the axis


@dataclass(frozen=True)
class YAxis:
    """The axis of values.

    Attributes:
        label: Its label.
        column: Column of the table that it shows.
        scale: Its scale.
        has_points: Whether there are too many values for bars.
    """

    label: str
    column: str
    scale: Scale
    has_points: bool = False

    @property
    def is_share(self) -> bool:
        """Whether it shows pruned shares."""
        return self.column == SHARE

    @property
    def factor(self) -> int:
        """Factor of the numbers: 100 for shares, which are in per cent."""
        return 100 if self.is_share else 1


def check_scale(scale: object) -> None:
    """Check that a scale is one of `Scale`.

    Raises:
        FigureError: If it is not.
    """
    if scale not in get_args(Scale):
        raise FigureError(unknown_name("scale", str(scale), get_args(Scale)))


def layer_axis(table: pd.DataFrame, scale: Scale, unit: str) -> YAxis:
    """The axis for a table of `pruneviz.plot.layer_ratios`.

    Args:
        table: The numbers.
        scale: The scale that was asked for.
        unit: What the rows are, such as "filter".

    Raises:
        FigureError: If the scale does not fit the numbers.
    """
    check_scale(scale)
    kind = ROW_KINDS_BY_UNIT.get(unit, FILTER)
    if SHARE in table:
        if scale != "linear":
            raise FigureError(f"scale={scale!r} is for values of y; shares are linear, in per cent")
        what = kind.counted.replace("_", " ")
        return YAxis(f"pruned {what} of the layer (%)", SHARE, scale)
    if scale == "log" and not (table[VALUE].dropna() > 0).all():
        raise FigureError(
            f"scale='log' needs positive values, and the least is {table[VALUE].min():.3g}; use "
            "scale='symlog'"
        )
    facts = table.iloc[0]
    name = axis_label(str(facts["quantity"]), kind)
    label = f"{facts['aggregate']} of {name}\nepoch {facts['epoch']}"
    return YAxis(label, VALUE, scale)


def scale_values(axes: Axes, rows: pd.DataFrame, axis: YAxis) -> None:
    """Scale the values, and draw the targets of the whole network beside pruned shares."""
    if axis.is_share:
        for target in targets_of(rows):
            axes.axhline(100 * target, color=style.NOTE_COLOUR, linestyle=DASHED, linewidth=0.8)
        axes.set(ylim=(0, 100), yticks=range(0, 101, 25))
    elif axis.scale == "symlog":
        values, spread = (rows[name].to_numpy(dtype=float) for name in (VALUE, f"{VALUE}_sd"))
        spread = np.nan_to_num(spread)
        ends = np.concatenate([values, values - spread, values + spread])
        SignedLog.fit(ends).apply(axes, "y", _GAP)
    elif axis.scale == "log":
        _scale_log(axes, rows[VALUE])
    else:  # a fixed number of ticks, so that the layout does not change their labels
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    if not axis.is_share and axis.scale != "log" and (rows[VALUE] < 0).any():
        axes.axhline(0, color=style.NOTE_COLOUR, linewidth=0.6)


def _scale_log(axes: Axes, values: pd.Series) -> None:
    """A logarithmic axis with few labels: of 1, 2 and 5 if there are few powers of ten."""
    axes.set_yscale("log")
    # Bars begin at a power of ten; lengths from wherever the data ends would mean nothing.
    axes.set_ylim(bottom=10.0 ** math.floor(math.log10(values.min())))
    few = values.max() < 100 * values.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """A number in few characters: `0.25`, `4e−4`, `2e5`."""
    text = scientific(value)
    if len(text) <= _MOST_CHARACTERS:
        return text
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")


def targets_of(rows: pd.DataFrame) -> list[float]:
    """Shares of the whole network that were to be pruned, ascending."""
    known = rows["target"].dropna() if "target" in rows else pd.Series(dtype=float)
    return sorted({float(target) for target in known if target > 0})
