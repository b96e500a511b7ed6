"""A run as tables while it is recorded: one epoch, or what there is so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pruneviz.log import schema
from pruneviz.log.epoch_parts import parts_of
from pruneviz.log.parquet import TablePart, joined, read_file
from pruneviz.log.recordings import recordings_at, spec_table
from pruneviz.log.run_directory import RunLog, is_sealed, read_spec
from pruneviz.log.runs import Runs


def runs_at(log: RunLog, epoch: int) -> Runs:
    """One epoch of a run that is open for writing, as it is on disk.

    Args:
        log: Open run directory.
        epoch: A complete epoch.
    """
    tables: dict[str, Any] = {table: log.rows_at(table, epoch) for table in schema.TABLES}
    return Runs(spec=spec_table([(log.spec.run, log.spec)]), **tables)


def runs_so_far(path: Path) -> Runs:
    """A run up to its last complete epoch, finished or not, with what a picture of it needs.

    The filters table holds the measured epochs, or the last one if none is measured: a long run has
    many others.

    Args:
        path: Run directory.

    Raises:
        LogError: If there is no run, or a file is corrupt.
    """
    spec, sealed = read_spec(path), is_sealed(path)
    tables: dict[str, Any] = {
        name: _rows(path, name, sealed) for name in schema.TABLES if name != "filters"
    }
    epochs = tables["epochs"]
    measured = epochs.loc[epochs["sample_loss"].notna(), "epoch"]
    chosen = list(measured if len(measured) else epochs["epoch"].tail(1))
    tables["filters"] = _rows(path, "filters", sealed, chosen)
    return Runs(spec=spec_table([(spec.run, spec)]), **tables)


def _rows(
    path: Path, table: str, sealed: bool, epochs: Sequence[int] | None = None
) -> pd.DataFrame:
    if sealed:
        part = TablePart(epochs=None if epochs is None else tuple(epochs))
        (recording,) = recordings_at([path])
        return joined(recording.read(table, part), table)
    return joined([read_file(file, table) for file in parts_of(path, table, epochs)], table)
