"""Bootstraps of the correlation of one group: its layers, runs or filters drawn with replacement.

The coefficient of a resample follows from sums over each unit, weighted by how often the unit was
drawn: moments for the coefficients that are Pearson's of transformed values, concordances of pairs
of units for Kendall's. So a resample costs a product of matrices, however many filters a unit has.
Everything happens on the scale of atanh(r), so that no end leaves the range from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

from pruneviz.analysis.moments import Moments, merged

FEWEST_UNITS = 5  # fewer layers give no distribution to speak of
_AT_ONCE = 2_000_000  # numbers of a block of resamples
_PERFECT = 1 - 1e-12  # correlations beyond it have no spread left to resample
_BLOCK = 2_000_000  # comparisons of pairs held at once

Ends = tuple[float, float]
EVERYTHING: Ends = (-1.0, 1.0)


@dataclass(frozen=True)
class Resampling:
    """How intervals are resampled.

    Attributes:
        level: Confidence level, between 0 and 1.
        resamples: Draws per group.
        seed: Seed of the draws, the same for every group, so that groups do not depend on others.
    """

    level: float
    resamples: int
    seed: int


class Weighted(Protocol):
    """A coefficient as a function of how often each unit counts."""

    @property
    def units(self) -> int:
        """Number of units."""

    def z(self, weights: np.ndarray) -> np.ndarray:
        """atanh(r) for each row of weights [resample, unit]."""

    def z_without(self, weights: np.ndarray) -> np.ndarray:
        """The same with one unit counted once less, for each unit [resample, unit]."""


@dataclass(frozen=True, repr=False)
class WeightedPearson:
    """Pearson's coefficient of weighted units.

    Attributes:
        sums: Of every unit: 1, x, y, x^2, y^2 and xy over its pairs, with x and y in standard
            deviations from the mean of the group [unit, 6].
    """

    sums: np.ndarray

    @classmethod
    def of(cls, parts: Moments) -> WeightedPearson:
        """From the moments of the units of one group."""
        whole = merged(parts, np.zeros(1, dtype="int64"))
        shrink = parts.scale / whole.scale / np.sqrt(whole.square / whole.n)
        centre = whole.mean / np.sqrt(whole.square / whole.n)
        x, y = away = parts.mean * shrink - centre
        squares = parts.square * shrink**2 + parts.n * away**2
        products = parts.product * shrink[0] * shrink[1] + parts.n * x * y
        return cls(np.stack([parts.n, parts.n * x, parts.n * y, *squares, products], axis=-1))

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.sums)

    def z(self, weights: np.ndarray) -> np.ndarray:
        """atanh(r) for each row of weights [resample, unit]."""
        return _z_of_sums(weights @ self.sums)

    def z_without(self, weights: np.ndarray) -> np.ndarray:
        """The same with one unit counted once less, for each unit [resample, unit]."""
        return _z_of_sums((weights @ self.sums)[:, np.newaxis] - self.sums)


@dataclass(frozen=True, repr=False)
class WeightedKendall:
    """Kendall's tau-b of weighted units.

    Attributes:
        signs: Sums over the pairs of filters of two units: products of the signs of their
            differences in x and y, and squares of each sign [3, unit, unit].
    """

    signs: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> WeightedKendall:
        """From the pairs of one group, unit after unit."""
        signs = np.zeros((3, len(starts), len(starts)))
        owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(x)))
        step = max(1, _BLOCK // len(x))
        for first in range(0, len(x), step):
            rows = slice(first, first + step)
            a, b = (np.sign(values[rows, np.newaxis] - values) for values in (x, y))
            for place, table in enumerate((a * b, a * a, b * b)):
                np.add.at(signs[place], owner[rows], np.add.reduceat(table, starts, axis=1))
        return cls(signs)

    @property
    def units(self) -> int:
        """Number of units."""
        return self.signs.shape[1]

    def z(self, weights: np.ndarray) -> np.ndarray:
        """atanh(tau) for each row of weights [resample, unit]."""
        return _z_of_signs(np.stack([((weights @ of) * weights).sum(axis=1) for of in self.signs]))

    def z_without(self, weights: np.ndarray) -> np.ndarray:
        """The same with one unit counted once less, for each unit [resample, unit]."""
        rests = []
        for of in self.signs:
            rows = weights @ of
            whole = (rows * weights).sum(axis=1, keepdims=True)
            rests.append(whole - 2 * rows + np.diag(of))
        return _z_of_signs(np.stack(rests))


def studentised(of: Weighted, how: Resampling) -> Ends:
    """Symmetric studentised bootstrap interval; errors are those of the jackknife over units.

    Args:
        of: The coefficient of one group, by the units that are drawn, such as layers.
        how: Level, number of draws and seed.

    Returns:
        Lower and upper end; -1 and 1 if there are fewer than `FEWEST_UNITS` units.

    References:
        Hall, "On symmetric bootstrap confidence intervals", 1988.
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12.
    """
    count = of.units
    if count < FEWEST_UNITS:
        return EVERYTHING
    z, error = (numbers[0] for numbers in _z_and_error(of, np.ones((1, count))))
    if _perfect(z):
        return np.tanh(z), np.tanh(z)
    sizes = []
    for weights in _drawn(count, how):
        zs, errors = _z_and_error(of, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes.append(np.abs(zs - z) / errors)
    # An infinite size, of a draw without spread, counts as one that is beyond all others.
    half = error * np.nanquantile(np.concatenate(sizes), how.level, method="higher")
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def percentiles(of: Weighted, how: Resampling) -> Ends:
    """Percentile bootstrap interval.

    Args:
        of: The coefficient of one group, by the units that are drawn, such as filters.
        how: Level, number of draws and seed.
    """
    zs = np.concatenate([of.z(weights) for weights in _drawn(of.units, how)])
    z = of.z(np.ones((1, of.units)))[0]
    return (np.tanh(z), np.tanh(z)) if _perfect(z) else _percentiles(zs, how)


def nested(of: Weighted, outer: np.ndarray, how: Resampling) -> Ends:
    """Hierarchical bootstrap interval: runs are drawn, and in each drawn run its layers.

    Its width is Student's quantile, by the number of runs, times the spread of the draws.

    Args:
        of: The coefficient of one group, by the layers of its runs.
        outer: The run that each layer belongs to, as numbers from 0 on [unit].
        how: Level, number of draws and seed.

    Returns:
        Lower and upper end; -1 and 1 for a single run.

    References:
        Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8.
    """
    runs = int(outer.max()) + 1
    z = of.z(np.ones((1, of.units)))[0]
    if runs < 2:
        return EVERYTHING
    if _perfect(z):
        return np.tanh(z), np.tanh(z)
    generator = np.random.default_rng(how.seed)
    times = generator.multinomial(runs, np.full(runs, 1 / runs), size=how.resamples)
    weights = np.zeros((how.resamples, of.units))
    for run in range(runs):
        mine = np.flatnonzero(outer == run)
        chances = np.full(len(mine), 1 / len(mine))
        weights[:, mine] = generator.multinomial(times[:, run] * len(mine), chances)
    zs = of.z(weights)
    # Draws of few runs spread less than new runs would, by runs - 1 of runs.
    spread = np.std(zs[np.isfinite(zs)]) * np.sqrt(runs / (runs - 1))
    half = special.stdtrit(runs - 1, (1 + how.level) / 2) * spread
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def jackknife(of: Weighted, level: float) -> Ends:
    """Student's t interval with the jackknife's error over units.

    Args:
        of: The coefficient of one group, by units such as runs.
        level: Confidence level, between 0 and 1.

    Returns:
        Lower and upper end; -1 and 1 for a single unit.
    """
    if of.units < 2:
        return EVERYTHING
    z, error = (numbers[0] for numbers in _z_and_error(of, np.ones((1, of.units))))
    half = special.stdtrit(of.units - 1, (1 + level) / 2) * error
    if _perfect(z):
        return np.tanh(z), np.tanh(z)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _perfect(z: float) -> bool:
    return bool(abs(np.tanh(z)) >= _PERFECT)


def _percentiles(zs: np.ndarray, how: Resampling) -> Ends:
    low, high = np.nanquantile(
        np.tanh(zs), [(1 - how.level) / 2, (1 + how.level) / 2], method="linear"
    )
    return float(low), float(high)


def _drawn(count: int, how: Resampling) -> Iterator[np.ndarray]:
    """How often each unit is drawn, in blocks [resample, unit]."""
    generator, left = np.random.default_rng(how.seed), how.resamples
    while left:
        block = min(left, max(1, _AT_ONCE // count))
        yield generator.multinomial(count, np.full(count, 1 / count), size=block)
        left -= block


def _z_and_error(of: Weighted, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """atanh(r) and its jackknife error, for each row of weights [resample, unit]."""
    drawn = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        without = np.where(weights > 0, of.z_without(weights), 0.0)
        mean = (weights * without).sum(axis=1) / drawn
        squares = (weights * (without - mean[:, np.newaxis]) ** 2).sum(axis=1)
    return of.z(weights), np.sqrt((drawn - 1) / drawn * squares)


def _z_of_sums(sums: np.ndarray) -> np.ndarray:
    n, *totals = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y, xx, yy, xy = (total / n for total in totals)
        spread = np.maximum(xx - x**2, 0) * np.maximum(yy - y**2, 0)
        return np.arctanh(np.clip((xy - x * y) / np.sqrt(spread), -1, 1))


def _z_of_signs(signs: np.ndarray) -> np.ndarray:
    both, of_x, of_y = signs
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.arctanh(np.clip(both / np.sqrt(of_x * of_y), -1, 1))
