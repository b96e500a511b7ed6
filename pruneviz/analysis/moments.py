"""Means, spreads and products of pairs, group by group, which add up: the moments of two parts of a group make those of the whole.

Pearson's correlation is a function of these few numbers, so it needs neither all pairs of a group at once nor a loop over the groups.
The rule for joining parts: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Moments of pairs in groups; `n` and `product` are [group], all others [2, group], for x and for y.

    `mean`, `square` and `product` are of values divided by `scale`, a power of two near the largest of the group: that changes no
    correlation and rounds nothing, and keeps squares of tiny and of huge values in range.
    """

    n: np.ndarray  # pairs
    least: np.ndarray
    most: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    square: np.ndarray  # sum of squared deviations from the mean
    product: np.ndarray  # sum of products of the two deviations

    def __getitem__(self, groups: np.ndarray) -> Moments:
        return Moments(*(array[..., groups] for array in _arrays(self)))


def moments(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> Moments:
    """The moments of float64 pairs that lie group after group; `starts` are the positions where the groups, none empty, begin."""
    n = np.diff(starts, append=len(x))
    sides = [_one_side(values, starts, n) for values in (x, y)]
    least, most, scale, mean, square = (
        np.stack(two) for two in zip(*(side[:5] for side in sides), strict=True)
    )
    with np.errstate(invalid="ignore"):  # infinite values have no deviations
        product = np.add.reduceat(sides[0][5] * sides[1][5], starts)
    return Moments(n, least, most, scale, mean, square, product)


def joined(one: Moments, other: Moments) -> Moments:
    """The groups of one, then those of the other."""
    return Moments(
        *(np.concatenate(two, axis=-1) for two in zip(_arrays(one), _arrays(other), strict=True))
    )


def merged(parts: Moments, starts: np.ndarray) -> Moments:
    """The moments of groups whose parts lie group after group; `starts` are the positions where those of a group begin."""
    counts = np.diff(starts, append=len(parts.n))
    n = np.add.reduceat(parts.n, starts)
    scale = np.maximum.reduceat(parts.scale, starts, axis=-1)
    shrink = parts.scale / np.repeat(scale, counts, axis=-1)
    with np.errstate(invalid="ignore"):
        means = parts.mean * shrink
        mean = np.add.reduceat(parts.n * means, starts, axis=-1) / n
        away = means - np.repeat(mean, counts, axis=-1)
        square = np.add.reduceat(parts.square * shrink**2 + parts.n * away**2, starts, axis=-1)
        product = np.add.reduceat(
            parts.product * shrink[0] * shrink[1] + parts.n * away[0] * away[1], starts
        )
    least, most = (
        np.minimum.reduceat(parts.least, starts, axis=-1),
        np.maximum.reduceat(parts.most, starts, axis=-1),
    )
    return Moments(n, least, most, scale, mean, square, product)


def pearson(of: Moments) -> np.ndarray:
    """Pearson's correlation of every group: null below 3 pairs, and where x or y is infinite somewhere, or constant but for rounding."""
    finite = np.isfinite(of.least).all(axis=0) & np.isfinite(of.most).all(axis=0)
    # Below this spread (twice the bound at which scipy warns) the deviations from the mean are mostly its rounding error.
    spread = np.sqrt(of.square) >= 2 * np.finfo("float64").eps ** 0.75 * np.abs(of.mean)
    defined = (of.n >= 3) & finite & (spread & (of.least < of.most)).all(axis=0)
    norms = np.where(defined, np.sqrt(of.square), 1.0)
    return np.where(defined, np.clip(of.product / norms[0] / norms[1], -1, 1), np.nan)


def _one_side(values: np.ndarray, starts: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, ...]:
    """least, most, scale, mean and square of every group, and the deviation of every value."""
    least, most = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    scale = _power_of_two(np.maximum(np.abs(least), np.abs(most)))
    with np.errstate(invalid="ignore"):
        values = values / np.repeat(scale, n)
        mean = np.add.reduceat(values, starts) / n
        values -= np.repeat(mean, n)
    return least, most, scale, mean, np.add.reduceat(values**2, starts), values


def _power_of_two(largest: np.ndarray) -> np.ndarray:
    """At most `largest`, above its half; where all is zero the smallest, so that it gives way to that of any other part of the group."""
    usable = np.clip(largest, np.finfo("float64").tiny, np.finfo("float64").max)
    return np.ldexp(1.0, np.frexp(usable)[1] - 1)


def _arrays(of: Moments) -> list[np.ndarray]:
    return [getattr(of, field.name) for field in dataclasses.fields(of)]
