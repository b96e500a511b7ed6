"""Axes for values of both signs over many decades: logarithmic on both sides of a linear strip around zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

_LINEAR_STRIP = 0.8  # decades' worth of room for either half of the linear strip
_MOST_DECADES = 10  # a side; more would press the cloud of the large values, on which a correlation rests, into a corner
_MARGIN = 0.05


@dataclass(frozen=True)
class SignedLog:
    """One axis: linear up to `threshold` on both sides of zero and logarithmic beyond, showing `low` to `high`."""

    threshold: float
    low: float
    high: float

    @classmethod
    def fit(cls, values: np.ndarray) -> SignedLog:
        """The axis that suits `values`: every value is inside, zero too; the threshold is that of `linear_threshold`."""
        threshold = linear_threshold(values)
        finite = values[np.isfinite(values)]
        ends = _transform(threshold).transform(
            np.array(
                [min(0.0, finite.min(initial=0)), max(0.0, finite.max(initial=0))], dtype=float
            )
        )
        margin = _MARGIN * (ends[1] - ends[0]) or threshold
        low, high = _transform(threshold).inverted().transform(ends + np.array([-margin, margin]))
        return cls(threshold, float(low), float(high))

    def fraction(self, values: np.ndarray) -> np.ndarray:
        """Where values lie on the axis: 0 is its low end and 1 its high end."""
        low, high, *inside = _transform(self.threshold).transform(
            np.array([self.low, self.high, *values], dtype=float)
        )
        return (np.array(inside) - low) / (high - low)

    def decades(self) -> np.ndarray:
        """Powers of ten of both signs inside the axis from the threshold on, and zero, in ascending order."""
        start, end = (
            round(math.log10(x))
            for x in (self.threshold, max(-self.low, self.high, self.threshold))
        )
        powers = [10.0**k for k in range(start, end + 1)]
        return np.array(
            [x for x in sorted([*(-p for p in powers), 0.0, *powers]) if self.low <= x <= self.high]
        )

    def labelled(self, gap: float) -> np.ndarray:
        """The decades that carry a label, at least `gap` (a fraction of the axis) apart.

        They are zero and, on both sides, every k-th exponent counted from the highest of either side: of all such sets the largest.
        """
        decades = self.decades()
        place = self.fraction(decades)
        away = decades[(np.abs(place - self.fraction(np.zeros(1))) >= gap) & off_ends(place)]
        exponents = np.round(np.log10(np.abs(away)))
        best = np.zeros(1)
        for step in range(1, 2 * _MOST_DECADES):
            for top in sorted(
                {exponents[side].max() for side in (away > 0, away < 0) if side.any()}, reverse=True
            ):
                chosen = np.sort(np.append(away[(top - exponents) % step == 0], 0.0))
                if len(chosen) > len(best) and np.all(np.diff(self.fraction(chosen)) >= gap):
                    best = chosen
        return best

    def apply(self, axes: Axes, which: Literal["x", "y"], gap: float) -> None:
        """Give one axis this scale, these limits, labels that do not touch and an unlabelled tick at every other decade."""
        set_scale, set_limits = (
            (axes.set_xscale, axes.set_xlim) if which == "x" else (axes.set_yscale, axes.set_ylim)
        )
        set_scale("symlog", linthresh=self.threshold, linscale=_LINEAR_STRIP)
        set_limits(self.low, self.high)
        axis, labelled = (axes.xaxis if which == "x" else axes.yaxis), self.labelled(gap)
        axis.set_major_locator(FixedLocator(labelled.tolist()))
        axis.set_major_formatter(FixedFormatter([power_of_ten(x) for x in labelled]))
        axis.set_minor_locator(FixedLocator(np.setdiff1d(self.decades(), labelled).tolist()))
        axis.set_minor_formatter(NullFormatter())


def off_ends(place: np.ndarray) -> np.ndarray:
    """Which places on an axis (0: low end, 1: high end) are so far from its ends that labels of two axes cannot meet in the corner."""
    return (place >= 0.04) & (place <= 0.97)


def linear_threshold(values: np.ndarray) -> float:
    """The power of ten up to which an axis of these values is linear.

    It lies at or below all but a tenth of the absolute values other than zero, and at most ten decades below the largest.
    Values that are all zero or absent give 1.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)]).astype(float)
    if not len(sizes):
        return 1.0
    return 10.0 ** math.floor(
        math.log10(max(np.quantile(sizes, 0.1), sizes.max() / 10**_MOST_DECADES))
    )


def power_of_ten(value: float) -> str:
    """The label of a tick: `0`, or a signed power of ten."""
    if value == 0:
        return "0"
    return f"${'-' if value < 0 else ''}10^{{{round(math.log10(abs(value)))}}}$"


def _transform(threshold: float) -> SymmetricalLogTransform:
    return SymmetricalLogTransform(10, threshold, _LINEAR_STRIP)
