"""The subset of single weights that a log stores."""

from __future__ import annotations

import numbers

import numpy as np

from pruneviz.errors import LogError


def stored_rows(weights: int, rows: int, seed: int) -> np.ndarray:
    """Draw the weights that a log stores, uniformly without replacement.

    Args:
        weights: Number of weights in the network.
        rows: Number of weights to store; all if the network has fewer.
        seed: Random seed.

    Returns:
        Ascending indices, int64 [min(rows, weights)].

    Raises:
        LogError: If `rows` is not a whole number from 1, or `seed` not a whole number from 0.
    """
    for name, value, least in (("rows", rows, 1), ("rows_seed", seed, 0)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise LogError(f"{name}={value!r}; give a whole number from {least}")
    if rows >= weights:
        return np.arange(weights)
    return np.sort(np.random.default_rng(int(seed)).choice(weights, size=int(rows), replace=False))
