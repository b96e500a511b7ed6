"""A run as tables while it is recorded: one epoch, or what there is so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pruneviz.log import schema
from pruneviz.log.parquet import TablePart, joined
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
    """A run up to its last complete epoch, finished or not, with what a picture of it needs.

    The filters table holds the measured epochs, or the last one if none is measured: a long run has
    many others.

    Args:
        path: Run directory.

    Raises:
        LogError: If there is no run, or a file is corrupt.
    """
    (run,) = recordings_at([path], include=True, choose=_shown)
    tables: dict[str, Any] = {
        name: joined(run.read(name), name) for name in schema.TABLES if name != "filters"
    }
    # the filters of an unfinished run were chosen already
    part = TablePart(epochs=tuple(_shown(tables["epochs"])) if run.sealed else None)
    tables["filters"] = joined(run.read("filters", part), "filters")
    return Runs(spec=spec_table([(run.name, run.spec)]), **tables)


def _shown(epochs: pd.DataFrame | pa.Table) -> list[int]:
    """The epochs whose filters a picture needs."""
    rows = epochs if isinstance(epochs, pd.DataFrame) else epochs.to_pandas()
    measured = rows.loc[rows["sample_loss"].notna(), "epoch"]
    return list(map(int, measured if len(measured) else rows["epoch"].tail(1)))
