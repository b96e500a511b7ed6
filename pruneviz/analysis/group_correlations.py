"""Correlations of pairs, or of their moments, with the interval that was asked for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.coefficients import coefficients
from pruneviz.analysis.intervals import (
    Interval,
    fisher_intervals,
    intervals_of_moments,
    resampled_intervals,
)
from pruneviz.analysis.moments import Moments, effective_number, merged, pearson
from pruneviz.analysis.pairs import Pairs, grouped, unit_numbers
from pruneviz.analysis.resampling import Resampling
from pruneviz.errors import AnalysisError
from pruneviz.log.vocabulary import CorrelationMethod


@dataclass(frozen=True)
class How:
    """Options of `correlate` for the computation in each group.

    Attributes:
        method: Correlation coefficient.
        interval: Name of the interval; None for none.
        units: Columns that name the units which are resampled.
        resampling: Level, number of draws and seed.
    """

    method: CorrelationMethod
    interval: Interval | None
    units: tuple[str, ...]
    resampling: Resampling


def correlated(pairs: Pairs, how: How) -> pd.DataFrame:
    """The correlation of each group of pairs.

    Raises:
        AnalysisError: If runs are resampled, and a group holds a single one.
    """
    r, n_eff = coefficients(pairs.x, pairs.y, pairs.starts, how.method)
    found = pairs.keys.assign(n=pairs.n, n_eff=n_eff, r=r)
    if how.interval is None or how.interval == "fisher":
        return _without_units(found, how)
    if "run" in how.units:
        _check_runs(pairs.units[0], pairs.starts, how)
    low, high = resampled_intervals(
        pairs.x, pairs.y, pairs.starts, pairs.units, r, how.method, how.interval, how.resampling
    )
    return found.assign(low=low, high=high)


def correlated_moments(fine: pd.DataFrame, parts: Moments, by: list[str], how: How) -> pd.DataFrame:
    """Pearson's r of groups of any size, from the moments of their units.

    Args:
        fine: Group and unit of each part, sorted.
        parts: Moments of the units in each group.
        by: Columns of `fine` that name the groups.
        how: Interval, units and resampling.

    Raises:
        AnalysisError: If runs are resampled, and a group holds a single one.
    """
    keys, order, starts = grouped(fine[by])
    parts = parts[order]
    whole = merged(parts, starts) if len(starts) else parts
    r = pearson(whole)
    found = keys.assign(n=whole.n, n_eff=effective_number(whole), r=r)
    if how.interval is None or how.interval == "fisher":
        return _without_units(found, how)
    numbers = unit_numbers(fine.iloc[order], how.units)
    if "run" in how.units:
        _check_runs(numbers[0], starts, how)
    parts = parts[inner := _unit_order(numbers, starts)]
    runs = numbers[0, inner] if len(how.units) > 1 else None
    low, high = intervals_of_moments(parts, starts, runs, r, whole.n, how.interval, how.resampling)
    return found.assign(low=low, high=high)


def _without_units(found: pd.DataFrame, how: How) -> pd.DataFrame:
    """Add intervals that follow from r and n alone."""
    if how.interval is None:
        return found.assign(low=np.nan, high=np.nan)
    r, n = found["r"].to_numpy(), found["n"].to_numpy()
    low, high = fisher_intervals(r, n, how.method, how.resampling.level)
    return found.assign(low=low, high=high)


def _unit_order(numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Order of units by number within their groups, as in memory, so that draws are the same."""
    group = np.zeros(numbers.shape[1], dtype="int64")
    group[starts] = 1
    return np.lexsort((*numbers[::-1], np.cumsum(group)))


def _check_runs(runs: np.ndarray, starts: np.ndarray, how: How) -> None:
    """Check that groups hold several runs where runs are resampled."""
    for start, end in itertools.pairwise(np.append(starts, len(runs))):
        if runs[start:end].min() == runs[start:end].max():
            raise AnalysisError(
                f"interval={how.interval!r} resamples runs, and a group holds a single one; group "
                "by columns that several runs share, such as by=['network', 'epoch'], or choose "
                "interval='layers'"
            )
