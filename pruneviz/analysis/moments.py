"""Moments of pairs, group by group; moments of parts combine into moments of the whole.

Pearson's correlation and its effective number of pairs are functions of these few numbers. They
therefore need neither all pairs of a group at once nor a loop over groups. Parts are combined by
the rule of Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances", 1979.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, repr=False)
class Moments:
    """Moments of pairs in groups.

    `mean`, `square` and `product` refer to values divided by `scale`. Division by a power of two
    rounds nothing and changes no correlation; it keeps squares of tiny and huge values in range.

    Attributes:
        n: Number of pairs [group].
        least: Smallest x and y [2, group].
        most: Largest x and y [2, group].
        scale: Power of two near the largest absolute value [2, group].
        mean: Means [2, group].
        square: Sums of squared deviations from the mean [2, group].
        product: Sum over products of both deviations [group].
        skew: Sums of product x deviation of x, and of product x deviation of y [2, group].
        quartic: Sum of squared products of both deviations [group].
    """

    n: np.ndarray
    least: np.ndarray
    most: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    product: np.ndarray
    skew: np.ndarray
    quartic: np.ndarray

    def __getitem__(self, groups: np.ndarray) -> Moments:
        return Moments(*(array[..., groups] for array in _arrays(self)))


def moments(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> Moments:
    """Moments of float64 pairs that are stored group after group.

    Args:
        x: First values [pair].
        y: Second values [pair].
        starts: Index at which each group starts [group]; no group is empty.
    """
    n = np.diff(starts, append=len(x))
    sides = [_one_side(values, starts, n) for values in (x, y)]
    least, most, scale, mean, square = (
        np.stack(two) for two in zip(*(side[:5] for side in sides), strict=True)
    )
    with np.errstate(invalid="ignore"):  # infinite values have no deviations
        products = sides[0][5] * sides[1][5]
        product = np.add.reduceat(products, starts)
        skew = np.stack([np.add.reduceat(products * side[5], starts) for side in sides])
        quartic = np.add.reduceat(products**2, starts)
    return Moments(n, least, most, scale, mean, square, product, skew, quartic)


def joined(one: Moments, other: Moments) -> Moments:
    """The groups of `one`, followed by the groups of `other`."""
    pairs = zip(_arrays(one), _arrays(other), strict=True)
    return Moments(*(np.concatenate(two, axis=-1) for two in pairs))


def merged(parts: Moments, starts: np.ndarray) -> Moments:
    """Moments of groups whose parts are stored group after group.

    Args:
        parts: Moments of the parts.
        starts: Index at which each group starts [group].
    """
    counts = np.diff(starts, append=len(parts.n))
    n = np.add.reduceat(parts.n, starts)
    scale = np.maximum.reduceat(parts.scale, starts, axis=-1)
    shrink = parts.scale / np.repeat(scale, counts, axis=-1)
    with np.errstate(invalid="ignore"):
        means = parts.mean * shrink
        mean = np.add.reduceat(parts.n * means, starts, axis=-1) / n
        away = means - np.repeat(mean, counts, axis=-1)
        squares = parts.square * shrink**2 + parts.n * away**2
        square = np.add.reduceat(squares, starts, axis=-1)
        products = parts.product * shrink[0] * shrink[1] + parts.n * away[0] * away[1]
        product = np.add.reduceat(products, starts)
        skew, quartic = _higher(parts, shrink, away)
        skew = np.add.reduceat(skew, starts, axis=-1)
        quartic = np.add.reduceat(quartic, starts)
    least = np.minimum.reduceat(parts.least, starts, axis=-1)
    most = np.maximum.reduceat(parts.most, starts, axis=-1)
    return Moments(n, least, most, scale, mean, square, product, skew, quartic)


def pearson(of: Moments) -> np.ndarray:
    """Pearson's correlation of every group [group].

    Null below 3 pairs, and where x or y holds an infinite value or is constant up to rounding.
    """
    finite = np.isfinite(of.least).all(axis=0) & np.isfinite(of.most).all(axis=0)
    # Below this spread (twice the bound at which scipy warns), deviations from the mean are mostly
    # rounding error.
    spread = np.sqrt(of.square) >= 2 * np.finfo("float64").eps ** 0.75 * np.abs(of.mean)
    varies = (spread & (of.least < of.most)).all(axis=0)
    defined = (of.n >= 3) & finite & varies
    norms = np.where(defined, np.sqrt(of.square), 1.0)
    return np.where(defined, np.clip(of.product / norms[0] / norms[1], -1, 1), np.nan)


def effective_number(of: Moments) -> np.ndarray:
    """Effective number of pairs that carry the correlation of every group [group].

    (sum w)^2 / sum w^2 over the contributions w_p = (x_p - mean x)(y_p - mean y): n if all
    contribute alike, 1 if a single pair does, below 1 where contributions of both signs cancel.
    Null where `pearson` is.
    """
    defined = ~np.isnan(pearson(of)) & (of.quartic > 0)
    number = of.product**2 / np.where(defined, of.quartic, 1.0)
    return np.where(defined, np.minimum(number, of.n), np.nan)


def _higher(parts: Moments, shrink: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`skew` and `quartic` of parts about the mean of their group instead of their own."""
    a, b = away
    xx, yy = parts.square * shrink**2
    xy = parts.product * shrink[0] * shrink[1]
    xxy, xyy = parts.skew * shrink[0] * shrink[1] * shrink
    quartic = parts.quartic * (shrink[0] * shrink[1]) ** 2
    quartic = quartic + 2 * b * xxy + 2 * a * xyy + b**2 * xx + a**2 * yy + 4 * a * b * xy
    skew = np.stack(
        [
            xxy + b * xx + 2 * a * xy + parts.n * a**2 * b,
            xyy + a * yy + 2 * b * xy + parts.n * a * b**2,
        ]
    )
    return skew, quartic + parts.n * (a * b) ** 2


def _one_side(values: np.ndarray, starts: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, ...]:
    """least, most, scale, mean and square per group, and the deviation of each value."""
    least, most = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    scale = _power_of_two(np.maximum(np.abs(least), np.abs(most)))
    with np.errstate(invalid="ignore"):
        values = values / np.repeat(scale, n)
        mean = np.add.reduceat(values, starts) / n
        values -= np.repeat(mean, n)
    return least, most, scale, mean, np.add.reduceat(values**2, starts), values


def _power_of_two(largest: np.ndarray) -> np.ndarray:
    """A power of two in (largest / 2, largest].

    Zero gives the smallest one, so that any other part determines the scale of the group.
    """
    usable = np.clip(largest, np.finfo("float64").tiny, np.finfo("float64").max)
    return np.ldexp(1.0, np.frexp(usable)[1] - 1)


def _arrays(of: Moments) -> list[np.ndarray]:
    return [getattr(of, field.name) for field in dataclasses.fields(of)]
