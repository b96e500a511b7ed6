"""Axes of a scatter plot: their scales, and labels of ticks that do not touch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from pruneviz.plot import style
from pruneviz.plot.points import AxisScale
from pruneviz.plot.signed_log import SignedLog, off_ends, spans_decades
from pruneviz.plot.words import scientific

# Least distance of two tick labels, as a fraction of the axis: while the size of panels is unknown,
# and in inches.
GAPS = (0.27, 0.13)
_LABEL = (0.35, 0.22)
_ONE_LABEL = 0.5  # least distance from which an axis has room for a single label
_POINTS = 7.5  # size of the text that these inches are for
_CHARACTER, _APART = 0.62, 0.6  # width of a character and least gap, in font sizes
_INCH = 72  # points


def scale_axis(
    axes: Axes, which: Literal["x", "y"], values: np.ndarray, scale: AxisScale, gap: float
) -> None:
    """Scale, ticks and, where the axis has it, a line at zero.

    Args:
        axes: The panel.
        which: The axis.
        values: What is drawn along it.
        scale: "symlog", for values over decades, or "linear".
        gap: Least distance of two tick labels, as a fraction of the axis.
    """
    axis, guide = (axes.xaxis, axes.axvline) if which == "x" else (axes.yaxis, axes.axhline)
    logarithmic = scale == "symlog" and spans_decades(values)
    if logarithmic or (values.size and values.min() <= 0 <= values.max()):
        guide(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    if logarithmic:
        SignedLog.fit(values).apply(axes, which, gap)
        return
    most = max(1 if gap > _ONE_LABEL else 2, round(0.8 / gap))
    axis.set_major_locator(FixedLocator(linear_ticks(*axis.get_view_interval(), most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: scientific(value)))


def fit_labels(axes: Axes, size: float | None = None) -> None:
    """Label as many ticks beside each other as fit, once a panel has its width.

    Args:
        axes: A panel of `scale_axis`.
        size: Size of the labels in points. Default: as they are.
    """
    if size is not None:
        axes.tick_params(axis="x", labelsize=size)
    if axes.get_xscale() == "symlog":
        SignedLog.of(axes, "x").tick(axes, "x", label_gaps(axes, 1)[0])
        return
    low, high = axes.get_xlim()
    for most in range(len(axes.get_xticks()), 0, -1):
        ticks = linear_ticks(low, high, most)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        if ticks and _fit(axes, ticks):
            return


def _fit(axes: Axes, ticks: list[float]) -> bool:
    """Whether numbers at ticks do not touch."""
    inches = axes.get_window_extent().width / axes.figure.figure.dpi
    size = _size(axes) / _INCH
    low, high = axes.get_xlim()
    widths = np.array([_CHARACTER * len(scientific(tick)) + _APART for tick in ticks]) * size
    apart = np.diff(ticks) / (high - low) * inches
    return bool(np.all(apart >= (widths[1:] + widths[:-1]) / 2))


def label_gaps(axes: Axes, panels: int) -> tuple[float, float]:
    """Least distance of two tick labels on both axes, as a fraction of the axis.

    Args:
        axes: A panel.
        panels: Number of panels; several have no size until the picture is laid out.
    """
    if panels > 1:
        return GAPS
    inches = np.asarray(axes.get_window_extent().size) / axes.figure.figure.dpi
    across, up = np.clip(np.array(_LABEL) * _size(axes) / _POINTS / inches, 0.05, 1.0)
    return float(across), float(up)


def _size(axes: Axes) -> float:
    """Size of the tick labels in points."""
    return float(axes.xaxis.get_major_ticks(1)[0].label1.get_fontsize())


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values inside an axis, at most `most`, none at its ends."""
    inside = np.array([])
    for bins in range(most + 2, 1, -1):
        locator = MaxNLocator(nbins=bins, steps=[1, 2, 5, 10])
        ticks = np.asarray(locator.tick_values(low, high))
        inside = ticks[off_ends((ticks - low) / (high - low))]
        if 0 < len(inside) <= most:
            return list(inside.tolist())
    return list(inside[len(inside) // 2 :][:most].tolist())
