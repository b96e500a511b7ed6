"""Axes for values of both signs over many decades: symmetric-log, linear around zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from pruneviz.analysis.symmetric_log import linear_threshold

_LINEAR_STRIP = 0.8  # width of each half of the linear strip, in decades
_MOST_STEP = 20  # decades between labels
_MARGIN = 0.05
_NARROW = 100  # values of one sign within such a factor are shown on a linear axis


@dataclass(frozen=True)
class SignedLog:
    """One axis: linear up to `threshold` on both sides of zero, logarithmic beyond it.

    Attributes:
        threshold: Absolute value up to which the axis is linear.
        low: Lower end of the axis.
        high: Upper end of the axis.
    """

    threshold: float
    low: float
    high: float

    @classmethod
    def fit(cls, values: np.ndarray) -> SignedLog:
        """The axis that includes zero and all `values`, linear up to `linear_threshold`."""
        threshold = linear_threshold(values)
        finite = values[np.isfinite(values)]
        least, most = min(0.0, finite.min(initial=0)), max(0.0, finite.max(initial=0))
        ends = _transform(threshold).transform(np.array([least, most], dtype=float))
        margin = _MARGIN * (ends[1] - ends[0]) or threshold
        low, high = _transform(threshold).inverted().transform(ends + np.array([-margin, margin]))
        return cls(threshold, float(low), float(high))

    def fraction(self, values: np.ndarray) -> np.ndarray:
        """Positions of values on the axis, from 0 (low end) to 1 (high end)."""
        all_values = np.array([self.low, self.high, *values], dtype=float)
        low, high, *inside = _transform(self.threshold).transform(all_values)
        return (np.array(inside) - low) / (high - low)

    def decades(self) -> np.ndarray:
        """Zero and the powers of ten on the axis from the threshold on, ascending."""
        most = max(-self.low, self.high, self.threshold)
        start, end = round(math.log10(self.threshold)), round(math.log10(most))
        powers = [10.0**exponent for exponent in range(start, end + 1)]
        both = sorted([*(-power for power in powers), 0.0, *powers])
        return np.array([value for value in both if self.low <= value <= self.high])

    def labelled(self, gap: float) -> np.ndarray:
        """Choose the decades that get a label.

        These are zero and, on both sides, every k-th exponent counted from the highest one, with
        the smallest k for which labels do not touch.

        Args:
            gap: Least distance between labels, as a fraction of the axis.
        """
        decades = self.decades()
        place = self.fraction(decades)
        from_zero = np.abs(place - self.fraction(np.zeros(1)))
        away = decades[(from_zero >= gap) & off_ends(place)]
        exponents = np.round(np.log10(np.abs(away)))
        sides = [side for side in (away > 0, away < 0) if side.any()]
        tops = sorted({exponents[side].max() for side in sides}, reverse=True)
        best = np.zeros(1)
        for step in range(1, _MOST_STEP):
            for top in tops:
                chosen = np.sort(np.append(away[(top - exponents) % step == 0], 0.0))
                fits = np.all(np.diff(self.fraction(chosen)) >= gap)
                if fits and len(chosen) > len(best):
                    best = chosen
        return best

    def apply(self, axes: Axes, which: Literal["x", "y"], gap: float) -> None:
        """Give one axis of a plot this scale, its limits and its ticks.

        Args:
            axes: The plot.
            which: The axis.
            gap: Least distance between tick labels, as a fraction of the axis. Other decades get a
                tick without a label.
        """
        is_x = which == "x"
        axis: Axis = axes.xaxis if is_x else axes.yaxis
        set_scale = axes.set_xscale if is_x else axes.set_yscale
        set_limits = axes.set_xlim if is_x else axes.set_ylim
        set_scale("symlog", linthresh=self.threshold, linscale=_LINEAR_STRIP)
        set_limits(self.low, self.high)
        labelled = self.labelled(gap)
        axis.set_major_locator(FixedLocator(labelled.tolist()))
        axis.set_major_formatter(FixedFormatter([power_of_ten(value) for value in labelled]))
        axis.set_minor_locator(FixedLocator(np.setdiff1d(self.decades(), labelled).tolist()))
        axis.set_minor_formatter(NullFormatter())


def off_ends(place: np.ndarray) -> np.ndarray:
    """Whether labels at these positions are clear of the corner between two axes."""
    return (place >= 0.04) & (place <= 0.97)


def spans_decades(values: np.ndarray) -> bool:
    """Whether values need a signed-log axis: they have both signs or span two decades or more."""
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() <= 0 <= finite.max():
        return True
    sizes = np.abs(finite)
    return bool(sizes.max() >= _NARROW * sizes.min())


def power_of_ten(value: float) -> str:
    """The label of a tick: `0`, or a signed power of ten."""
    if value == 0:
        return "0"
    return f"${'-' if value < 0 else ''}10^{{{round(math.log10(abs(value)))}}}$"


def _transform(threshold: float) -> SymmetricalLogTransform:
    return SymmetricalLogTransform(10, threshold, _LINEAR_STRIP)
