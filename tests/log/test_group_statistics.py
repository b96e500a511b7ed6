"""The statistics in a footer are compared with the rows of their group."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log.group_statistics import GroupStatistics

ROWS = pa.table(
    {
        "number": pa.array([1.5, None, np.nan, -0.0], pa.float32()),
        "none": pa.array([None] * 4, pa.float64()),
        "nan": [np.nan] * 4,
        "whole": [3, 1, 2, 2**40],
        "kept": [True, None, False, True],
        "text": pa.array(["b", "ü", None, ""]).dictionary_encode(),
    }
)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_what_arrow_writes_is_right(tmp_path: Path, size: int) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet", row_group_size=size)
    opened = pq.ParquetFile(tmp_path / "rows.parquet", read_dictionary=["text"])
    for group in range(opened.num_row_groups):
        statistics = GroupStatistics()
        for batch in opened.iter_batches(batch_size=2, row_groups=[group]):
            statistics.look(batch)
        statistics.check(opened.metadata, group)


@pytest.mark.parametrize(
    ("column", "lie", "told"),
    [
        ("number", {"min": 0.5}, "number is 0.5 to 1.5, it is -0.0 to 1.5"),
        ("whole", {"max": 3}, "whole is 1 to 3, it is 1 to 1099511627776"),
        ("text", {"min": "a"}, "text is a to ü, it is  to ü"),
        ("none", {"null_count": 3}, "3 values of none are missing, 4 are"),
        ("kept", {"null_count": 4}, "4 values of kept are missing, 1 are"),
    ],
)
def test_what_differs_is_told(tmp_path: Path, column: str, lie: dict[str, Any], told: str) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    opened = pq.ParquetFile(tmp_path / "rows.parquet")
    true = opened.metadata.row_group(0).column(ROWS.column_names.index(column)).statistics
    names = ("has_null_count", "null_count", "has_min_max", "min", "max")
    facts = {name: getattr(true, name) for name in names} | lie
    said = SimpleNamespace(
        path_in_schema=column, physical_type="INT32", statistics=SimpleNamespace(**facts)
    )
    group = SimpleNamespace(num_columns=1, column=lambda place: said)
    of = SimpleNamespace(column=lambda place: SimpleNamespace(physical_type="INT32"))
    footer: Any = SimpleNamespace(row_group=lambda place: group, schema=of)
    statistics = GroupStatistics()
    for batch in ROWS.to_batches():
        statistics.look(batch)
    with pytest.raises(LogError, match=told):
        statistics.check(footer, 0)
