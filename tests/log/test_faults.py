"""`pv.faults` names every fault of a recording, and calls nothing a fault that is none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.faults import checked_run
from pruneviz.log.faulty_tables import in_words, missing_epochs
from pruneviz.log.parquet import read_file
from tests.support.edited_specs import edit_spec, remove_facts
from tests.support.mutated_recordings import make_recordings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def faults_of(path: Path) -> list[str]:
    return list(pv.faults(path)["fault"])


def as_older(run: Path) -> Path:
    """A finished run as it was before files were written down in its spec."""
    remove_facts(run, "table_files")
    edit_spec(run, schema_version=3)
    return run


def change(file: Path, rows: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = pq.read_table(file)
    frame = rows(table.to_pandas())
    pq.write_table(table.from_pandas(frame, schema=table.schema, preserve_index=False), file)


def test_whole_recordings_have_none(runs: Path) -> None:
    assert faults_of(runs) == []
    assert list(pv.faults(runs)) == ["path", "fault"]
    opened = checked_run(runs / "open")
    assert (opened.sealed, opened.epochs, opened.faults) == (False, 4, ())
    assert (checked_run(runs / "thin").sealed, checked_run(runs / "thin").epochs) == (True, 4)
    assert faults_of(Path(pv.__file__).parent / "log" / "example_runs") == []


def test_no_recordings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="holds no recordings"):
        pv.faults(tmp_path)


# Tables of older runs, of which only the rows tell whether they are right.
ROWS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "emptied": ("filters", lambda rows: rows[:0], "filters.parquet has no rows of epochs 0, 1, 2"),
    "halved": ("filters", lambda rows: rows[:8], "has no rows of epochs 2, 3"),
    "doubled": ("filters", lambda rows: pd.concat([rows, rows]), "holds 16 rows twice, by epoch"),
    "a row less": ("filters", lambda rows: rows[1:], "another number of rows at epoch 0 than"),
    "another run": (
        "halves",
        lambda rows: rows.assign(run=pd.Categorical(["other"] * len(rows))),
        "halves.parquet holds rows of other, and the spec names pruned",
    ),
    "an epoch more": (
        "filters",
        lambda rows: pd.concat([rows, rows[:4].assign(epoch=np.int32(9))]),
        "filters.parquet has rows of epoch 9, which the epochs table lacks",
    ),
    "in another order": (
        "filters",
        lambda rows: pd.concat([rows[:4], rows[4:8][::-1], rows[8:]]),
        "filters.parquet has its rows in another order at epoch 1 than at 0",
    ),
    "epochs in another order": (
        "filters",
        lambda rows: pd.concat([rows[4:8], rows[:4], rows[8:]]),
        "filters.parquet has rows that are not in the order of epoch",
    ),
    "halves in another order": (
        "halves",
        lambda rows: pd.concat([rows[:-8], rows[-8:][::-1]]),
        "halves.parquet has its rows in another order at epoch",
    ),
    "no epochs": ("epochs", lambda rows: rows[:0], "epochs.parquet has no epoch"),
    "other masks": (
        "filters",
        lambda rows: rows.assign(kept=rows["layer"] != "features.0"),
        "says that 2 filters of features.0 are kept after epoch 2, the filters table has 0",
    ),
}


@pytest.mark.parametrize(("table", "rows", "said"), ROWS.values(), ids=list(ROWS))
def test_tables_that_disagree_are_named(
    runs: Path, table: str, rows: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    run = as_older(runs / "pruned")
    assert faults_of(run) == []
    change(run / f"{table}.parquet", rows)
    assert any(said in fault for fault in faults_of(run)), faults_of(run)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (lambda rows: rows[rows["epoch"] != 1], "epochs.parquet lacks epoch 1 of 0 to 3"),
        (lambda rows: rows[rows["epoch"] < 2], "ends at epoch 1 of 3 that were planned"),
    ],
)
def test_epochs_of_a_plan_that_are_missing_are_named(
    runs: Path, rows: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    run = as_older(runs / "pruned")
    for table in ("epochs", "filters", "halves", "rounds"):
        change(run / f"{table}.parquet", rows)
    assert faults_of(run) == [], "a loop of one's own may leave epochs out"
    edit_spec(run, preset="cifar-mini")
    assert [said in fault for fault in faults_of(run)] == [True]


def flip(file: Path, place: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[place if place >= 0 else len(content) // 2] ^= 1
    file.write_bytes(content)


def replaced_by_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def linked(file: Path, to: str) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(to)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a lost table": (lambda runs: (runs / "whole/rounds.parquet").unlink(), "is missing"),
    "a lost spec": (lambda runs: (runs / "whole/spec.json").unlink(), "tables of a run but no"),
    "a bit": (lambda runs: flip(runs / "whole/filters.parquet"), "filters.parquet is corrupt"),
    "a bit of the spec": (lambda runs: flip(runs / "whole/spec.json"), "spec.json"),
    "a bit of a part": (
        lambda runs: flip(runs / "open/parts/filters-00001.parquet", 30),
        "filters-00001.parquet is corrupt",
    ),
    "a pipe": (
        lambda runs: replaced_by_a_pipe(runs / "whole/filters.parquet"),
        "filters.parquet is a pipe, expected a regular file",
    ),
    "a device": (lambda runs: linked(runs / "whole/x", "/dev/zero"), "x is a device"),
    "a link": (lambda runs: linked(runs / "whole/x", "nowhere"), "x cannot be read (No such"),
    "a table too many": (
        lambda runs: shutil.copy(runs / "pruned/halves.parquet", runs / "whole"),
        "halves.parquet is a table that the run does not have",
    ),
    "half a file": (
        lambda runs: (runs / "whole/.spec.json.17.tmp").touch(),
        ".spec.json.17.tmp is half-written",
    ),
    "parts of a killed seal": (
        lambda runs: shutil.copytree(runs / "open/parts", runs / "whole/parts"),
        "parts was left by a process that was killed",
    ),
    "a strange part": (
        lambda runs: (runs / "open/parts/epochs-1.parquet").touch(),
        "epochs-1.parquet is no part of a run",
    ),
    "a dropped number": (
        lambda runs: (runs / "open/parts/dropped.txt").write_text("x"),
        "dropped.txt is corrupt",
    ),
    "a part of another epoch": (
        lambda runs: shutil.copy(
            runs / "open/parts/filters-00000.parquet", runs / "open/parts/filters-00002.parquet"
        ),
        "filters-00002.parquet",
    ),
    "an epochs part": (
        lambda runs: (runs / "open/parts/epochs-00001.parquet").unlink(),
        "00001.parquet",
    ),
    "the spec of an unfinished run": (
        lambda runs: shutil.copy(runs / "open/spec.json", runs / "pruned"),
        "parts holds no epoch, while the spec says that the run is unfinished",
    ),
    "a part that is a link to nothing": (
        lambda runs: linked(runs / "open/parts/filters-00003.parquet", "/dev/fd/99"),
        "filters-00003.parquet",
    ),
    "a round without its epoch": (
        lambda runs: pq.write_table(
            pq.read_table(runs / "pruned/rounds.parquet").drop_columns(["epoch"]),
            runs / "pruned/rounds.parquet",
        ),
        "rounds.parquet is corrupt",
    ),
    "a name that is no Unicode": (
        lambda runs: linked(runs / "open/x\udcff", "nowhere"),
        r"x\udcff cannot be read",
    ),
    "all parts": (lambda runs: shutil.rmtree(runs / "open/parts"), ""),
}


@pytest.mark.parametrize(("damage", "said"), FILES.values(), ids=list(FILES))
def test_damaged_files_are_named(runs: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(runs)
    found = faults_of(runs)
    assert any(said in fault for fault in found), found


def archive(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("state/data.pkl", b"x" * 100)


def tensors(file: Path, **metadata: str) -> None:
    """Two tensors as safetensors writes them."""
    data = np.arange(6, dtype="float32").tobytes() + b"\x07"
    header = {
        "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [24, 25]},
        "__metadata__": metadata,
    }
    text = json.dumps(header).encode()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def digest_of_tensors() -> str:
    """As it is written with them: names in order, types, shapes and bytes."""
    digest = hashlib.sha256(b"a\ntorch.uint8\n(1,)\n\x07")
    digest.update(b"b\ntorch.float32\n(2, 3)\n" + np.arange(6, dtype="float32").tobytes())
    return digest.hexdigest()


def test_checkpoints_and_kept_weights_are_compared_with_what_was_written(runs: Path) -> None:
    run = runs / "open"
    older = run / "checkpoint" / "state.pt"
    archive(older)
    named = older.with_name(f"epoch-00012-{hashlib.sha256(older.read_bytes()).hexdigest()}.pt")
    shutil.copy(older, named)
    weights = [run / "weights" / "00002.safetensors", run / "initial.safetensors"]
    tensors(weights[0], sha256=digest_of_tensors())
    tensors(weights[1])
    assert faults_of(run) == []
    for file in (older, named, weights[0]):
        flip(file, 60 if file.suffix == ".pt" else file.stat().st_size - 1)
    weights[1].write_bytes(weights[1].read_bytes()[:-1])
    found = faults_of(run)
    assert len(found) == 4
    for file in (older, named, *weights):
        assert sum(f"{file} is corrupt" in fault for fault in found) == 1, file


def test_files_of_a_person_are_no_faults(runs: Path) -> None:
    for folder in ("whole", "open"):
        (runs / folder / ".notes.tmp").touch()
    assert faults_of(runs) == []
    mine = runs / "open" / "parts" / ".notes.tmp"
    mine.touch()
    assert faults_of(runs) == [f"{mine} is no part of a run; move it out of there"]


def test_nothing_is_changed_by_looking(runs: Path) -> None:
    before = {file: file.stat() for file in sorted(runs.rglob("*"))}
    pv.faults(runs)
    after = {file: file.stat() for file in sorted(runs.rglob("*"))}
    assert [(s.st_mtime_ns, s.st_size, s.st_ino) for s in before.values()] == [
        (s.st_mtime_ns, s.st_size, s.st_ino) for s in after.values()
    ]


def test_rows_of_an_older_run_can_be_read_where_nothing_is_known_of_them(runs: Path) -> None:
    run = as_older(runs / "whole")
    rows = read_file(run / "filters.parquet", "filters")
    assert pc.max(rows["epoch"]).as_py() == 3 and faults_of(run) == []


def test_gaps_between_epochs_are_counted_however_wide() -> None:
    assert missing_epochs([0, 1, 2**31 - 1]) == ([2, 3, 4, 5, 6, 7, 8, 9], 2**31 - 3)
    assert missing_epochs([4, 6, 6, 9]) == ([5, 7, 8], 3)
    assert missing_epochs([]) == ([], 0)
    assert in_words([2, 3, 4, 5, 6, 7, 8, 9], 2**31 - 3).endswith("9 and 2147483637 more")
