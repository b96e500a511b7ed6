"""The long form of a caption as data: `figureNN.json` beside a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.noise import error_columns

SCHEMA = 1  # version of the keys in the file
# Facts that stand with each run, whether the runs differ in them or not.
RUN_KEYS = ("run", "network", "dataset", "measure", "rounds", "seed")
# Columns that make a row of values, by kind of picture, and columns that belong to single points
# or layers.
_VALUE_KEYS: Mapping[str, tuple[str, ...]] = {
    "scatter": ("epoch",),
    "correlation_curve": ("network", "epoch"),
    "accuracy_curve": ("dataset", "measure"),
    "layer_ratios": ("rounds", "measure"),
}
_OF_POINTS: Mapping[str, tuple[str, ...]] = {
    "scatter": (
        *("layer", "depth", "filter", "weight"),
        *("theta_g", "theta_hg", "theta_g_clear", "theta_hg_clear"),
        *error_columns("theta_g"),
        *error_columns("theta_hg"),
        *error_columns("theta_hg", given_g=True),
    ),
    "layer_ratios": ("layer", "layer_index", "filters", "coupled_to", "ratio", "ratio_sd"),
}


def values_of(kind: str, table: pd.DataFrame) -> list[dict[str, Any]]:
    """The computed values of a figure of the paper, without single points and layers.

    Args:
        kind: Kind of picture.
        table: The drawn numbers.

    Returns:
        Scatter: a row per panel, with its correlations; correlation curve: a row per network and
        measured epoch; accuracy curve: the last epoch of each curve; layer ratios: the shares of
        the whole network, of its halves and thirds. Runs of other settings, told apart by `group`,
        have rows of their own.
    """
    keys = [name for name in (*_VALUE_KEYS[kind], "group") if name in table]
    rows = table.drop_duplicates(keys, keep="last")
    if kind == "correlation_curve":
        rows = rows[rows["seeds"].notna()]
    return records(rows.drop(columns=[name for name in _OF_POINTS.get(kind, ()) if name in rows]))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON objects; null for an absent number."""
    return [
        {str(name): plain(value) for name, value in row.items()} for row in table.to_dict("records")
    ]


def facts_of(spec: pd.DataFrame) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Facts that all runs share, and for each run its keys and the facts in which runs differ.

    Args:
        spec: Rows of `runs.spec` for the drawn runs.
    """
    columns = {str(name): [plain(value) for value in spec[name]] for name in spec}
    apart = [name for name, values in columns.items() if values.count(values[0]) < len(values)]
    own = list(dict.fromkeys([*(key for key in RUN_KEYS if key in columns), *apart]))
    shared = {
        name: values[0]
        for name, values in columns.items()
        if name not in (*apart, "run") and values[0] not in (None, [], {})
    }
    runs = [
        dict(zip(own, row, strict=True))
        for row in zip(*(columns[name] for name in own), strict=True)
    ]
    return shared, runs


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities are null, tuples are lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return None if value is None or value is pd.NA or value is pd.NaT else str(value)


def tables_of(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    """Further tables of a figure, such as its convergence numbers, by name."""
    return {name: records(table) for name, table in tables.items()}
