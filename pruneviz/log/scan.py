"""The filters tables of many runs, left on disk and read a block of whole epochs at a time.

`pv.score`, `pv.correlate` and `pv.mask_distance` take a `Scan` where they take a DataFrame, and hand its blocks to the very functions
that serve a table in memory: there is one formula for each number. That is why this is a loop over Parquet batches and not a query engine
such as DuckDB, in which every measure, mean rank and mask would have to be written a second time, in SQL, and kept equal to the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.files import disk_errors, write_whole
from pruneviz.log.parquet import check_file, corrupt
from pruneviz.log.run_directory import is_sealed, read_spec, run_paths

BLOCK_ROWS = (
    1 << 19
)  # enough that what a call costs is small beside what its rows cost, and 100 MB at most in what is made of them


@dataclass(frozen=True)
class Scan:
    """The filters tables of finished runs, on disk; made by `scan`.

    `files`: by the name of the run, rows sorted by epoch; `columns`: those that any file has, in the order of the log; `rows`: of all
    files; `block_rows`: how many rows a block should have.
    """

    files: Mapping[str, Path]
    columns: tuple[str, ...]
    rows: int
    block_rows: int = BLOCK_ROWS

    def __len__(self) -> int:
        return self.rows

    def blocks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The rows in their order, a block at a time: whole epochs of one run, some `block_rows` rows, or one epoch that has more.

        Args: `columns`, besides run and epoch, which every block has; those that the set does not have are left out.
        Returns: DataFrames as `pv.load(...).filters`; run and layer have the same categories in every block.
        Errors: `LogError` for a file that is corrupt, not sorted by epoch, or of another run than its spec says.
        """
        names = [name for name in self.columns if name in {"run", "epoch", *columns}]
        known = {name: self._categories[name] for name in ("run", "layer") if name in names}
        for run, file in self.files.items():
            for table in _whole_epochs(run, file, names, self.block_rows):
                frame = table.to_pandas()
                yield frame.assign(
                    **{
                        name: frame[name].cat.set_categories(categories)
                        for name, categories in known.items()
                    }
                )

    def no_rows(self) -> pd.DataFrame:
        """The table without its rows: all columns, with their dtypes."""
        described = schema.arrow_schema("filters", list(self.columns))
        empty = described.empty_table().select(list(self.columns)).to_pandas()
        return empty.astype(
            {name: pd.CategoricalDtype(categories) for name, categories in self._categories.items()}
        )

    @cached_property
    def _categories(self) -> dict[str, list[str]]:
        """The names of runs and of layers, in the order in which the set first names them."""
        layers: dict[str, None] = {}
        named = []
        for run, file in self.files.items():
            rows = 0
            for batch in _batches(file, ["layer"], self.block_rows):
                layers |= dict.fromkeys(batch["layer"].dictionary.to_pylist())
                rows += len(batch)
            named += [run] * (rows > 0)
        return {"run": named, "layer": list(layers)}


def scan(path: str | Path) -> Scan:
    """Open one run directory, or every run below a folder, for analysis in bounded memory; no rows are read yet.

    What `pv.score`, `pv.correlate` and `pv.mask_distance` hold of it at a time grows with the largest epoch of a run, not with the number
    of epochs or runs. Errors: `LogError` for a folder without runs, a run that is unfinished, corrupt or of a newer schema, and two runs
    of one name.
    """
    paths = run_paths(path)
    for opened in (run for run in paths if not is_sealed(run)):
        raise LogError(
            f"{opened} is unfinished; finish its recording, or read what it has with pruneviz.load(path, unfinished='include')"
        )
    files = _by_name(paths)
    footers = [_footer(file) for file in files.values()]
    named = {name for held, _ in footers for name in held}
    columns = tuple(
        name for name in schema.arrow_schema("filters", sorted(named)).names if name in named
    )
    return Scan(files, columns, sum(rows for _, rows in footers))


def write_blocks(blocks: Iterable[pd.DataFrame], out: Path, described: pa.Schema) -> None:
    """Write tables one after another as the row groups of one Parquet file, whole or not at all.

    Errors: `LogError` for a file that exists already, and for a disk that cannot be written to.
    """
    if out.exists():
        raise LogError(f"{out} exists already; name another file, or delete it first")
    split = [field.name for field in described if pa.types.is_floating(field.type)]
    options = {
        "compression": "zstd",
        "use_dictionary": ["run", "layer"],
        "use_byte_stream_split": split,
        "write_page_checksum": True,
    }

    def write(file: Path) -> None:
        with pq.ParquetWriter(file, described, **options) as writer:
            for block in blocks:
                writer.write_table(
                    pa.Table.from_pandas(block, schema=described, preserve_index=False)
                )

    with disk_errors(out):
        write_whole(out, write)


def _by_name(paths: list[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        name = read_spec(path).run
        if name in files:
            raise LogError(
                f"{files[name].parent} and {path} are both called {name}; scan one folder alone, or rename one of the runs"
            )
        files[name] = path / "filters.parquet"
    return files


def _footer(file: Path) -> tuple[list[str], int]:
    """The columns and the number of rows of a file."""
    check_file(file, "filters")
    found = pq.read_metadata(file)
    return found.schema.to_arrow_schema().names, found.num_rows


def _batches(file: Path, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as found:
            yield from found.iter_batches(
                batch_size=rows,
                columns=[name for name in columns if name in found.schema_arrow.names],
            )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(file, error) from error


def _whole_epochs(run: str, file: Path, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """The rows of one file, cut between epochs: the rows of a batch's last epoch wait for the next batch, which may hold more of them."""
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
            f"{file} is not sorted by epoch, as that of a finished run is; restore it, or delete the run and record it again"
        )
    if batch["run"].dictionary.to_pylist() != [run]:
        other = ", ".join(batch["run"].dictionary.to_pylist())
        raise LogError(
            f"{file} holds rows of {other}, its spec.json is that of {run}; name the run in spec.json as its rows do"
        )


def _table(batches: list[pa.RecordBatch], columns: list[str]) -> pa.Table:
    """The batches as one table that has all `columns`, null where the file does not have them."""
    found = pa.Table.from_batches(batches).unify_dictionaries()
    wanted = schema.arrow_schema("filters", columns)
    absent = {
        name: pa.nulls(len(found), wanted.field(name).type)
        for name in set(columns) - set(found.column_names)
    }
    return pa.table({name: absent[name] if name in absent else found[name] for name in columns})
