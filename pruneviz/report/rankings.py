"""Ranks of the rows by pruning measures, from which any mask follows, and their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

# Ranks of rows without a score, by type of the ranks.
ABSENT: Mapping[np.dtype, int] = {np.dtype(np.uint16): 0xFFFF, np.dtype(np.uint32): 0xFFFFFFFF}

# What measures do with a column; the page does the same.
_FORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "value": lambda values: values,
    "size": np.abs,
    "root": np.sqrt,
}


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """Rank of every score within its epoch.

    Ties rank in row order, as `pruneviz.keep_mask` prunes them.

    Args:
        scores: Scores [epoch, position]; -inf for what is pruned already, NaN for none.

    Returns:
        Ranks [epoch, position] from 0; `ABSENT` of their type where there is no score.
    """
    dtype = np.dtype(np.uint16 if scores.shape[1] < 0xFFFF else np.uint32)
    ranks = np.full(scores.shape, ABSENT[dtype], dtype)
    for own, values in zip(ranks, scores, strict=True):
        there = np.flatnonzero(~np.isnan(values))
        order = there[np.argsort(values[there], kind="stable")]
        own[order] = np.arange(len(order))
    return ranks


def in_order(scores: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Scores in the order of their ranks [epoch, rank]; sorted numbers compress far better.

    They are float32 unless some are too small or too large for it.
    """
    found = np.full(scores.shape, np.nan)
    for own, values, places in zip(found, scores, ranks, strict=True):
        there = places != ABSENT[ranks.dtype]
        own[places[there]] = values[there]
    sizes = np.abs(scores[np.isfinite(scores) & (scores != 0)])
    span = np.finfo(np.float32)
    fits = not len(sizes) or (sizes.min() >= span.tiny and sizes.max() <= span.max)
    return found.astype(np.float32) if fits else found


def is_flat(scores: np.ndarray) -> bool:
    """Whether all rows that are not pruned score alike, so that a mask would follow row order.

    Args:
        scores: Scores of one epoch.
    """
    standing = scores[~np.isnan(scores) & (scores > -np.inf)]
    return not len(standing) or bool(standing.min() == standing.max())


def column_alike(
    scores: np.ndarray, ranks: np.ndarray, columns: Mapping[str, np.ndarray], kept: np.ndarray
) -> tuple[str, str] | None:
    """The column that a measure is, as it is, its size, or its square root.

    Args:
        scores: Scores of the measure [epoch, position].
        ranks: Their ranks.
        columns: Columns [epoch, position], as the page holds them.
        kept: 0 where a row is pruned [epoch, position].

    Returns:
        Name of the column and of the form; None if there is none with the same values and ranks.
    """
    standing = ~np.isneginf(scores)
    for name, values in columns.items():
        exact = values.astype("float64")
        for form, function in _FORMS.items():
            if form == "root" and np.nanmin(exact, initial=0) < 0:
                continue
            found = function(exact)
            if not np.array_equal(found[standing], scores[standing], equal_nan=True):
                continue
            found = np.where((kept == 0) & ~np.isnan(found), -np.inf, found)
            if np.array_equal(ranks_of(found), ranks):
                return name, form
    return None
