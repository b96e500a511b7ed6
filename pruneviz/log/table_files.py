"""The file of a table is checked before and after its rows are read, as it may come from others.

Only regular files are opened. A file with columns that the table cannot have, or that would not fit
into memory, is refused before its rows are read. What else is stored beside the columns, such as
metadata for pandas, is left out, so that it cannot change how they are read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import limits, schema
from pruneviz.log.memory import most_memory
from pruneviz.log.older_columns import names_now
from pruneviz.log.regular_files import check_regular

_ALWAYS_FITS = 1 << 30  # bytes; smaller tables are not compared with the memory
_MOST_FOOTER = 64 << 20  # bytes that describe columns and row groups
_MOST_GROUPS = 20_000  # of rows; over a billion rows as they are written here
_END = b"PAR1"  # of a Parquet file, after the 4 bytes that give the size of the footer


def footer_of(file: Path) -> pq.FileMetaData:
    """What the end of a file says of its columns and row groups.

    Raises:
        LogError: If it is no regular file, or says too much to be read.
        OSError: If it is missing or no Parquet file.
    """
    check_regular(file)
    with file.open("rb") as content:
        content.seek(-min(8, file.stat().st_size), os.SEEK_END)
        end = content.read(8)
    size = int.from_bytes(end[:4], "little")
    if end[4:] == _END and size > _MOST_FOOTER:
        raise LogError(f"its footer has {size:,} bytes, at most {_MOST_FOOTER:,} can be read")
    footer = pq.read_metadata(file)
    for count, most, what in (
        (footer.num_columns, limits.MOST_COLUMNS, "columns"),
        (footer.num_row_groups, _MOST_GROUPS, "groups of rows"),
    ):
        if count > most:
            raise LogError(f"it has {count:,} {what}, at most {most:,} can be read")
    return footer


def checked_schema(file: Path, table: str) -> pa.Schema:
    """The columns of a table's file.

    Raises:
        LogError: If it is no regular file, or a column is missing, occurs twice or is of another
            type.
        OSError: If it is missing or no Parquet file.
    """
    footer_of(file)
    found = pq.read_schema(file).remove_metadata()
    twice = [name for name, times in Counter(names_now(table, found.names)).items() if times > 1]
    if twice:
        raise LogError(f"column {', '.join(twice)} occurs twice")
    own = {field.name: field.type for field in found if pa.types.is_string(field.type)}
    described = schema.arrow_schema(table, found.names, own)
    types = {field.name: field.type for field in described}
    missing = sorted(set(schema.SORT_KEYS[table]) - set(found.names))
    wrong = [
        f"column {field.name} is of type {field.type}, expected {types[field.name]}"
        for field in found
        if field.type != types[field.name]
    ]
    if missing or wrong:
        raise LogError("; ".join([*(f"column {name} is missing" for name in missing), *wrong]))
    return pa.schema([pa.field(field.name, field.type) for field in found])


def check_fits(footer: pq.FileMetaData, columns: Sequence[pa.Field], groups: Sequence[int]) -> None:
    """Check that the rows to read fit into memory, by what the file says of them.

    Args:
        footer: What the file says.
        columns: Columns to read.
        groups: Row groups to read.

    Raises:
        LogError: If they do not.
    """
    needed = sum(_bytes_of(footer.row_group(place), columns) for place in groups)
    if needed <= _ALWAYS_FITS:
        return
    most = most_memory()
    if most is not None and needed > max(most, _ALWAYS_FITS):
        raise LogError(
            f"its {footer.num_rows:,} rows need {needed / 1e9:,.1f} GB of memory, this process may "
            f"use {most / 1e9:,.1f} GB; read fewer columns or epochs, or use pruneviz.scan"
        )


def check_rows(rows: pa.Table | pa.RecordBatch, table: str) -> None:
    """Check rows that were read: texts, categories, and that each names its run and epoch.

    Raises:
        pa.ArrowException: If texts are no Unicode, or categories do not exist.
        LogError: If a run or epoch is missing, or a name is far too long.
    """
    rows.validate(full=True)
    for name in ("run", "epoch"):
        held = name in schema.SORT_KEYS[table] and name in rows.schema.names
        if held and rows.column(name).null_count:
            raise LogError(f"column {name} has rows without a value")
    check_names(rows, table)


def check_names(rows: pa.Table | pa.RecordBatch, table: str) -> None:
    """Check that the names of runs, layers and phases in some rows are not far too long.

    Raises:
        LogError: If one is.
    """
    for name, column in schema.TABLES[table].items():
        if pa.types.is_dictionary(column.dtype) and name in rows.schema.names:
            _check_names(name, rows.column(name))


def _check_names(name: str, column: pa.ChunkedArray | pa.Array) -> None:
    """Check that the values of a column are names: such texts are repeated for every row."""
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        longest = pc.max(pc.utf8_length(chunk.dictionary)).as_py() or 0
        if longest > limits.MOST_LETTERS:
            raise LogError(
                f"column {name} holds a name of {longest:,} letters, at most "
                f"{limits.MOST_LETTERS:,} can be read"
            )


def _bytes_of(group: pq.RowGroupMetaData, columns: Sequence[pa.Field]) -> float:
    """Memory that a group of rows needs, by what the file says."""
    fixed = sum(_width(field.type) for field in columns)
    # Not of single columns: Arrow ends the process when it is asked for one that is damaged.
    texts = group.total_byte_size if any(schema.is_text(field.type) for field in columns) else 0
    return float(group.num_rows * fixed + texts)


def _width(dtype: pa.DataType) -> float:
    if pa.types.is_dictionary(dtype):
        return float(dtype.index_type.bit_width / 8)
    return float(4 if pa.types.is_string(dtype) else dtype.bit_width / 8)
