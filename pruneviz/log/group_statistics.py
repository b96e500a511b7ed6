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
    """Missing values, and the lowest and highest value, of every column of a group of rows.

    Args:
        said: What the footer says of the group.
    """

    def __init__(self, said: pq.RowGroupMetaData) -> None:
        columns = [said.column(place) for place in range(said.num_columns)]
        self._said = {column.path_in_schema: column.statistics for column in columns}
        self._nulls = dict.fromkeys(self._said, 0)
        self._between: dict[str, tuple[Any, Any]] = {}

    def look(self, rows: pa.RecordBatch) -> None:
        """Take in rows of the group."""
        for name in set(self._said) & set(rows.schema.names):
            values = rows.column(name)
            self._nulls[name] += values.null_count
            if self._said[name] is None or not self._said[name].has_min_max:
                continue
            if pa.types.is_dictionary(values.type):
                values = values.dictionary.take(values.indices.unique())
            found = pc.min_max(values).as_py()
            if found["min"] is not None:
                before = self._between.get(name, (found["min"], found["max"]))
                self._between[name] = min(before[0], found["min"]), max(before[1], found["max"])

    def check(self) -> None:
        """Raise a `LogError` if the footer says something else."""
        for fault in self._faults():
            raise LogError(
                f"its footer says {fault}, so that other programs would leave out rows; restore it "
                "from a backup, or record the run again"
            )

    def _faults(self) -> Iterator[str]:
        for name, said in self._said.items():
            if said is None:
                continue
            if said.has_null_count and said.null_count != self._nulls[name]:
                yield f"{said.null_count} values of {name} are missing, {self._nulls[name]} are"
            low, high = self._between.get(name, (None, None))
            if low is not None and not (said.min <= low and high <= said.max):
                yield f"{name} is {said.min} to {said.max}, it is {low} to {high}"
