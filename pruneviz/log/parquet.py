"""Tables as Parquet files: written whole, read whole or only some columns, epochs and rows.

A filters table of paper scale has millions of rows, of which a picture shows a few columns at a few
epochs. Parquet stores columns apart, and rows in groups with their lowest and highest epoch, so
that other columns and epochs are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.files import disk_errors, write_whole

# Smaller groups hardly read faster and make larger files (this size: 0.4 % larger).
_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class TablePart:
    """A part of a table: some of its columns, epochs and rows.

    Attributes:
        columns: Columns to read; None reads all.
        epochs: Epochs whose rows to read; None reads all.
        complete: Columns that may not be null in the rows to read.
    """

    columns: tuple[str, ...] | None = None
    epochs: tuple[int, ...] | None = None
    complete: tuple[str, ...] = ()

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """This part of a table in memory."""
        rows = frame if self.epochs is None else frame[frame["epoch"].isin(self.epochs)]
        rows = rows.dropna(subset=list(self.complete))
        return used_categories(rows if self.columns is None else rows[list(self.columns)])

    def columns_of(self, names: Sequence[str]) -> list[str]:
        """The columns to read of a file that has the columns `names`."""
        if self.columns is None:
            return list(names)
        return [name for name in names if name in self.columns]

    @property
    def condition(self) -> pc.Expression | None:
        """Condition on the rows to read, as Parquet takes it; None reads all rows."""
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
    """Read a part of a file of a table; columns that the file does not have are left out.

    Raises:
        LogError: If the file is missing, cannot be read, or has columns that the table has not.
    """
    with _read_errors(file):
        held = _checked_schema(file, table)
        columns = part.columns_of(held.names)
        if not set(part.complete) <= set(held.names):
            return held.empty_table().select(columns)
        return pq.read_table(
            file, columns=columns, filters=part.condition, page_checksum_verification=True
        )


def check_file(file: Path, table: str) -> None:
    """Raise the errors of `read_file` that show before any row is read."""
    with _read_errors(file):
        _checked_schema(file, table)


def joined(
    parts: Sequence[pa.Table], table: str, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """One frame of parts of a table, null in parts that lack a column.

    Args:
        parts: Rows of the table; categories are united in order of appearance.
        table: Name of the table.
        columns: Columns of the frame. Default: all of the table.

    Raises:
        LogError: If no part has one of `columns`.
    """
    empty = _no_rows(table, columns)
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
    """A frame with the columns and types of a table; columns that it lacks are null.

    Raises:
        LogError: If the frame has columns that the table has not, or values of another type.
    """
    described = schema.arrow_schema(table, list(frame.columns))
    return pa.Table.from_arrays([_column(frame, field) for field in described], schema=described)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as a Parquet file, whole or not at all."""
    options = _write_options(table.schema)
    write_whole(
        path, lambda file: pq.write_table(table, file, row_group_size=_GROUP_ROWS, **options)
    )


def write_blocks(blocks: Iterable[pd.DataFrame], out: Path, described: pa.Schema) -> None:
    """Write tables as the row groups of one Parquet file, whole or not at all.

    Args:
        blocks: Tables of the columns `described`, in the order of the rows.
        out: The file; there may be none yet.
        described: Names and types of the columns.

    Raises:
        LogError: If the file exists already, or the disk cannot be written to.
    """
    if out.exists():
        raise LogError(f"{out} exists already; name another file, or delete it first")

    def write(file: Path) -> None:
        with pq.ParquetWriter(file, described, **_write_options(described)) as writer:
            for block in blocks:
                rows = pa.Table.from_pandas(block, schema=described, preserve_index=False)
                writer.write_table(rows)

    with disk_errors(out):
        write_whole(out, write)


def sort_rows(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """The rows in the order that the table has on disk."""
    return frame.sort_values(list(schema.SORT_KEYS[table]), kind="stable", ignore_index=True)


def rows_of_runs(frame: pd.DataFrame, runs: pd.Series) -> pd.DataFrame:
    """The rows of some runs."""
    return used_categories(frame[frame["run"].isin(set(runs))])


def used_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows renumbered, without the categories that no row has."""
    renumbered = frame.reset_index(drop=True)
    categorical = renumbered.select_dtypes("category")
    return renumbered.assign(
        **{str(name): column.cat.remove_unused_categories() for name, column in categorical.items()}
    )


def corrupt(file: Path, error: Exception) -> LogError:
    """The error for a file that exists and cannot be read."""
    return LogError(
        f"{file} is corrupt ({error}); restore it from a backup, "
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
def _read_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise LogError(
            f"{file} is missing; restore it from a backup, or delete the run and record it again"
        ) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(file, error) from error


def _checked_schema(file: Path, table: str) -> pa.Schema:
    """The columns of a file; raises if one is missing or of another type than the table's."""
    found = pq.read_schema(file)
    types = {field.name: field.type for field in schema.arrow_schema(table, found.names)}
    wrong = [field.name for field in found if field.type != types[field.name]]
    wrong += sorted(set(schema.SORT_KEYS[table]) - set(found.names))
    if wrong:
        raise LogError(f"column {', '.join(wrong)} is missing or of another type")
    return found


def _no_rows(table: str, columns: Sequence[str] | None) -> pa.Table:
    described = schema.arrow_schema(table, [])
    names = [name for name in described.names if columns is None or name in columns]
    return described.empty_table().select(names)
