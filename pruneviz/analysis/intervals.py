"""Confidence intervals of correlations: Fisher's formula, and the bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from scipy import special

from pruneviz.analysis.coefficients import coefficients
from pruneviz.log.vocabulary import CorrelationMethod

Interval = Literal["fisher", "bootstrap"]
Ends = tuple[np.ndarray, np.ndarray]

# Variance of atanh(r) over n pairs. Kendall's needs n >= 5, the others n >= 4.
_FISHER_VARIANCES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": lambda r, n: 1 / (n - 3),
    "spearman": lambda r, n: (1 + r**2 / 2) / (n - 3),
    "kendall": lambda r, n: 0.437 / (n - 4),
    "symlog": lambda r, n: 1 / (n - 3),
}


def fisher_intervals(
    r: np.ndarray, n: np.ndarray, method: CorrelationMethod, level: float = 0.95
) -> Ends:
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
    """Percentile bootstrap intervals of the groups that have a correlation and at least 4 pairs.

    Args:
        x: First values, float64 [pair].
        y: Second values, float64 [pair].
        starts: Index at which each group starts [group].
        r: Correlations [group].
        method: Key in `COEFFICIENTS`.
        level: Confidence level, between 0 and 1.
        resamples: Draws per group.
        seed: Seed of the draws, the same for every group.

    Returns:
        Lower and upper ends [group]; null for the other groups.
    """
    bounds = np.append(starts, len(x))
    low, high = np.full((2, len(r)), np.nan)
    for group in np.flatnonzero(~np.isnan(r) & (np.diff(bounds) >= 4)):
        rows = slice(bounds[group], bounds[group + 1])
        low[group], high[group] = _bootstrap(x[rows], y[rows], method, level, resamples, seed)
    return low, high


def _bootstrap(
    x: np.ndarray,
    y: np.ndarray,
    method: CorrelationMethod,
    level: float,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Interval of one group. Each group reseeds the generator, so groups are independent."""
    from scipy import stats  # half a second to import

    whole = np.zeros(1, dtype="int64")
    with warnings.catch_warnings():
        # Draws from a small group can be constant and then have no r. They are left out,
        # which scipy's own interval cannot do.
        warnings.simplefilter("ignore")
        drawn = stats.bootstrap(
            (x, y),
            lambda a, b: coefficients(a, b, whole, method)[0].item(),
            paired=True,
            vectorized=False,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        return np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
