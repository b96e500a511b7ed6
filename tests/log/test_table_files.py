"""Files of tables are checked before and after their rows are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log import table_files
from pruneviz.log.parquet import TablePart, arrow_table, check_file, joined, read_file, write_table

ROWS = {"run": "r", "epoch": [0, 1], "layer": "a", "filter": 0, "kept": True, "theta_g": 1.0}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_table(tmp_path / "filters.parquet", arrow_table("filters", pd.DataFrame(ROWS)))
    return tmp_path / "filters.parquet"


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(file)), file)


def column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


CHANGES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "twice": (
        lambda rows: rows.append_column("theta_g", rows["theta_g"]),
        "column theta_g occurs twice",
    ),
    "missing": (lambda rows: rows.drop_columns(["epoch"]), "column epoch is missing"),
    "unknown": (lambda rows: rows.append_column("x", rows["epoch"]), "no column 'x'"),
    "type": (
        lambda rows: column(rows, "theta_g", pa.array(["1", "2"])),
        "column theta_g is of type string, expected float",
    ),
    "nulls": (
        lambda rows: column(rows, "epoch", pa.array([0, None], pa.int32())),
        "column epoch has rows without a value",
    ),
    "no Unicode": (
        lambda rows: column(
            rows,
            "layer",
            pa.DictionaryArray.from_arrays(
                pa.array([0, 0], pa.int32()), pa.array([b"\xff"]).view(pa.string())
            ),
        ),
        "UTF8",
    ),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=list(CHANGES))
def test_a_wrong_table_is_refused_by_file_and_column(
    file: Path, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    rewrite(file, change)
    with pytest.raises(LogError, match=rf"filters\.parquet is corrupt \(.*{said}"):
        read_file(file, "filters")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_no_pipe_or_device_is_opened(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)
    for read in (read_file, check_file):
        with pytest.raises(LogError, match="expected a regular file"):
            read(file, "filters")


def test_what_pandas_or_others_stored_beside_the_rows_changes_nothing(file: Path) -> None:
    before = joined([read_file(file, "filters")], "filters")
    hints = {"index_columns": ["epoch"], "column_indexes": [], "columns": [
        {"name": "theta_g", "field_name": "theta_g", "pandas_type": "object",
         "numpy_type": "os.system", "metadata": None},
    ]}  # fmt: skip
    schema = pq.read_schema(file)
    field = pa.field("theta_g", pa.float32(), metadata={"ARROW:extension:name": "x"})
    changed = schema.set(schema.names.index("theta_g"), field)
    changed = changed.with_metadata({b"pandas": json.dumps(hints).encode()})
    rewrite(file, lambda rows: rows.cast(changed))
    assert b"pandas" in pq.read_schema(file).metadata
    pd.testing.assert_frame_equal(joined([read_file(file, "filters")], "filters"), before)


def test_an_extension_type_is_refused_and_nothing_of_it_is_run(file: Path) -> None:
    hints = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": b"\x80"}
    field = pa.field("theta_g", pa.float32(), metadata=hints)
    rewrite(
        file, lambda rows: rows.cast(rows.schema.set(rows.column_names.index("theta_g"), field))
    )
    assert read_file(file, "filters")["theta_g"].type == pa.float32()


def test_a_table_that_would_not_fit_into_memory_is_refused_before_it_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "_ALWAYS_FITS", 20)
    monkeypatch.setattr(table_files, "most_memory", lambda: 30)
    with pytest.raises(LogError, match=r"its 2 rows need .* GB of memory.*or use pruneviz\.scan"):
        read_file(file, "filters")
    assert len(read_file(file, "filters", TablePart(columns=("epoch",)))) == 2
    assert len(read_file(file, "filters", TablePart(epochs=(7,)))) == 0


def test_a_few_bytes_that_claim_to_be_many_rows_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "filters.parquet"
    one = arrow_table("filters", pd.DataFrame(ROWS).head(1))
    with pq.ParquetWriter(file, one.schema, compression="zstd") as writer:
        for _ in range(4):
            writer.write_table(one.take(pa.array([0] * (1 << 14))))
    monkeypatch.setattr(table_files, "most_memory", lambda: 1 << 16)
    monkeypatch.setattr(table_files, "_ALWAYS_FITS", 1 << 16)
    assert file.stat().st_size < 1 << 16
    with pytest.raises(LogError, match=r"its 65,536 rows need 0.0 GB of memory"):
        read_file(file, "filters")


def test_a_text_that_takes_little_on_disk_and_much_in_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "epochs.parquet"
    write_table(
        file,
        arrow_table("epochs", pd.DataFrame({"run": "r", "epoch": [0], "note": ["x" * 500_000]})),
    )
    assert len(read_file(file, "epochs")) == 1 and file.stat().st_size < 1 << 15
    monkeypatch.setattr(table_files, "most_memory", lambda: 1 << 16)
    monkeypatch.setattr(table_files, "_ALWAYS_FITS", 1 << 16)
    with pytest.raises(LogError, match="its 1 rows need"):
        read_file(file, "epochs")
