"""The file of a table is checked before and after its rows are read, as it may come from others.

Only regular files are opened. A file with columns that the table cannot have, or that would not fit
into memory, is refused before its rows are read. What else is stored beside the columns, such as
metadata for pandas, is left out, so that it cannot change how they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.memory import most_memory
from pruneviz.log.older_columns import names_now
from pruneviz.log.regular_files import check_regular

_ALWAYS_FITS = 1 << 30  # bytes; smaller tables are not compared with the memory


def checked_schema(file: Path, table: str) -> pa.Schema:
    """The columns of a table's file.

    Raises:
        LogError: If it is no regular file, or a column is missing, occurs twice or is of another
            type.
        OSError: If it is missing or no Parquet file.
    """
    check_regular(file)
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


def check_fits(
    file: Path, columns: Sequence[pa.Field], epochs: Sequence[int] | None = None
) -> None:
    """Check that the rows to read fit into memory, by what the file says of them.

    Args:
        file: The file.
        columns: Columns to read.
        epochs: Epochs to read; None reads all.

    Raises:
        LogError: If they do not.
    """
    footer = pq.read_metadata(file)
    groups = [footer.row_group(place) for place in range(footer.num_row_groups)]
    if sum(_bytes_of(group, columns) for group in groups) <= _ALWAYS_FITS:
        return
    needed = sum(_bytes_of(group, columns) for group in groups if _may_hold(group, epochs))
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
        LogError: If a run or epoch is missing.
    """
    rows.validate(full=True)
    for name in ("run", "epoch"):
        held = name in schema.SORT_KEYS[table] and name in rows.schema.names
        if held and rows.column(name).null_count:
            raise LogError(f"column {name} has rows without a value")


def _bytes_of(group: pq.RowGroupMetaData, columns: Sequence[pa.Field]) -> float:
    """Memory that a group of rows needs, by what the file says."""
    fixed = sum(_width(field.type) for field in columns)
    texts = {field.name for field in columns if schema.is_text(field.type)}
    chunks = map(group.column, range(group.num_columns)) if texts else ()
    stored = (chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in texts)
    return float(group.num_rows * fixed + sum(stored))


def _width(dtype: pa.DataType) -> float:
    if pa.types.is_dictionary(dtype):
        return float(dtype.index_type.bit_width / 8)
    return float(4 if pa.types.is_string(dtype) else dtype.bit_width / 8)


def _may_hold(group: pq.RowGroupMetaData, epochs: Sequence[int] | None) -> bool:
    """Whether a group of rows may hold one of the epochs, as the reader decides it."""
    if epochs is None:
        return True
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema == "epoch":
            known = column.statistics
            if known is None or not known.has_min_max:
                return True
            return any(known.min <= epoch <= known.max for epoch in epochs)
    return True
