"""Tables of a finished run are those that were written, or an error that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log import recordings
from pruneviz.log.checksums import FileSum
from pruneviz.log.reopening import reopen
from pruneviz.log.runs import load
from pruneviz.log.scan import scan
from pruneviz.log.thinning import thin
from tests.log.test_run_directory import record
from tests.support.edited_specs import edit_spec, forget_sums, remove_facts


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(file)), file)


def flip(file: Path) -> None:
    """Flip a bit of the footer, which no checksum of a page covers: of the name of its writer."""
    content = bytearray(file.read_bytes())
    content[content.rindex(b"parquet-cpp")] ^= 1
    file.write_bytes(content)


CHANGES: dict[str, Callable[[Path], None]] = {
    "emptied": lambda file: rewrite(file, lambda rows: rows.slice(0, 0)),
    "halved": lambda file: rewrite(file, lambda rows: rows.slice(0, len(rows) // 2)),
    "doubled": lambda file: rewrite(file, lambda rows: pa.concat_tables([rows, rows])),
    "of another run": lambda file: shutil.copy(file.parents[1] / "other" / file.name, file),
    "flipped": flip,
    "written again": lambda file: rewrite(file, lambda rows: rows),
}


@pytest.mark.parametrize("table", ["filters", "epochs"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_is_not_the_one_that_was_written_is_refused(
    tmp_path: Path, table: str, change: str
) -> None:
    run = record(tmp_path / "run", epochs=4, seed=0)
    record(tmp_path / "other", epochs=4, seed=1)
    CHANGES[change](run / f"{table}.parquet")
    reads: list[Callable[[], object]] = [
        lambda: getattr(load(run), table),
        lambda: load(run).read(table, ["run", "epoch"], epochs=[1]),
        lambda: reopen(run),
        lambda: thin(run, tmp_path / "thin"),
    ]
    if table == "filters":
        reads.append(lambda: list(scan(run).blocks(["sigma"])))
    for read in reads:
        with pytest.raises(LogError, match=rf"{table}\.parquet is corrupt .*restore it"):
            read()


def test_the_spec_says_what_the_tables_held(tmp_path: Path) -> None:
    run = record(tmp_path / "run")
    stated = json.loads((run / "spec.json").read_text())["table_files"]
    assert list(stated) == ["epochs", "filters", "rounds", "correlations"]
    for table, facts in stated.items():
        assert FileSum.from_facts(facts) == FileSum.of_file(run / f"{table}.parquet")
    assert stated["filters"]["rows"] == 18
    assert "table_files" not in load(run).spec
    for wrong in ({}, {"epochs": 1}, 7, {**stated, "filters": {"rows": 1}}):
        edit_spec(run, table_files=wrong)
        with pytest.raises(LogError, match=r"spec\.json is corrupt \("):
            load(run)
    remove_facts(run, "table_files")
    with pytest.raises(LogError, match=r"spec\.json is corrupt \(table_files is None"):
        load(run)
    forget_sums(run)
    assert len(load(run).filters) == 18


def test_a_file_is_read_whole_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = load(record(tmp_path / "run"))
    seen: list[str] = []
    check = recordings.check_digest
    monkeypatch.setattr(
        recordings, "check_digest", lambda file, sum: (seen.append(file.name), check(file, sum))
    )
    one = runs.read("filters", ["sigma"])
    pd.testing.assert_frame_equal(runs.select(run="run").read("filters", ["sigma"]), one)
    runs.filters  # noqa: B018
    assert seen == ["filters.parquet"]
