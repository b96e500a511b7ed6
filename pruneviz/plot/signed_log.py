"""Axes for values of both signs over many decades: symmetric-log, linear around zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from pruneviz.analysis.symmetric_log import LEAST_THRESHOLD, MOST_THRESHOLD, linear_threshold
from pruneviz.plot import style

_LINEAR_STRIP = 0.8  # width of each half of the linear strip, in decades
_MOST_STEP = 20  # decades between labels
_MARGIN = 0.05
_LARGEST = 1.79e308  # ends of an axis; matplotlib's rounding takes the largest float for infinite
_FEW_TICKS = 4
_SHADED: Mapping[str, Any] = MappingProxyType(
    {"color": style.GUIDE_COLOUR, "alpha": 0.16, "linewidth": 0, "zorder": -1}
)
# Widths of characters, in font sizes.
_DIGIT, _MINUS, _SMALL = 0.64, 0.84, 0.7
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
        least, most = float(finite.min(initial=0)), float(finite.max(initial=0))
        if 0 < max(-least, most) < threshold:  # all so small that they are shown as zero
            least, most = -threshold, threshold
        ends = _transform(threshold).transform(np.array([least, most], dtype=float))
        margin = _MARGIN * (ends[1] - ends[0]) or threshold
        with np.errstate(over="ignore"):  # above the largest float: the axis ends there
            ends = _transform(threshold).inverted().transform(ends + np.array([-margin, margin]))
        low, high = np.clip(ends, min(least, -_LARGEST), max(most, _LARGEST))
        return cls(threshold, float(low), float(high))

    @classmethod
    def of(cls, axes: Axes, which: Literal["x", "y"]) -> SignedLog:
        """The axis of a plot that `apply` gave this scale."""
        axis: Axis = axes.xaxis if which == "x" else axes.yaxis
        transform = cast(SymmetricalLogTransform, axis.get_transform())
        low, high = axis.get_view_interval()
        return cls(float(transform.linthresh), float(low), float(high))

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

    def labelled(self, gap: float, which: Literal["x", "y"] = "y") -> np.ndarray:
        """Choose the decades that get a label: as many as do not touch, zero among them.

        These are every k-th exponent. An exponent that is on both sides of the axis has a label on
        both or on none, unless that leaves zero alone.

        Args:
            gap: Room of the label of a negative power of ten, as a fraction of the axis.
            which: The axis; beside each other, narrow labels need less room.
        """
        decades = self.decades()
        away = decades[(decades != 0) & off_ends(self.fraction(decades))]
        free = [value for value in away if self._fit(np.sort([value, 0.0]), gap, which)]
        paired = [value for value in free if -value in free or -value not in decades]
        return np.sort([0.0, *self._spread(paired or free, gap, which)])

    def _spread(
        self, values: Sequence[float], gap: float, which: Literal["x", "y"]
    ) -> Sequence[float]:
        """The most values whose labels touch neither each other nor that of zero."""
        exponents = sorted({_exponent(value) for value in values}, reverse=True)
        for step in range(1, _MOST_STEP):
            choices = [
                [value for value in values if (start - _exponent(value)) % step == 0]
                for start in exponents[:step]
            ]
            fitting = [each for each in choices if self._fit(np.sort([*each, 0.0]), gap, which)]
            if fitting:
                return max(fitting, key=len)
        return values[:1]

    def _fit(self, labels: np.ndarray, gap: float, which: Literal["x", "y"]) -> bool:
        room = np.full(len(labels), gap)
        if which == "x":
            room = gap * np.array([_width(value) for value in labels]) / _width(-0.1)
        apart = np.diff(self.fraction(labels))
        return bool(np.all(apart >= (room[1:] + room[:-1]) / 2))

    def apply(self, axes: Axes, which: Literal["x", "y"], gap: float) -> None:
        """Give one axis of a plot this scale, its limits and its ticks, and shade its linear strip.

        Args:
            axes: The plot.
            which: The axis.
            gap: As for `tick`.
        """
        is_x = which == "x"
        set_scale = axes.set_xscale if is_x else axes.set_yscale
        set_limits = axes.set_xlim if is_x else axes.set_ylim
        set_scale("symlog", linthresh=self.threshold, linscale=_LINEAR_STRIP)
        shade = axes.axvspan if is_x else axes.axhspan
        with np.errstate(over="ignore"):  # near the largest float, which is off the axis
            shade(max(self.low, -self.threshold), min(self.high, self.threshold), **_SHADED)
            set_limits(self.low, self.high)
        self.tick(axes, which, gap)

    def tick(self, axes: Axes, which: Literal["x", "y"], gap: float) -> None:
        """Give one axis of a plot the ticks of this scale.

        Args:
            axes: The plot.
            which: The axis.
            gap: Room of a label, as for `labelled`. Other decades get a tick without a label.
        """
        axis: Axis = axes.xaxis if which == "x" else axes.yaxis
        labelled = self.labelled(gap, which)
        axis.set_major_locator(FixedLocator(labelled.tolist()))
        axis.set_major_formatter(FixedFormatter([power_of_ten(value) for value in labelled]))
        axis.set_minor_locator(FixedLocator(self.unlabelled(labelled).tolist()))
        axis.set_minor_formatter(NullFormatter())

    def unlabelled(self, labelled: np.ndarray) -> np.ndarray:
        """Ticks without a label: the other decades and, if ticks are few, twos and fives.

        Args:
            labelled: Ticks with a label.
        """
        decades = self.decades()
        ticks = np.setdiff1d(decades, labelled)
        if len(decades) >= _FEW_TICKS:
            return ticks
        most = max(-self.low, self.high)
        powers = [self.threshold * 10.0**place for place in range(-1, 2)]
        further = [sign * part * power for sign in (-1, 1) for part in (2, 5) for power in powers]
        inside = [v for v in further if self.low <= v <= self.high and abs(v) <= most]
        return np.sort(np.append(ticks, inside))


def off_ends(place: np.ndarray) -> np.ndarray:
    """Whether labels at these positions are clear of the corner between two axes."""
    return (place >= 0.04) & (place <= 0.97)


def spans_decades(values: np.ndarray) -> bool:
    """Whether values need a signed-log axis: they have both signs or span two decades or more.

    Also values as small or large as matplotlib shows on no linear axis.
    """
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() <= 0 <= finite.max():
        return True
    sizes = np.abs(finite)
    if not LEAST_THRESHOLD <= sizes.max() <= MOST_THRESHOLD:  # as no linear axis can
        return True
    return bool(sizes.max() >= _NARROW * sizes.min())


def power_of_ten(value: float) -> str:
    """The label of a tick: `0`, or a signed power of ten."""
    if value == 0:
        return "0"
    return f"${'-' if value < 0 else ''}10^{{{_exponent(value)}}}$"


def _exponent(value: float) -> int:
    """The exponent of a power of ten of either sign."""
    return round(math.log10(abs(value)))


def _width(value: float) -> float:
    """Width of the label of a power of ten or zero, with a gap after it, in font sizes."""
    if value == 0:
        return 2 * _DIGIT
    exponent = _exponent(value)
    small = _DIGIT * len(str(abs(exponent))) + _MINUS * (exponent < 0)
    return 3 * _DIGIT + _MINUS * (value < 0) + _SMALL * small


def _transform(threshold: float) -> SymmetricalLogTransform:
    return SymmetricalLogTransform(10, threshold, _LINEAR_STRIP)
