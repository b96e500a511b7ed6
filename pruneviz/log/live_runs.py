"""A run as tables while it is recorded: one epoch, or all so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pruneviz.log import schema
from pruneviz.log.parquet import joined
from pruneviz.log.recordings import recordings_at, spec_table
from pruneviz.log.run_directory import RunLog
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
    """The complete epochs of a run, finished or not; without a warning that it may go on.

    Args:
        path: Run directory.

    Raises:
        LogError: If there is no run, or a file is corrupt.
    """
    (recording,) = recordings_at([path], include=True)
    tables: dict[str, Any] = {name: joined(recording.read(name), name) for name in schema.TABLES}
    return Runs(spec=spec_table([(recording.name, recording.spec)]), **tables)
