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

from pruneviz.analysis.moments import Moments

FEWEST_UNITS = 5  # fewer layers give no distribution to speak of
_AT_ONCE = 250_000  # numbers of a block of resamples: small enough for the processor's cache
_LOST = 1e-6  # share of a sum below which what is left of it has lost half of its digits
_PERFECT = 1 - 1e-12  # correlations beyond it have no spread left to resample

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

    Deviations are taken from the mean of every resample: about the mean of the group, a resample
    without the unit that has by far the largest values would be all rounding.

    Attributes:
        n: Number of pairs of each unit [unit].
        mean: Means of x and y of each unit, on one scale for all units [2, unit].
        inner: Sums of squared deviations of x and of y from the means of a unit, and of their
            products [3, unit].
    """

    n: np.ndarray
    mean: np.ndarray
    inner: np.ndarray

    @classmethod
    def of(cls, parts: Moments) -> WeightedPearson:
        """From the moments of the units of one group."""
        shrink = parts.scale / parts.scale.max(axis=1, keepdims=True)
        products = parts.product * shrink[0] * shrink[1]
        return cls(parts.n, parts.mean * shrink, np.stack([*parts.square * shrink**2, products]))

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.n)

    def z(self, weights: np.ndarray) -> np.ndarray:
        """atanh(r) for each row of weights [resample, unit]."""
        sums, _ = self._centred(weights)
        return _z_of_sums(*sums[..., 0])

    def z_without(self, weights: np.ndarray) -> np.ndarray:
        """The same with one unit counted once less, for each unit [resample, unit]."""
        sums, own = self._centred(weights)
        n = weights @ self.n
        with np.errstate(divide="ignore", invalid="ignore"):
            # The mean moves away from the unit that goes: the deletion form of Chan's update.
            share = self.n / (n[:, np.newaxis] - self.n)
            left = [
                whole - mine - between * share
                for whole, mine, between in zip(
                    sums, self.inner[:, np.newaxis] + own, own, strict=True
                )
            ]
        found = _z_of_sums(*left)
        # Little is left of a sum that one unit made nearly alone: sum up the others instead.
        lost = (left[0] < _LOST * sums[0]) | (left[1] < _LOST * sums[1])
        draws, units = np.nonzero(lost & (weights > 0))
        for first in range(0, len(draws), step := max(1, _AT_ONCE // self.units)):
            some = slice(first, first + step)
            less = weights[draws[some]].astype("float64")
            less[np.arange(len(less)), units[some]] -= 1
            found[draws[some], units[some]] = self.z(less)
        return found

    def _centred(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums about the mean of each resample [3, resample, 1], and what units have in them.

        The latter is n times the products of the deviations of the unit's means [3, resample,
        unit].
        """
        counts = weights * self.n
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = weights @ (self.n * self.mean).T / counts.sum(axis=1, keepdims=True)
        x, y = self.mean[:, np.newaxis] - mean.T[..., np.newaxis]
        own = self.n * np.stack([x * x, y * y, x * y])
        sums = [
            (weights * (mine + inner)).sum(axis=1, keepdims=True)
            for mine, inner in zip(own, self.inner, strict=True)
        ]
        return np.stack(sums), own


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
        # Ranks, because infinite values have no differences.
        x, y = (np.unique(values, return_inverse=True)[1].astype("float64") for values in (x, y))
        owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(x)))
        step = max(1, _AT_ONCE // len(x))
        for first in range(0, len(x), step):
            rows = slice(first, first + step)
            mine, of_mine = np.unique(owner[rows], return_index=True)
            a, b = (np.sign(values[rows, np.newaxis] - values) for values in (x, y))
            for place, table in enumerate((a * b, a * a, b * b)):
                of_units = np.add.reduceat(np.add.reduceat(table, of_mine), starts, axis=1)
                signs[place, mine] += of_units
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
        Lower and upper end; -1 and 1 if there are fewer than `FEWEST_UNITS` units, if there is no r
        without some unit, or if too many draws have none.

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
    # A draw without a spread or without a coefficient counts as one that is beyond all others.
    found = np.nan_to_num(np.concatenate(sizes), nan=np.inf, posinf=np.inf)
    return _about(z, error, np.quantile(found, how.level, method="higher"))


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
    zs = np.concatenate([of.z(block) for block in _blocks(weights)])
    known = np.isfinite(zs)
    if known.mean() < how.level:  # draws without a coefficient could be anywhere
        return EVERYTHING
    # Draws of few runs spread less than new runs would, by runs - 1 of runs.
    spread = np.std(zs[known]) * np.sqrt(runs / (runs - 1))
    return _about(z, spread, special.stdtrit(runs - 1, (1 + how.level) / 2))


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
    if _perfect(z):
        return np.tanh(z), np.tanh(z)
    return _about(z, error, special.stdtrit(of.units - 1, (1 + level) / 2))


def _perfect(z: float) -> bool:
    return bool(abs(np.tanh(z)) >= _PERFECT)


def _about(z: float, error: float, times: float) -> Ends:
    """Ends at some errors from atanh(r); -1 and 1 if the error is unknown or there is no limit."""
    with np.errstate(invalid="ignore"):
        half = error * times
    if not np.isfinite(half):  # such as of an r that exists only with one certain unit
        return EVERYTHING
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _percentiles(zs: np.ndarray, how: Resampling) -> Ends:
    """Draws without a coefficient could be anywhere, so they count as beyond either end."""
    tail, r = (1 - how.level) / 2, np.tanh(zs)
    low = np.quantile(np.nan_to_num(r, nan=-1.0), tail)
    high = np.quantile(np.nan_to_num(r, nan=1.0), 1 - tail)
    return float(low), float(high)


def _blocks(weights: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _AT_ONCE // weights.shape[1])
    for first in range(0, len(weights), step):
        yield weights[first : first + step]


def _drawn(count: int, how: Resampling) -> Iterator[np.ndarray]:
    """How often each unit is drawn, in blocks [resample, unit]."""
    generator, left = np.random.default_rng(how.seed), how.resamples
    while left:
        block = min(left, max(1, _AT_ONCE // count))
        # Counted indices: a multinomial distribution draws a binomial for every single unit.
        places = generator.integers(count, size=(block, count))
        places += np.arange(block)[:, np.newaxis] * count
        found = np.bincount(places.ravel(), minlength=block * count)
        yield found.reshape(block, count).astype("float64")
        left -= block


def _z_and_error(of: Weighted, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """atanh(r) and its jackknife error, for each row of weights [resample, unit]."""
    drawn = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        without = np.where(weights > 0, of.z_without(weights), 0.0)
        mean = (weights * without).sum(axis=1) / drawn
        squares = (weights * (without - mean[:, np.newaxis]) ** 2).sum(axis=1)
    return of.z(weights), np.sqrt((drawn - 1) / drawn * squares)


def _z_of_sums(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(xx, 0)) * np.sqrt(np.maximum(yy, 0))
        return np.arctanh(np.clip(xy / spread, -1, 1))


def _z_of_signs(signs: np.ndarray) -> np.ndarray:
    both, of_x, of_y = signs
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.arctanh(np.clip(both / np.sqrt(of_x * of_y), -1, 1))
