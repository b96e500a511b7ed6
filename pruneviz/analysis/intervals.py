"""Confidence intervals of the correlations of groups, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from scipy import special

from pruneviz.analysis.coefficients import TRANSFORMS, coefficients, transformed
from pruneviz.analysis.moments import Moments, moments
from pruneviz.analysis.resampling import (
    Ends,
    Resampling,
    Weighted,
    WeightedKendall,
    WeightedPearson,
    jackknife,
    nested,
    percentiles,
    studentised,
)
from pruneviz.errors import AnalysisError
from pruneviz.log.vocabulary import CorrelationMethod

Interval = Literal["auto", "layers", "seeds", "hierarchical", "filters", "fisher"]

# Columns that name the units which an interval resamples; for "filters" every pair is a unit.
UNITS: Mapping[Interval, tuple[str, ...]] = {
    "layers": ("layer",),
    "seeds": ("run",),
    "hierarchical": ("run", "layer"),
    "filters": (),
    "fisher": (),
}

# Variance of atanh(r) over n pairs. Kendall's needs n >= 5, the others n >= 4.
_FISHER_VARIANCES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": lambda r, n: 1 / (n - 3),
    "spearman": lambda r, n: (1 + r**2 / 2) / (n - 3),
    "kendall": lambda r, n: 0.437 / (n - 4),
    "symlog": lambda r, n: 1 / (n - 3),
}
_FEWEST_PAIRS = 4
_MOST_COMPARED = 2000  # units of Kendall's that are compared with each other, all at once
_MOST_PAIRED = 50_000  # pairs of a group that are compared with each other
_MOST_DRAWN = 50_000_000  # pairs of all resamples that are compared by sorting
_FEW_DRAWS = 99  # fewer give no interval of 95 % to speak of


def fisher_intervals(
    r: np.ndarray, n: np.ndarray, method: CorrelationMethod, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Fisher intervals of correlations; see `pruneviz.correlate` for their assumptions.

    Args:
        r: Correlations [group].
        n: Number of pairs [group].
        method: Correlation coefficient.
        level: Confidence level, between 0 and 1.

    Returns:
        Lower and upper ends [group]; null below 4 pairs (Kendall: 5).
    """
    enough = n >= (5 if method == "kendall" else 4)
    r, n = np.where(enough, r, np.nan), np.where(enough, n, 5)
    half = special.ndtri((1 + level) / 2) * np.sqrt(_FISHER_VARIANCES[method](r, n))
    with np.errstate(divide="ignore"):  # |r| = 1 maps to infinity; its interval is the point itself
        centre = np.arctanh(np.clip(r, -1, 1))
    return np.tanh(centre - half), np.tanh(centre + half)


def resampled_intervals(
    x: np.ndarray,
    y: np.ndarray,
    starts: np.ndarray,
    units: np.ndarray,
    r: np.ndarray,
    method: CorrelationMethod,
    interval: Interval,
    how: Resampling,
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of the groups that have a correlation and at least 4 pairs.

    Args:
        x: First values, float64 [pair].
        y: Second values, float64 [pair].
        starts: Index at which each group starts [group].
        units: Numbers of the units that each pair belongs to, the outermost first [level, pair];
            no level makes every pair a unit.
        r: Correlations [group].
        method: Correlation coefficient.
        interval: A name of `Interval`, except "fisher".
        how: Level, number of draws and seed.

    Returns:
        Lower and upper ends [group]; null for the other groups.
    """
    if method in TRANSFORMS and len(starts):
        x, y = transformed(x, y, starts, method)
    bounds = np.append(starts, len(x))
    ends = np.full((2, len(r)), np.nan)
    for group in np.flatnonzero(~np.isnan(r) & (np.diff(bounds) >= _FEWEST_PAIRS)):
        rows = slice(bounds[group], bounds[group + 1])
        order, first = _by_unit(x[rows], y[rows], units[:, rows])
        a, b = x[rows][order], y[rows][order]
        if method == "kendall":
            _check_work(len(a), len(first), how)
        if method == "kendall" and len(first) > _MOST_COMPARED:
            ends[:, group] = _kendall_percentiles(a, b, how)
            continue
        if method in TRANSFORMS:
            of: Weighted = WeightedPearson.of(moments(a, b, first))
        else:
            of = WeightedKendall.of(a, b, first)
        outer = units[0, rows][order][first] if len(units) > 1 else None
        ends[:, group] = _interval(of, outer, interval, how)
    return ends[0], ends[1]


def intervals_of_moments(
    parts: Moments,
    starts: np.ndarray,
    outer: np.ndarray | None,
    r: np.ndarray,
    n: np.ndarray,
    interval: Interval,
    how: Resampling,
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of Pearson's r from the moments of units, for groups too large to hold.

    Args:
        parts: Moments of the units, group after group.
        starts: Index at which each group starts [group].
        outer: Numbers of the outer unit that each belongs to [unit], or None.
        r: Correlations [group].
        n: Number of pairs [group].
        interval: A name of `Interval` that has units.
        how: Level, number of draws and seed.

    Returns:
        As `resampled_intervals`.
    """
    bounds = np.append(starts, len(parts.n))
    ends = np.full((2, len(r)), np.nan)
    for group in np.flatnonzero(~np.isnan(r) & (n >= _FEWEST_PAIRS)):
        rows = np.arange(bounds[group], bounds[group + 1])
        mine = None if outer is None else outer[rows]
        ends[:, group] = _interval(WeightedPearson.of(parts[rows]), mine, interval, how)
    return ends[0], ends[1]


def _interval(of: Weighted, outer: np.ndarray | None, interval: Interval, how: Resampling) -> Ends:
    if interval == "filters":
        return percentiles(of, how)
    if interval == "seeds":
        return jackknife(of, how.level)
    if interval == "hierarchical" and outer is not None:
        return nested(of, np.unique(outer, return_inverse=True)[1], how)
    return studentised(of, how)


def _kendall_percentiles(x: np.ndarray, y: np.ndarray, how: Resampling) -> Ends:
    """Percentile bootstrap over many filters, which computes tau of every resample."""
    generator, whole = np.random.default_rng(how.seed), np.zeros(1, dtype="int64")
    found = []
    for _ in range(how.resamples):
        rows = generator.integers(len(x), size=len(x))
        found.append(coefficients(x[rows], y[rows], whole, "kendall")[0].item())
    low, high = np.nanquantile(found, [(1 - how.level) / 2, (1 + how.level) / 2])
    return float(low), float(high)


def _check_work(pairs: int, units: int, how: Resampling) -> None:
    """Check that Kendall's tau of every resample takes a minute or so at most."""
    drawn = how.resamples * (pairs if units > _MOST_COMPARED else 0)
    if drawn <= _MOST_DRAWN and pairs <= _MOST_PAIRED:
        return
    fewer = int(_MOST_DRAWN // pairs)
    repair = f"resamples={fewer}, " if pairs <= _MOST_PAIRED and fewer >= _FEW_DRAWS else ""
    raise AnalysisError(
        f"a group has {pairs:,} pairs, too many to resample Kendall's coefficient "
        f"{how.resamples:,} times; choose {repair}interval='fisher' or None, or method='spearman'"
    )


def _by_unit(x: np.ndarray, y: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order that puts unit after unit, and the place in it at which each unit starts.

    Pairs are units of their own if there are none; then their values order them, so that draws do
    not depend on the order of the rows.
    """
    if not len(units):
        return np.lexsort((y, x)), np.arange(len(x))
    order = np.lexsort(units[::-1])
    changes = (np.diff(units[:, order], axis=1) != 0).any(axis=0)
    return order, np.flatnonzero(np.append(True, changes))
