"""Correlation coefficients of pairs stored group after group, with their effective numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from pruneviz.analysis.moments import effective_number, moments, pearson
from pruneviz.analysis.symmetric_log import symmetric_log
from pruneviz.log.vocabulary import CorrelationMethod

Transform = Callable[[np.ndarray, np.ndarray], np.ndarray]


def coefficients(
    x: np.ndarray, y: np.ndarray, starts: np.ndarray, method: CorrelationMethod
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation coefficient of every group, and its effective number of pairs.

    Args:
        x: First values, float64 [pair].
        y: Second values, float64 [pair].
        starts: Index at which each group starts [group].
        method: Key in `COEFFICIENTS`.

    Returns:
        Coefficients [group], null where one does not exist, and effective numbers of the
        transformed pairs [group], see `pruneviz.analysis.moments.effective_number`; null for
        Kendall's tau, which is no sum over pairs of filters' contributions.
    """
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    if method not in TRANSFORMS:
        return _kendall(x, y, starts), np.full(len(starts), np.nan)
    found = moments(*transformed(x, y, starts, method), starts)
    return pearson(found), effective_number(found)


def transformed(
    x: np.ndarray, y: np.ndarray, starts: np.ndarray, method: CorrelationMethod
) -> tuple[np.ndarray, np.ndarray]:
    """The values whose Pearson coefficient a method is.

    Args:
        x: First values, float64 [pair].
        y: Second values, float64 [pair].
        starts: Index at which each group starts [group].
        method: Key in `TRANSFORMS`.
    """
    change = TRANSFORMS[method]
    return change(x, starts), change(y, starts)


def mean_ranks(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rank of every value in its group, from 1; ties get their mean rank."""
    ends = np.append(starts[1:], len(values))
    bounds = zip(starts, ends, strict=True)
    order = np.concatenate([start + np.argsort(values[start:end]) for start, end in bounds])
    ascending = values[order]
    new = np.append(True, ascending[1:] != ascending[:-1])
    new[starts] = True
    first = np.flatnonzero(new)
    ties = np.diff(first, append=len(values))
    group_start = starts[np.searchsorted(starts, first, side="right") - 1]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first - group_start + (ties + 1) / 2, ties)
    return ranks


def _as_they_are(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return values


def _kendall(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> np.ndarray:
    bounds = itertools.pairwise(np.append(starts, len(x)))
    found = [_kendall_of_one(x[start:end], y[start:end]) for start, end in bounds]
    return np.array(found, dtype="float64")


def _kendall_of_one(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or x.min() == x.max() or y.min() == y.max():
        return np.nan
    from scipy import stats  # half a second to import

    return float(stats.kendalltau(x, y, method="asymptotic").statistic)


# Coefficients that are Pearson's, of transformed values.
TRANSFORMS: Mapping[str, Transform] = {
    "pearson": _as_they_are,
    "spearman": mean_ranks,
    "symlog": symmetric_log,
}
COEFFICIENTS = ("pearson", "spearman", "kendall", "symlog")
