"""Correlation coefficients of pairs that lie group after group, for all groups at once, and their confidence intervals."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from scipy import stats

from pruneviz.analysis.moments import moments, pearson
from pruneviz.log.vocabulary import CorrelationMethod

Interval = Literal["fisher", "bootstrap"]
Ends = tuple[np.ndarray, np.ndarray]

# Variance of atanh(r) over n pairs. Kendall's holds from n = 5 on, the others from n = 4 on.
_FISHER_VARIANCES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": lambda r, n: 1 / (n - 3),
    "spearman": lambda r, n: (1 + r**2 / 2) / (n - 3),
    "kendall": lambda r, n: 0.437 / (n - 4),
}


def coefficients(
    x: np.ndarray, y: np.ndarray, starts: np.ndarray, method: CorrelationMethod
) -> np.ndarray:
    """The coefficient of every group of float64 pairs, null where there is none; `starts` are the positions where the groups begin."""
    return COEFFICIENTS[method](x, y, starts) if len(starts) else np.zeros(0)


def mean_ranks(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The rank of every value in its group, from 1; equal values get the mean of their ranks."""
    ends = np.append(starts[1:], len(values))
    order = np.concatenate(
        [start + np.argsort(values[start:end]) for start, end in zip(starts, ends, strict=True)]
    )
    ascending = values[order]
    new = np.append(True, ascending[1:] != ascending[:-1])
    new[starts] = True
    first = np.flatnonzero(new)
    alike = np.diff(first, append=len(values))
    group_start = starts[np.searchsorted(starts, first, side="right") - 1]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first - group_start + (alike + 1) / 2, alike)
    return ranks


def fisher_intervals(
    r: np.ndarray, n: np.ndarray, method: CorrelationMethod, level: float = 0.95
) -> Ends:
    """The ends of the Fisher intervals of correlations `r` over `n` pairs each; see `pruneviz.correlate` for what they are worth."""
    enough = n >= (5 if method == "kendall" else 4)
    r, n = np.where(enough, r, np.nan), np.where(enough, n, 5)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(_FISHER_VARIANCES[method](r, n))
    with np.errstate(
        divide="ignore"
    ):  # |r| = 1 lies at infinity, and its interval is the point itself
        centre = np.arctanh(np.clip(r, -1, 1))
    return np.tanh(centre - half), np.tanh(centre + half)


def bootstrap_intervals(
    x: np.ndarray,
    y: np.ndarray,
    starts: np.ndarray,
    r: np.ndarray,
    method: CorrelationMethod,
    level: float,
    resamples: int,
    seed: int,
) -> Ends:
    """The ends of the percentile intervals of the groups that have a correlation `r` and four pairs."""
    bounds = np.append(starts, len(x))
    low, high = np.full((2, len(r)), np.nan)
    for group in np.flatnonzero(~np.isnan(r) & (np.diff(bounds) >= 4)):
        rows = slice(bounds[group], bounds[group + 1])
        low[group], high[group] = _bootstrap(x[rows], y[rows], method, level, resamples, seed)
    return low, high


def _bootstrap(
    x: np.ndarray, y: np.ndarray, method: CorrelationMethod, level: float, resamples: int, seed: int
) -> np.ndarray:
    """Percentile interval of one group; every group starts the generator anew, so that it does not depend on the others."""
    whole = np.zeros(1, dtype="int64")
    with warnings.catch_warnings():
        # Draws from a small group can be constant and have no r. They are left out, for which scipy's own interval has no option.
        warnings.simplefilter("ignore")
        drawn = stats.bootstrap(
            (x, y),
            lambda a, b: coefficients(a, b, whole, method).item(),
            paired=True,
            vectorized=False,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        return np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])


def _pearson(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return pearson(moments(x, y, starts))


def _spearman(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return _pearson(mean_ranks(x, starts), mean_ranks(y, starts), starts)


def _kendall(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> np.ndarray:
    bounds = np.append(starts, len(x))
    return np.array(
        [_kendall_of_one(x[a:b], y[a:b]) for a, b in itertools.pairwise(bounds)], dtype="float64"
    )


def _kendall_of_one(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or x.min() == x.max() or y.min() == y.max():
        return np.nan
    return float(stats.kendalltau(x, y, method="asymptotic").statistic)


COEFFICIENTS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "kendall": _kendall,
}
