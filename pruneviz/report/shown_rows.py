"""The rows of one run as the page shows them: a table [epoch, position] for every column.

A position is a filter, or another row, under the name that it keeps for life. Rows that an epoch
lacks are null there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pruneviz.errors import ReportError
from pruneviz.log.runs import Runs
from pruneviz.log.schema import DERIVATIVE_COLUMNS, FILTER_KEYS, REQUEST_COLUMNS

MOST_POSITIONS = 200_000
"""Positions above which a browser takes seconds for a step of the slider."""

_KEYS = ("layer", "filter", "weight")


@dataclass(frozen=True)
class ShownRows:
    """Rows of one run at the epochs that the page shows.

    Attributes:
        table: Filters table of these epochs, by epoch.
        epochs: The epochs, ascending.
        positions: Position of every row of the table.
        names: One row per position: layer, filter, and weight for single weights.
        steps: Place of every row's epoch in `epochs`.
    """

    table: pd.DataFrame = field(repr=False)
    epochs: tuple[int, ...]
    positions: np.ndarray = field(repr=False)
    names: pd.DataFrame = field(repr=False)
    steps: np.ndarray = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of epochs and of positions."""
        return len(self.epochs), len(self.names)

    def spread(self, values: np.ndarray, empty: float | int) -> np.ndarray:
        """Values of all rows as [epoch, position].

        Args:
            values: One per row of the table.
            empty: What stands where an epoch lacks a row.
        """
        found = np.full(self.shape, empty, dtype=values.dtype)
        found[self.steps, self.positions] = values
        return found


def shown_rows(run: Runs, columns: Sequence[str]) -> ShownRows:
    """Rows of a run at its measured epochs; at all epochs where no derivatives are recorded.

    Args:
        run: One run.
        columns: Columns to read.

    Raises:
        ReportError: If it has no rows, or more positions than a browser can draw.
        LogError: If a file is corrupt.
    """
    name = str(run.spec["run"].iloc[0])
    epochs = _epochs_shown(run)
    if not epochs:
        raise ReportError(
            f"run {name} has no filters yet; report it after its first epoch, or leave it out"
        )
    held = run.columns("filters")
    keys = [key for key in (*FILTER_KEYS, "weight", "kept") if key in held]
    table = run.read("filters", list(dict.fromkeys([*keys, *columns])), epochs=epochs)
    table = table.sort_values("epoch", kind="stable", ignore_index=True)
    by_key = [key for key in _KEYS if key != "weight" or _has_weights(table)]
    groups = table.groupby(by_key, sort=False, observed=True, dropna=False)
    positions = groups.ngroup().to_numpy()
    first = np.unique(positions, return_index=True)[1]
    if len(first) > MOST_POSITIONS:
        raise ReportError(
            f"run {name} has {len(first):,} rows an epoch, and a browser draws up to "
            f"{MOST_POSITIONS:,}; record it with fewer rows (rows=100000), or by filters"
        )
    steps = np.searchsorted(np.asarray(epochs), table["epoch"].to_numpy())
    names = table.loc[first, by_key].reset_index(drop=True)
    return ShownRows(table, epochs, positions, names, steps)


def _has_weights(table: pd.DataFrame) -> bool:
    return "weight" in table and bool(table["weight"].notna().any())


def _epochs_shown(run: Runs) -> tuple[int, ...]:
    recorded = run.recorded("filters")
    measured = [name for name in (*DERIVATIVE_COLUMNS, *REQUEST_COLUMNS) if name in recorded]
    found: set[int] = set()
    # Columns on request are recorded at epochs of their own.
    for name in measured:
        found.update(run.read("filters", ["epoch"], complete=[name])["epoch"].unique().tolist())
    if not found:
        found.update(run.read("filters", ["epoch"])["epoch"].unique().tolist())
    return tuple(sorted(map(int, found)))
