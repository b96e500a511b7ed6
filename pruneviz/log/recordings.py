"""Runs on disk: their specs, and parts of their tables on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.checksums import FileSum, check_digest, check_size
from pruneviz.log.found_runs import names_apart
from pruneviz.log.live_tables import Choose, tables_now
from pruneviz.log.parquet import (
    WHOLE,
    TablePart,
    check_file,
    columns_of_file,
    columns_with_values,
    read_file,
    renamed_run,
)
from pruneviz.log.regular_files import is_something
from pruneviz.log.run_spec import SPEC_FACTS, RunSpec
from pruneviz.log.spec_file import StoredRun, read_run
from pruneviz.stores.mirror import fetch_together, fetched, listed_file


@dataclass(frozen=True)
class Recording:
    """A run on disk.

    Attributes:
        path: Run directory.
        spec: Its facts, with its own name.
        name: Name of the run among others.
        sealed: Whether it is finished.
        sums: What its tables held when they were written; empty if an older pruneviz wrote them.
        held: Rows by table of an unfinished run, which may change on disk; none where it is left
            out.
    """

    path: Path
    spec: RunSpec
    name: str
    sealed: bool = True
    sums: Mapping[str, FileSum] = field(default_factory=dict, repr=False)
    held: Mapping[str, pa.Table] | None = field(default=None, repr=False)
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    def files(self, table: str) -> list[Path]:
        """The files of a table in a finished run: one, or none in an older schema."""
        if not self.sealed or table not in self.spec.tables:
            return []
        file = self.path / f"{table}.parquet"
        older = self.spec.schema_version < schema.CORRELATIONS_SINCE
        if table == "correlations" and older and not is_something(file):
            return []
        return [file]

    def read(self, table: str, part: TablePart = WHOLE) -> list[pa.Table]:
        """A part of a table under the name of the run: one piece, or none in an older schema.

        The first part that is read of a table checks its whole file.

        Raises:
            LogError: If the file is not the one that was written.
        """
        if self.held is None:
            self.check_digest(table)
            parts = [read_file(file, table, part) for file in self.files(table)]
        else:
            parts = [part.of_rows(self.held[table])]
        return [self._named(rows, table) for rows in parts]

    def check_sizes(self) -> None:
        """Check the files of all tables, as far as that is possible without reading rows.

        Raises:
            LogError: If one is missing, or cannot be the one that was written.
        """
        for table in schema.TABLES:
            for file in self.files(table):
                if self._is_as_listed(file, table):
                    continue
                check_file(file, table)
                if table in self.sums:
                    check_size(file, self.sums[table])

    def _is_as_listed(self, file: Path, table: str) -> bool:
        """Whether a file of an object store, not read yet, has the size that was written down."""
        listed = None if file.exists() else listed_file(file)
        return listed is not None and table in self.sums and listed.size == self.sums[table].size

    def check_digest(self, table: str) -> None:
        """Check every byte of the file of a table, once.

        Raises:
            LogError: If it is not the file that was written.
        """
        if table in self._checked:
            return
        for file in self.files(table):
            if table in self.sums:
                check_size(file, self.sums[table])
                check_digest(file, self.sums[table])
        self._checked.add(table)

    def _named(self, rows: pa.Table, table: str) -> pa.Table:
        """The rows under the name of the run, whatever their file calls it."""
        if "run" not in rows.column_names:
            return rows
        chunks = rows["run"].chunks
        held = {name for chunk in chunks for name in chunk.dictionary.to_pylist()}
        if held <= {self.name}:
            return rows
        found = pc.unique(rows["run"]).to_pylist() if len(held) > 1 else []
        if len(found) > 1:
            raise LogError(
                f"{table} of {self.path} holds rows of {', '.join(map(str, found))}, and a run has "
                "those of one; restore the file, or delete the run and record it again"
            )
        return renamed_run(rows, self.name)

    def columns(self, table: str) -> list[str]:
        """Columns of a table."""
        if self.held is None:
            return [name for file in self.files(table) for name in columns_of_file(file, table)]
        return list(self.held[table].column_names)

    def columns_with_values(self, table: str) -> list[str]:
        """Columns of a table that are not null in every row."""
        if self.held is None:
            return [name for file in self.files(table) for name in columns_with_values(file, table)]
        rows = self.held[table]
        return [name for name in rows.column_names if rows[name].null_count < len(rows)]


def recordings_at(
    paths: Sequence[Path], *, include: bool = False, choose: Choose | None = None
) -> list[Recording]:
    """Open several run directories; runs of one name are told apart by a part of their path.

    Args:
        paths: Run directories.
        include: Whether to read unfinished runs.
        choose: Of unfinished runs, which epochs of the filters to read, as for `tables_now`.

    Raises:
        LogError: If a spec cannot be read, or an unfinished run that is included is corrupt.
    """
    stored = [read_run(path) for path in paths]
    names = names_apart(paths, [run.spec.run for run in stored])
    return [
        # absolute, because a table may be read after the working directory has changed
        _recording(path.absolute(), run, name, include, choose)
        for path, run, name in zip(paths, stored, names, strict=True)
    ]


def check_all_sizes(recordings: Sequence[Recording]) -> None:
    """Check the files of runs as `Recording.check_sizes` does."""
    for table in schema.TABLES:  # sizes that nobody wrote down are not known before they are read
        fetch_together(file for run in recordings if not run.sums for file in run.files(table))
    for run in recordings:
        run.check_sizes()


def rows_of_all(recordings: Sequence[Recording], table: str, part: TablePart) -> list[pa.Table]:
    """A part of a table of all runs, piece by piece; raises as `Recording.read` does."""
    fetch_together(file for run in recordings for file in run.files(table))
    return [rows for run in recordings for rows in run.read(table, part)]


def files_here(recordings: Sequence[Recording], table: str) -> list[Path]:
    """The files of a table on this disk.

    Raises:
        LogError: If one is in an object store and cannot be read.
    """
    found = [file for run in recordings for file in run.files(table)]
    for file in found:
        fetched(file)
    return found


def spec_table(specs: Sequence[tuple[str, RunSpec]]) -> pd.DataFrame:
    """The table `Runs.spec`: one row per run, one column per fact; lists become tuples.

    Lone surrogates, which JSON holds and a table does not, become their escapes.

    Args:
        specs: Name and facts of every run.
    """
    rows = [
        {_stored(key): _stored(value) for key, value in {**spec.to_dict(), "run": name}.items()}
        for name, spec in specs
    ]
    names = dict.fromkeys([*SPEC_FACTS, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(names))


def _stored(value: Any) -> Any:
    """A fact as a table holds it."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return tuple(value) if isinstance(value, list) else value


def _recording(
    path: Path, run: StoredRun, name: str, include: bool, choose: Choose | None
) -> Recording:
    while include and not run.sealed:
        held = tables_now(path, choose)
        if held is not None:
            return Recording(path, run.spec, name, sealed=False, held=held)
        run = read_run(path)  # it was finished meanwhile, which adds facts
    return Recording(path, run.spec, name, run.sealed, run.tables)
