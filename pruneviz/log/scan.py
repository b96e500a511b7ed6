"""Filters tables on disk, read in blocks of complete epochs.

`pv.score`, `pv.correlate` and `pv.mask_distance` accept a `Scan` in place of a DataFrame and pass
its blocks to the functions for tables in memory, so each number has one formula. A query engine
such as DuckDB would need every measure, rank and mask a second time, in SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.arguments import as_tuple
from pruneviz.log.checksums import FileSum, check_size
from pruneviz.log.found_runs import Where, run_paths
from pruneviz.log.older_columns import names_now
from pruneviz.log.parquet import TablePart, check_file, joined
from pruneviz.log.pieces import results_of
from pruneviz.log.recordings import Recording, recordings_at
from pruneviz.log.sections import RunFile, Section, layers_in, sections_of, whole_run
from pruneviz.log.spec_file import is_sealed
from pruneviz.log.table_files import footer_of
from pruneviz.log.thin_copies import THINNED, ThinCopy, thin_copy

# Large enough that the fixed cost per call does not matter; arrays of one block take at most
# 100 MB.
BLOCK_ROWS = 1 << 19
# Enough that sending a task, and merging its result, is a small part of its time.
SECTION_BLOCKS = 4


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
    _layers: dict[str, list[str] | None] = field(default_factory=dict, repr=False, compare=False)

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
        names = self.columns_among(columns)
        self.look_through()
        layers, runs = self.layers, self.runs
        for section in self.whole_runs():
            for frame in section.blocks(names, layers):
                yield frame.assign(run=frame["run"].cat.set_categories(runs))

    @property
    def section_rows(self) -> int:
        """Rows of a section, and of a task of an executor, if its epochs are not larger."""
        return SECTION_BLOCKS * self.block_rows

    @property
    def runs(self) -> list[str]:
        """Names of the runs that have rows, of a scan that was looked through."""
        return [run for run in self.files if self._layers[run] is not None]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers in order of appearance, of a scan that was looked through."""
        each = (self._layers[run] or () for run in self.files)
        return tuple(dict.fromkeys(layer for layers in each for layer in layers))

    def columns_among(self, columns: str | Sequence[str]) -> list[str]:
        """Those of some columns that any file has, with run and epoch, in log order."""
        wanted = {"run", "epoch", *as_tuple(columns)}
        return [name for name in self.columns if name in wanted]

    def look_through(self, executor: Executor | None = None) -> None:
        """Check every byte of the files, and note runs and layers, before the first rows are read.

        Args:
            executor: Who reads the files. Default: this process.

        Raises:
            LogError: If a file is not the one that was written.
        """
        unknown = [section for section in self.whole_runs() if section.of.run not in self._layers]
        found = results_of(layers_in, unknown, executor, self.section_rows)
        for section, layers in zip(unknown, found, strict=True):
            self._layers[section.of.run] = layers

    def whole_runs(self) -> Iterator[Section]:
        """Every run as one section."""
        return map(whole_run, self._run_files())

    def sections(self) -> Iterator[Section]:
        """All rows in order, in sections of some blocks of whole epochs of one run."""
        for of in self._run_files():
            yield from sections_of(of, self.section_rows)

    def no_rows(self) -> pd.DataFrame:
        """An empty table with all columns and their dtypes."""
        described = schema.arrow_schema("filters", list(self.columns))
        empty = described.empty_table().select(list(self.columns)).to_pandas()
        self.look_through()
        known = {"run": self.runs, "layer": list(self.layers)}
        return empty.astype({name: pd.CategoricalDtype(names) for name, names in known.items()})

    def _run_files(self) -> Iterator[RunFile]:
        for place, (run, file) in enumerate(self.files.items()):
            stored = self.stored.get(run, run)
            yield RunFile(run, place, stored, file, self.block_rows, self.sums.get(run))


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
