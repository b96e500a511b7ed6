"""Which single weights a log stores."""

from __future__ import annotations

import numbers

import numpy as np

from pruneviz.errors import LogError


def stored_rows(weights: int, rows: int, seed: int) -> np.ndarray:
    """Which of a network's weights a log stores: ascending positions, drawn uniformly without replacement; all if there are no more.

    Errors: `LogError` for a number of rows below 1, and a seed that is no whole number from 0.
    """
    for name, value, least in (("rows", rows, 1), ("rows_seed", seed, 0)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise LogError(f"{name}={value!r}; give a whole number from {least}")
    if rows >= weights:
        return np.arange(weights)
    return np.sort(np.random.default_rng(int(seed)).choice(weights, size=int(rows), replace=False))
