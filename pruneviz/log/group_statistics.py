"""What the footer of a Parquet file says of its groups of rows, compared with the rows.

pruneviz reads by the rows; other readers, such as DuckDB and Polars, leave out groups of rows by
these statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pruneviz.errors import LogError


class GroupStatistics:
    """Missing values, and the lowest and highest value, of every column of a group of rows."""

    def __init__(self) -> None:
        self._nulls: dict[str, int] = {}
        self._between: dict[str, tuple[Any, Any]] = {}

    def look(self, rows: pa.RecordBatch) -> None:
        """Take in rows of the group."""
        for name, values in zip(rows.schema.names, rows.columns, strict=True):
            self._nulls[name] = self._nulls.get(name, 0) + values.null_count
            if pa.types.is_dictionary(values.type):
                values = values.dictionary.take(values.indices.unique())
            found = pc.min_max(values).as_py()
            if found["min"] is not None:
                before = self._between.get(name, (found["min"], found["max"]))
                self._between[name] = min(before[0], found["min"]), max(before[1], found["max"])

    def check(self, footer: pq.FileMetaData, group: int) -> None:
        """Compare the rows of a group with what the footer says of them.

        Args:
            footer: What the file says.
            group: Number of the group, all of whose rows were looked at: Arrow ends the process
                when it is asked for a column that it could not read.

        Raises:
            LogError: If it says something else.
        """
        said = footer.row_group(group)
        for place in range(said.num_columns):
            for fault in self._faults(said.column(place), footer.schema.column(place)):
                raise LogError(
                    f"its footer says {fault}, so that other programs would leave out rows; "
                    "restore it from a backup, or record the run again"
                )

    def _faults(self, column: pq.ColumnChunkMetaData, of: pq.ColumnSchema) -> Iterator[str]:
        name = column.path_in_schema
        # asked for statistics of another type, Arrow ends the process
        if column.physical_type != of.physical_type:
            yield f"{name} is {column.physical_type} and {of.physical_type}"
            return
        said = column.statistics
        if said is None or name not in self._nulls:
            return
        if said.has_null_count and said.null_count != self._nulls[name]:
            yield f"{said.null_count} values of {name} are missing, {self._nulls[name]} are"
        low, high = self._between.get(name, (None, None))
        if said.has_min_max and low is not None and not (said.min <= low and high <= said.max):
            yield f"{name} is {said.min} to {said.max}, it is {low} to {high}"
