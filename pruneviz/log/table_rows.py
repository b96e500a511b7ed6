"""The rows of a table's file: those of some epochs, and texts that fit into memory.

Only rows tell what a file holds: the statistics that its footer gives of row groups may be wrong in
a file of others, and would lose rows without a word. So the few columns that select rows are read
first, and then the groups in which there are some. Texts stay references into a dictionary until it
is known how long they are in all, because a few kilobytes on disk can name gigabytes of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import limits
from pruneviz.log.table_files import check_fits, check_rows


def stored_rows(
    file: Path,
    table: str,
    held: pa.Schema,
    columns: Sequence[str],
    condition: pc.Expression | None = None,
    tested: Sequence[str] = (),
) -> pa.Table:
    """The rows of a file that a condition selects.

    Args:
        file: The file.
        table: Table name.
        held: Its columns, from `checked_schema`.
        columns: Columns to read.
        condition: Selects rows; None reads all.
        tested: Columns that the condition needs.

    Raises:
        LogError: If the rows would not fit into memory.
        pa.ArrowException: If they cannot be read.
    """
    with open_table(file, held) as opened:
        groups = list(range(opened.num_row_groups))
        if condition is not None:
            groups = [place for place in groups if _has_rows(opened, place, condition, tested)]
        read = list(dict.fromkeys([*columns, *tested]))
        check_fits(opened.metadata, [held.field(name) for name in read], groups)
        rows = opened.read_row_groups(groups, columns=read).replace_schema_metadata(None)
    check_rows(rows, table)
    chosen = rows if condition is None else rows.filter(condition)
    return _plain(chosen.select(list(columns)), held)


def open_table(file: Path, held: pa.Schema) -> pq.ParquetFile:
    """Open the file of a table with texts as references into a dictionary."""
    texts = [field.name for field in held if pa.types.is_string(field.type)]
    return pq.ParquetFile(file, page_checksum_verification=True, read_dictionary=texts)


def _has_rows(
    opened: pq.ParquetFile, group: int, condition: pc.Expression, tested: Sequence[str]
) -> bool:
    return opened.read_row_group(group, columns=list(tested)).filter(condition).num_rows > 0


def _plain(rows: pa.Table, held: pa.Schema) -> pa.Table:
    """The rows with texts in place of references, where the file has them so."""
    names = [name for name in rows.column_names if pa.types.is_string(held.field(name).type)]
    check_texts(text_bytes(rows, held))
    for name in names:
        field = pa.field(name, pa.string())
        rows = rows.set_column(rows.column_names.index(name), field, rows[name].cast(pa.string()))
    return rows


def check_texts(needed: int) -> None:
    """Check that the texts of a table fit into memory.

    Args:
        needed: Their bytes.

    Raises:
        LogError: If they do not.
    """
    if needed > limits.MOST_TEXT:
        raise LogError(
            f"its texts need {needed / 1e9:,.1f} GB of memory, at most "
            f"{limits.MOST_TEXT / 1e9:,.1f} GB can be read; read fewer columns or epochs"
        )


def text_bytes(rows: pa.Table, held: pa.Schema) -> int:
    """Bytes of the texts in some rows, without forming them.

    Args:
        rows: The rows, with references into dictionaries.
        held: The columns of the file.
    """
    names = [name for name in rows.column_names if pa.types.is_string(held.field(name).type)]
    return sum(_text_bytes(rows[name]) for name in names)


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column, without forming them."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = (
        pc.sum(pc.take(pc.binary_length(chunk.dictionary).cast(pa.int64()), chunk.indices))
        for chunk in column.chunks
    )
    return sum(total.as_py() or 0 for total in lengths)
