"""The subset of single weights that a log stores."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import numpy as np
from torch import nn

from pruneviz.errors import LogError
from pruneviz.measuring.rows import AnyLayer, parameters_of


def rows_to_store(
    model: nn.Module, layers: Sequence[AnyLayer], kind: str, rows: int, seed: int
) -> tuple[np.ndarray | slice, dict[str, int]]:
    """Which rows of a table a log stores, and the facts about them: all, or some single weights.

    Args:
        model: The network.
        layers: The layers of the table.
        kind: Row kind.
        rows, seed: As for `stored_rows`.
    """
    if kind != "weight":
        return slice(None), {}
    weights = sum(model.get_parameter(name).numel() for name in parameters_of(layers))
    stored = stored_rows(weights, rows, seed)  # checks both numbers
    return stored, {"weight_rows": int(rows), "weight_rows_seed": int(seed), "weights": weights}


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
