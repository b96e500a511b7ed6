"""Runs on disk: their specs, and parts of their tables on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.epoch_parts import complete_epochs, parts_of
from pruneviz.log.found_runs import names_apart
from pruneviz.log.parquet import (
    WHOLE,
    TablePart,
    columns_of_file,
    columns_with_values,
    read_file,
    renamed_run,
)
from pruneviz.log.run_directory import is_sealed, read_spec
from pruneviz.log.run_spec import SPEC_FACTS, RunSpec

_CORRELATIONS_SINCE = 2  # first schema version with that table in sealed runs


@dataclass(frozen=True)
class Recording:
    """A run on disk.

    Attributes:
        path: Run directory.
        spec: Its facts, with its own name.
        name: Name of the run among others.
        sealed: Whether it is finished.
        held: Rows by table of an unfinished run, which may change on disk; none where it is left
            out.
    """

    path: Path
    spec: RunSpec
    name: str
    sealed: bool = True
    held: Mapping[str, pa.Table] | None = field(default=None, repr=False)

    def files(self, table: str) -> list[Path]:
        """The files of a table in a finished run: one, or none in an older schema."""
        if not self.sealed or table not in self.spec.tables:
            return []
        file = self.path / f"{table}.parquet"
        older = self.spec.schema_version < _CORRELATIONS_SINCE
        if table == "correlations" and older and not file.exists():
            return []
        return [file]

    def read(self, table: str, part: TablePart = WHOLE) -> list[pa.Table]:
        """A part of a table under the name of the run: one piece, or none in an older schema."""
        if self.held is None:
            parts = [read_file(file, table, part) for file in self.files(table)]
        else:
            parts = [part.of_rows(self.held[table])]
        return [self._named(rows, table) for rows in parts]

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


def recordings_at(paths: Sequence[Path], *, include: bool = False) -> list[Recording]:
    """Open several run directories; runs of one name are told apart by a part of their path.

    Args:
        paths: Run directories.
        include: Whether to read unfinished runs.

    Raises:
        LogError: If a spec cannot be read, or an unfinished run that is included is corrupt.
    """
    specs = [read_spec(path) for path in paths]
    names = names_apart(paths, [spec.run for spec in specs])
    return [
        # absolute, because a table may be read after the working directory has changed
        _recording(path.absolute(), spec, name, include)
        for path, spec, name in zip(paths, specs, names, strict=True)
    ]


def spec_table(specs: Sequence[tuple[str, RunSpec]]) -> pd.DataFrame:
    """The table `Runs.spec`: one row per run, one column per fact; lists become tuples.

    Args:
        specs: Name and facts of every run.
    """
    rows = [{**spec.to_dict(), "run": name} for name, spec in specs]
    names = dict.fromkeys([*SPEC_FACTS, *(name for row in rows for name in row)])
    hashable = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]
    return pd.DataFrame(hashable, columns=list(names))


def _recording(path: Path, spec: RunSpec, name: str, include: bool) -> Recording:
    if is_sealed(path):
        return Recording(path, spec, name)
    if not include:
        return Recording(path, spec, name, sealed=False)
    try:
        return Recording(path, spec, name, sealed=False, held=_tables_now(path))
    except LogError:
        if not is_sealed(path):
            raise
        # It was finished while it was read, which removes the parts.
        return Recording(path, read_spec(path), name)


def _tables_now(path: Path) -> dict[str, pa.Table]:
    """All tables of an unfinished run, up to the same epoch."""
    epochs = complete_epochs(path)
    return {table: _rows_now(path, table, epochs) for table in schema.TABLES}


def _rows_now(path: Path, table: str, epochs: Sequence[int]) -> pa.Table:
    empty = schema.arrow_schema(table, []).empty_table()
    parts = [empty, *(read_file(file, table) for file in parts_of(path, table, epochs))]
    rows = pa.concat_tables(parts, promote_options="default")
    keys = [(key, "ascending") for key in schema.SORT_KEYS[table] if key != "run"]
    return rows.sort_by(keys)  # stable
