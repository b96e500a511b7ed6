"""Only the rows of a file tell what it holds, and its texts are formed only where they fit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log import limits, table_files
from pruneviz.log.parquet import TablePart, arrow_table, check_pages, read_file, write_table

AT = 123_456_789


def epochs_table(**columns: object) -> pa.Table:
    return arrow_table("epochs", pd.DataFrame({"run": "r", "epoch": [0, 1, AT], **columns}))


def test_wrong_statistics_of_a_footer_lose_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "epochs.parquet"
    pq.write_table(epochs_table(note=["a", "b", "c"]), file, row_group_size=1)
    content = file.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    said, other = AT.to_bytes(4, "little"), (AT + 5).to_bytes(4, "little")
    assert said in content[start:]
    file.write_bytes(content[:start] + content[start:].replace(said, other))
    assert pq.read_table(file, filters=[("epoch", "==", AT)]).num_rows == 0
    rows = read_file(file, "epochs", TablePart(("note",), (AT,)))
    assert rows.to_pydict() == {"note": ["c"]}
    assert read_file(file, "epochs", TablePart(("epoch",), (0, 7))).to_pydict() == {"epoch": [0]}
    assert read_file(file, "epochs", TablePart(epochs=(AT + 5,))).num_rows == 0
    with pytest.raises(LogError, match=f"says epoch is {AT + 5} to {AT + 5}, it is {AT} to {AT}, "):
        check_pages(file, "epochs")


def test_one_long_text_that_all_rows_name_is_refused_before_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "epochs.parquet"
    write_table(file, epochs_table(note="x" * 1000))
    assert read_file(file, "epochs")["note"].to_pylist() == ["x" * 1000] * 3
    monkeypatch.setattr(limits, "MOST_TEXT", 2999)
    with pytest.raises(LogError, match=r"its texts need 0\.0 GB of memory"):
        read_file(file, "epochs")
    with pytest.raises(LogError, match="its texts need"):
        check_pages(file, "epochs")
    assert read_file(file, "epochs", TablePart(epochs=(1,)))["note"].to_pylist() == ["x" * 1000]


def test_texts_without_a_value_and_empty_ones_stay_apart(tmp_path: Path) -> None:
    file = tmp_path / "epochs.parquet"
    write_table(file, epochs_table(note=["", None, "ü"]))
    assert read_file(file, "epochs")["note"].to_pylist() == ["", None, "ü"]


@pytest.mark.parametrize("column", ["run", "phase"])
def test_a_name_of_megabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    file = tmp_path / "epochs.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(limits, "MOST_LETTERS", 1 << 20)
        write_table(file, epochs_table(**{column: "y" * (1 << 20)}))
    for read in (read_file, check_pages):
        with pytest.raises(LogError, match=rf"column {column} holds a name of 1,048,576 letters"):
            read(file, "epochs")


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("MOST_COLUMNS", r"it has \d+ columns, at most 2 can be read"),
        ("_MOST_GROUPS", "it has 3 groups of rows, at most 2 can be read"),
        ("_MOST_FOOTER", r"its footer has [\d,]+ bytes, at most 2 can be read"),
    ],
)
def test_a_footer_that_says_too_much_is_refused_before_it_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, said: str
) -> None:
    file = tmp_path / "epochs.parquet"
    pq.write_table(epochs_table(), file, row_group_size=1)
    monkeypatch.setattr(table_files if bound.startswith("_") else limits, bound, 2)
    with pytest.raises(LogError, match=said):
        read_file(file, "epochs")


def test_a_run_with_thousands_of_own_facts_is_read(tmp_path: Path) -> None:
    file = tmp_path / "epochs.parquet"
    pq.write_table(epochs_table(**{f"fact{place}": 1.0 for place in range(3000)}), file)
    assert read_file(file, "epochs", TablePart(("fact2999",)))["fact2999"].to_pylist() == [1.0] * 3
