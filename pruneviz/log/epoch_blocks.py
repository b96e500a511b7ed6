"""The rows of a filters file on disk, read in blocks of whole epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.older_columns import names_now
from pruneviz.log.parquet import corrupt
from pruneviz.log.regular_files import check_regular
from pruneviz.log.table_files import check_rows


@dataclass(frozen=True)
class GroupEpochs:
    """What the footer of a file says of a group of rows.

    Attributes:
        rows: Their number.
        first: Their lowest epoch.
        last: Their highest epoch.
    """

    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class Cut:
    """Some whole epochs of a file, and the groups of rows in which they lie.

    Attributes:
        start: Number of the first group.
        groups: The groups, as the footer describes them.
        after: The epoch before the first; None for the first of the file.
        until: The last epoch; None for the last of the file.
    """

    start: int
    groups: tuple[GroupEpochs, ...]
    after: int | None = None
    until: int | None = None

    @property
    def places(self) -> list[int]:
        """Numbers of the groups to read."""
        return list(range(self.start, self.start + len(self.groups)))

    def of(self, batch: pa.RecordBatch, epochs: np.ndarray) -> pa.RecordBatch:
        """The rows of these epochs, in rows that are sorted by epoch."""
        first, last = 0, len(epochs)
        if self.after is not None:
            first = int(np.searchsorted(epochs, self.after, "right"))
        if self.until is not None:
            last = int(np.searchsorted(epochs, self.until, "right"))
        return batch.slice(first, max(0, last - first))

    def check(self, file: Path, epochs: np.ndarray, read: int) -> None:
        """Check that rows lie in the epochs that the footer says of their groups.

        If they do in all cuts of a file, each row is in one of them.

        Args:
            file: The file.
            epochs: Epochs of some rows, sorted.
            read: Number of rows of these groups that were read before.

        Raises:
            LogError: If they do not.
        """
        ends = np.cumsum([group.rows for group in self.groups])
        start, place = 0, int(np.searchsorted(ends, read, "right"))
        while start < len(epochs):
            end, said = min(len(epochs), int(ends[place]) - read), self.groups[place]
            if end > start and not (said.first <= epochs[start] <= epochs[end - 1] <= said.last):
                raise LogError(
                    f"{file} says in its footer that group {self.start + place} of its rows is of "
                    f"epochs {said.first} to {said.last}, it is of {epochs[start]} to "
                    f"{epochs[end - 1]}; restore it from a backup, or delete the run and record it "
                    "again"
                )
            start, place = end, place + 1


def batches(
    file: Path, columns: Sequence[str], rows: int, cut: Cut | None = None
) -> Iterator[pa.RecordBatch]:
    """Rows of a file under today's column names; columns that it lacks are left out.

    Args:
        file: The file.
        columns: Columns to read.
        rows: Most rows at once.
        cut: Reads only the groups of rows of this cut.

    Raises:
        LogError: If it is corrupt.
    """
    try:
        check_regular(file)
        with pq.ParquetFile(file, page_checksum_verification=True) as found:
            stored = found.schema_arrow.names
            held = dict(zip(names_now("filters", stored), stored, strict=True))
            there = [name for name in columns if name in held]
            of_file = [held[name] for name in there]
            groups = None if cut is None else cut.places
            for batch in found.iter_batches(batch_size=rows, columns=of_file, row_groups=groups):
                check_rows(batch, "filters")
                yield batch.select(of_file).rename_columns(there)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(file, error) from error


def whole_epochs(
    run: str, file: Path, columns: Sequence[str], rows: int, cut: Cut | None = None
) -> Iterator[pa.Table]:
    """The rows of one file, cut between epochs.

    The last epoch of a batch is held back, because the next batch may continue it.

    Args:
        run: Name of the run in the file.
        file: The file.
        columns: Columns to read, with run and epoch; null where the file lacks them.
        rows: Target number of rows at once.
        cut: Reads only the epochs of this cut.

    Raises:
        LogError: If it is corrupt, not sorted by epoch, or has rows of another run.
    """
    held: list[pa.RecordBatch] = []
    last, read, before = -1, 0, -1
    for batch in batches(file, columns, rows, cut):
        epochs = batch["epoch"].to_numpy()
        _check_rows(run, file, batch, epochs, before)
        before = int(epochs[-1])
        if cut is not None:
            cut.check(file, epochs, read)
            read += len(batch)
            batch = cut.of(batch, epochs)
            if not len(batch):
                continue
            epochs = batch["epoch"].to_numpy()
        start = int(np.searchsorted(epochs, epochs[-1]))
        if start or (held and epochs[-1] != last):
            yield _table([*held, batch.slice(0, start)], columns)
            held = []
        held.append(batch.slice(start))
        last = int(epochs[-1])
    if held:
        yield _table(held, columns)


def _check_rows(run: str, file: Path, batch: pa.RecordBatch, epochs: np.ndarray, last: int) -> None:
    if epochs[0] < last or (np.diff(epochs) < 0).any():
        raise LogError(
            f"{file} is not sorted by epoch, as the file of a finished run is; "
            "restore it, or delete the run and record it again"
        )
    runs = batch["run"].dictionary.to_pylist()
    if runs != [run]:
        raise LogError(
            f"{file} holds rows of {', '.join(map(str, runs))}, but its spec.json names {run}; "
            "name the run in spec.json as its rows do"
        )


def _table(batches: Sequence[pa.RecordBatch], columns: Sequence[str]) -> pa.Table:
    """The batches as one table; columns missing in the file are null."""
    found = pa.Table.from_batches(batches).unify_dictionaries()
    described = schema.arrow_schema("filters", list(columns))
    table = {}
    for name in columns:
        there = name in found.column_names
        table[name] = found[name] if there else pa.nulls(len(found), described.field(name).type)
    return pa.table(table)
