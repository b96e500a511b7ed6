"""Filters tables on disk, read in blocks of complete epochs.

`pv.score`, `pv.correlate` and `pv.mask_distance` accept a `Scan` in place of a DataFrame and pass
its blocks to the functions for tables in memory, so each number has one formula. A query engine
such as DuckDB would need every measure, rank and mask a second time, in SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.arguments import as_tuple
from pruneviz.log.checksums import FileSum, check_digest, check_size
from pruneviz.log.found_runs import Where, run_paths
from pruneviz.log.older_columns import names_now
from pruneviz.log.parquet import TablePart, check_file, corrupt, joined, renamed_run
from pruneviz.log.recordings import Recording, recordings_at
from pruneviz.log.regular_files import check_regular
from pruneviz.log.spec_file import is_sealed
from pruneviz.log.table_files import check_rows, footer_of
from pruneviz.log.thin_copies import THINNED, ThinCopy, thin_copy

# Large enough that the fixed cost per call does not matter; arrays of one block take at most
# 100 MB.
BLOCK_ROWS = 1 << 19


@dataclass(frozen=True)
class Scan:
    """Filters tables of finished runs on disk, opened by `scan`.

    Attributes:
        files: File of each run, by run name; rows are sorted by epoch.
        columns: Columns in any file, in log order.
        rows: Total number of rows.
        block_rows: Target number of rows per block.
        stored: Run name in the file, of runs that have another name here.
        thin: What the thin copies among the runs hold.
        sums: What the files held when they were written, by run name; none of older runs.
    """

    files: Mapping[str, Path]
    columns: tuple[str, ...]
    rows: int
    block_rows: int = BLOCK_ROWS
    stored: Mapping[str, str] = field(default_factory=dict)
    thin: tuple[ThinCopy, ...] = ()
    sums: Mapping[str, FileSum] = field(default_factory=dict, repr=False)
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def thin_facts(self) -> pd.DataFrame:
        """The runs that are thin copies with their fact `thinned`, as the spec of runs has it."""
        facts = [{"columns_left_out": copy.columns_left_out} for copy in self.thin]
        return pd.DataFrame({"run": [copy.run for copy in self.thin], THINNED: facts})

    def __len__(self) -> int:
        return self.rows

    def blocks(self, columns: str | Sequence[str]) -> Iterator[pd.DataFrame]:
        """Read the rows in order, in blocks of complete epochs from one run.

        Args:
            columns: Columns to read besides run and epoch; columns in no file are left out.

        Yields:
            Tables like `pv.load(...).filters` with about `block_rows` rows, or with one larger
            epoch. The columns run and layer have the same categories in every block.

        Raises:
            LogError: If a file is corrupt, not sorted by epoch, or has rows of another run.
        """
        names = [name for name in self.columns if name in {"run", "epoch", *as_tuple(columns)}]
        known = {name: self._categories[name] for name in ("run", "layer") if name in names}
        for run, file in self.files.items():
            stored = self.stored.get(run, run)
            self._check(run, file)
            for table in _whole_epochs(stored, file, names, self.block_rows):
                frame = (table if stored == run else renamed_run(table, run)).to_pandas()
                for name, categories in known.items():
                    frame[name] = frame[name].cat.set_categories(categories)
                yield frame

    def no_rows(self) -> pd.DataFrame:
        """An empty table with all columns and their dtypes."""
        described = schema.arrow_schema("filters", list(self.columns))
        empty = described.empty_table().select(list(self.columns)).to_pandas()
        return empty.astype(
            {name: pd.CategoricalDtype(categories) for name, categories in self._categories.items()}
        )

    def _check(self, run: str, file: Path) -> None:
        """Check every byte of a file, before its rows are read for the first time."""
        if run in self.sums and run not in self._checked:
            check_digest(file, self.sums[run])
        self._checked.add(run)

    @cached_property
    def _categories(self) -> dict[str, list[str]]:
        """Run names (of runs with rows) and layer names, in order of appearance."""
        layers: dict[str, None] = {}
        runs = []
        for run, file in self.files.items():
            rows = 0
            self._check(run, file)
            for batch in _batches(file, ["layer"], self.block_rows):
                layers |= dict.fromkeys(batch["layer"].dictionary.to_pylist())
                rows += len(batch)
            if rows:
                runs.append(run)
        return {"run": runs, "layer": list(layers)}


def scan(path: Where) -> Scan:
    """Open finished runs for analysis in bounded memory.

    No rows are read yet. The memory that `pv.score`, `pv.correlate` and `pv.mask_distance` need
    grows with the largest epoch, not with the number of epochs or runs.

    Args:
        path: Run directory, folder with run directories, glob pattern, or several of these, as for
            `pruneviz.load`.

    Raises:
        LogError: If there are no runs, or one is unfinished, corrupt or of a newer schema.
    """
    paths = run_paths(path)
    for run in paths:
        if not is_sealed(run):
            raise LogError(
                f"{run} is unfinished; finish its recording, or read its complete epochs with "
                "pruneviz.load(path)"
            )
    recordings = recordings_at(paths)
    files = {run.name: run.path / "filters.parquet" for run in recordings}
    stored = {run.name: run.spec.run for run in recordings if run.name != run.spec.run}
    footers = [_footer(file) for file in files.values()]
    sums = {run.name: run.sums["filters"] for run in recordings if "filters" in run.sums}
    for name, expected in sums.items():
        check_size(files[name], expected)
    named = {name for names, _ in footers for name in names}
    described = schema.arrow_schema("filters", sorted(named))
    columns = tuple(name for name in described.names if name in named)
    thin = tuple(_thin_copy(run) for run in recordings if THINNED in run.spec.extra)
    total = sum(rows for _, rows in footers)
    return Scan(files, columns, total, stored=stored, thin=thin, sums=sums)


def _thin_copy(run: Recording) -> ThinCopy:
    epochs, filters = (
        joined(run.read(table, TablePart(names)), table, names)
        for table, names in (
            ("epochs", ("epoch", "kept_fraction")),
            ("filters", ("epoch",)),
        )
    )
    facts = {**run.spec.to_dict(), "run": run.name}
    return thin_copy(facts, epochs, list(filters["epoch"].unique()))


def _footer(file: Path) -> tuple[list[str], int]:
    """The columns and row count of a file."""
    check_file(file, "filters")
    found = footer_of(file)
    return names_now("filters", found.schema.to_arrow_schema().names), found.num_rows


def _batches(file: Path, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    try:
        check_regular(file)
        with pq.ParquetFile(file, page_checksum_verification=True) as found:
            stored = found.schema_arrow.names
            held = dict(zip(names_now("filters", stored), stored, strict=True))
            there = [name for name in columns if name in held]
            of_file = [held[name] for name in there]
            for batch in found.iter_batches(batch_size=rows, columns=of_file):
                check_rows(batch, "filters")
                yield batch.select(of_file).rename_columns(there)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(file, error) from error


def _whole_epochs(run: str, file: Path, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """The rows of one file, cut between epochs.

    The last epoch of a batch is held back, because the next batch may continue it.
    """
    held: list[pa.RecordBatch] = []
    last = -1
    for batch in _batches(file, columns, rows):
        epochs = batch["epoch"].to_numpy()
        _check_rows(run, file, batch, epochs, last)
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


def _table(batches: list[pa.RecordBatch], columns: list[str]) -> pa.Table:
    """The batches as one table; columns missing in the file are null."""
    found = pa.Table.from_batches(batches).unify_dictionaries()
    described = schema.arrow_schema("filters", columns)
    table = {}
    for name in columns:
        there = name in found.column_names
        table[name] = found[name] if there else pa.nulls(len(found), described.field(name).type)
    return pa.table(table)
