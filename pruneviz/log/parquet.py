"""Tables as Parquet files: atomic writing, and reading of selected columns, epochs and rows.

A filters table at paper scale has millions of rows, but a picture shows a few columns at a few
epochs. Parquet stores columns separately, and rows in groups with their lowest and highest epoch,
so other columns and epochs are not read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pruneviz.console.url_names import mirror_root
from pruneviz.errors import LogError
from pruneviz.log import limits, schema
from pruneviz.log.files import disk_errors, write_over, write_whole
from pruneviz.log.group_statistics import GroupStatistics
from pruneviz.log.older_columns import names_now
from pruneviz.log.regular_files import unreadable
from pruneviz.log.table_files import check_names, check_rows, checked_schema
from pruneviz.log.table_rows import check_texts, open_table, stored_rows, text_bytes

# Smaller groups are hardly faster to read and make files larger (this size: by 0.4 %).
_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class TablePart:
    """A selection of columns, epochs and rows from a table.

    Attributes:
        columns: Columns to read; None reads all.
        epochs: Epochs to read; None reads all.
        complete: Columns that must not be null in the selected rows.
    """

    columns: tuple[str, ...] | None = None
    epochs: tuple[int, ...] | None = None
    complete: tuple[str, ...] = ()

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """This part of a table in memory."""
        rows = frame if self.epochs is None else frame[frame["epoch"].isin(self.epochs)]
        rows = rows.dropna(subset=list(self.complete))
        return used_categories(rows if self.columns is None else rows[list(self.columns)])

    def of_rows(self, rows: pa.Table) -> pa.Table:
        """This part of the rows that a file holds."""
        columns = self.columns_of(rows.column_names)
        if not set(self.complete) <= set(rows.column_names):
            return rows.slice(0, 0).select(columns)
        condition = self.condition
        return (rows if condition is None else rows.filter(condition)).select(columns)

    def columns_of(self, names: Sequence[str]) -> list[str]:
        """The columns to read from a file with the columns `names`."""
        if self.columns is None:
            return list(names)
        return [name for name in names if name in self.columns]

    @property
    def condition(self) -> pc.Expression | None:
        """Row filter for Parquet; None reads all rows."""
        conditions = [pc.field(name).is_valid() for name in self.complete]
        if self.epochs is not None:
            conditions.insert(0, pc.field("epoch").isin(self.epochs))
        if not conditions:
            return None
        whole, *further = conditions
        for condition in further:
            whole &= condition
        return whole


WHOLE = TablePart()


def read_file(file: Path, table: str, part: TablePart = WHOLE) -> pa.Table:
    """Read a part of a table's file; columns missing in the file are left out.

    Columns of older recordings come under today's names, as in `pruneviz.log.older_columns`.

    Raises:
        LogError: If the file is missing, cannot be read, or has unknown columns.
    """
    with read_errors(file):
        held = checked_schema(file, table)
        names = names_now(table, held.names)
        columns = part.columns_of(names)
        if not set(part.complete) <= set(names):
            return held.empty_table().rename_columns(names).select(columns)
        stored = dict(zip(names, held.names, strict=True))
        tested = tuple(stored[name] for name in part.complete)
        condition = replace(part, complete=tested).condition
        also = tested if part.epochs is None else ("epoch", *tested)
        named = [stored[name] for name in columns]
        rows = stored_rows(file, table, held, named, condition, also)
        return rows.rename_columns(columns)


def check_file(file: Path, table: str) -> None:
    """Raise the errors of `read_file` that do not need its rows."""
    with read_errors(file):
        checked_schema(file, table)


def check_pages(
    file: Path, table: str, look: Callable[[pa.RecordBatch], object] | None = None
) -> None:
    """Read a file to its end, block by block.

    Args:
        file: The file.
        table: Table name.
        look: Gets every block of rows.

    Raises:
        LogError: As by `read_file`, or if the statistics in the footer are not those of the rows.
    """
    with read_errors(file):
        held, texts = checked_schema(file, table), 0
        with open_table(file, held) as opened:
            for group in range(opened.num_row_groups):
                statistics = GroupStatistics()
                for batch in opened.iter_batches(batch_size=_GROUP_ROWS, row_groups=[group]):
                    check_rows(batch, table)
                    texts += text_bytes(pa.Table.from_batches([batch]), held)
                    check_texts(texts)
                    statistics.look(batch)
                    if look is not None:
                        look(batch)
                statistics.check(opened.metadata, group)


def columns_of_file(file: Path, table: str) -> list[str]:
    """Columns of a file, found without reading rows."""
    with read_errors(file):
        return names_now(table, checked_schema(file, table).names)


def columns_with_values(file: Path, table: str) -> list[str]:
    """Columns of a file that are not null in every row; each is read up to its first value."""
    with read_errors(file):
        held = checked_schema(file, table)
        with open_table(file, held) as opened:
            named = zip(names_now(table, held.names), held.names, strict=True)
            return [name for name, stored in named if _has_value(opened, stored)]


def renamed_run(rows: pa.Table, run: str) -> pa.Table:
    """The rows of one run under another run name."""
    if "run" not in rows.column_names:
        return rows
    place = rows.column_names.index("run")
    names = pa.array([run] if len(rows) else [], pa.string())
    column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(rows)), names)
    return rows.set_column(place, rows.field(place), column)


def joined(
    parts: Sequence[pa.Table], table: str, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Concatenate parts of a table; columns missing in a part are null there.

    Args:
        parts: Table rows; categories are united in order of appearance.
        table: Table name.
        columns: Columns of the frame. Default: all.

    Raises:
        LogError: If a column is missing in all parts, or holds text in one and numbers in another.
    """
    empty = _no_rows(table, columns)
    _check_same_types(parts, table)
    found = pa.concat_tables([empty, *parts], promote_options="default").unify_dictionaries()
    if columns is None:
        names = schema.arrow_schema(table, found.column_names).names
    else:
        names = list(dict.fromkeys(columns))
    lacking = [name for name in names if name not in found.column_names]
    if lacking:
        raise LogError(
            f"the {table} table of these runs has no column {', '.join(lacking)}; "
            "record the runs with it"
        )
    return found.select(names).to_pandas()


def arrow_table(table: str, frame: pd.DataFrame) -> pa.Table:
    """Convert a frame to the columns and types of a table; missing columns are null.

    Raises:
        LogError: If the frame has unknown columns, or values of another type.
    """
    own = {str(name): schema.own_type(values) for name, values in frame.items()}
    described = schema.arrow_schema(table, list(frame.columns), own)
    if len(described) > limits.MOST_COLUMNS:
        raise LogError(
            f"the {table} table has {len(described):,} columns, at most "
            f"{limits.MOST_COLUMNS:,} can be read; give fewer facts"
        )
    columns = [_column(frame, field) for field in described]
    rows = pa.Table.from_arrays(columns, schema=described)
    check_names(rows, table)
    return rows


def write_table(path: Path, table: pa.Table, *, level: int | None = None) -> None:
    """Write a table as a Parquet file, atomically, at a compression level of zstd."""
    options = {**_write_options(table.schema), "compression_level": level}
    write_whole(
        path, lambda file: pq.write_table(table, file, row_group_size=_GROUP_ROWS, **options)
    )


def table_bytes(table: pa.Table) -> bytes:
    """The content of the file that `write_table` would write."""
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=_GROUP_ROWS, **_write_options(table.schema))
    return content.getvalue()


def write_blocks(
    blocks: Iterable[pd.DataFrame | pa.Table], out: Path, described: pa.Schema
) -> None:
    """Write tables as row groups of one Parquet file, atomically.

    Args:
        blocks: Tables with the columns in `described`, in row order; those of Arrow as they are.
        out: The file; must not exist.
        described: Column names and types.

    Raises:
        LogError: If the file already exists, or the disk cannot be written to.
    """
    if out.exists():
        raise LogError(f"{out} already exists; name another file, or delete it first")

    def write(file: Path) -> None:
        with pq.ParquetWriter(file, described, **_write_options(described)) as writer:
            for block in blocks:
                if isinstance(block, pd.DataFrame):
                    block = pa.Table.from_pandas(block, schema=described, preserve_index=False)
                writer.write_table(block)

    with disk_errors(out):
        write_over(out, write)


def sort_rows(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """The rows in the table's order on disk."""
    return frame.sort_values(list(schema.SORT_KEYS[table]), kind="stable", ignore_index=True)


def rows_of_runs(frame: pd.DataFrame, runs: pd.Series) -> pd.DataFrame:
    """The rows of some runs."""
    return used_categories(frame[frame["run"].isin(set(runs))])


def used_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with a new index and without unused categories."""
    renumbered = frame.reset_index(drop=True)
    categorical = renumbered.select_dtypes("category")
    return renumbered.assign(
        **{str(name): column.cat.remove_unused_categories() for name, column in categorical.items()}
    )


def corrupt(file: Path, error: Exception) -> LogError:
    """Error for a file that exists but cannot be read; one of ours may name it and its repair."""
    name, why = f"{file} ", str(error.args[0] if isinstance(error, LogError) else error)
    if isinstance(error, LogError) and why.startswith(name):
        if "; " in why.removeprefix(name):
            return LogError(why)
        why = f"it {why.removeprefix(name)}"
    return LogError(
        f"{file} is corrupt ({why}); restore it from a backup, "
        "or delete the run and record it again"
    )


def _write_options(described: pa.Schema) -> dict[str, Any]:
    return {
        "compression": "zstd",
        "use_dictionary": ["run", "layer", "phase"],
        "use_byte_stream_split": [
            field.name for field in described if pa.types.is_floating(field.type)
        ],
        "write_page_checksum": True,
    }


def _column(frame: pd.DataFrame, field: pa.Field) -> pa.Array:
    if field.name not in frame.columns:
        return pa.nulls(len(frame), field.type)
    values = frame[field.name]
    try:
        if pa.types.is_dictionary(field.type):
            texts = pa.array(values.astype("object"), type=field.type.value_type, from_pandas=True)
            return texts.cast(field.type)
        return pa.array(values, type=field.type, from_pandas=True)
    except pa.ArrowException as error:
        raise LogError(
            f"column {field.name} holds {field.type} values, but was given others ({error}); "
            "convert them first"
        ) from error


@contextmanager
def read_errors(file: Path) -> Iterator[None]:
    """Turn failures to read a file of a run into a `LogError` that names it."""
    try:
        yield
    except FileNotFoundError:
        if mirror_root() in file.parents:
            raise LogError(f"the local copy of {file} is gone; load the recording again") from None
        raise LogError(
            f"{file} is missing; restore it from a backup, or delete the run and record it again"
        ) from None
    except PermissionError as error:
        raise unreadable(file) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(file, error) from error


def _has_value(opened: pq.ParquetFile, column: str) -> bool:
    groups = range(opened.num_row_groups)
    rows = (opened.read_row_group(group, columns=[column]) for group in groups)
    return any(held.column(0).null_count < held.num_rows for held in rows)


def _check_same_types(parts: Sequence[pa.Table], table: str) -> None:
    """Check that facts of one name are numbers, or text, in all parts."""
    seen: dict[str, tuple[pa.DataType, pa.Table]] = {}
    for part in parts:
        for field in part.schema:
            first, other = seen.setdefault(field.name, (field.type, part))
            if field.type != first:
                kinds = [
                    f"{_kind(kind)}{_run_of(rows)}"
                    for kind, rows in ((first, other), (field.type, part))
                ]
                raise LogError(
                    f"column {field.name} of the {table} table holds {' and '.join(kinds)}; load "
                    "these runs apart, or read columns without it, as in "
                    f"runs.read({table!r}, ['run', 'epoch'])"
                )


def _kind(dtype: pa.DataType) -> str:
    return "text" if schema.is_text(dtype) else "numbers"


def _run_of(rows: pa.Table) -> str:
    runs = rows["run"].unique().to_pylist() if "run" in rows.column_names else []
    return f" in {runs[0]}" if runs else ""


def _no_rows(table: str, columns: Sequence[str] | None) -> pa.Table:
    described = schema.arrow_schema(table, [])
    names = [name for name in described.names if columns is None or name in columns]
    return described.empty_table().select(names)
