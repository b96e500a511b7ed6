"""A part that is lost, changed or of another run is noticed at a resume and at the seal."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log import part_chain
from pruneviz.log.part_chain import record_of
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load
from pruneviz.log.schema import FLOW
from tests.log.test_run_directory import append, epoch_row, filter_rows, listing, record
from tests.support.edited_specs import edit_spec

EPOCHS = 5


def begun(path: Path, epochs: int = EPOCHS) -> RunLog:
    log = RunLog.create(path, RunSpec("r"))
    append(log, *range(epochs))
    return log


def flow_rows(epoch: int, layer: str = "stem") -> pd.DataFrame:
    return pd.DataFrame({"epoch": epoch, "layer": [layer] * 2, "filter": [0, 1], "steps": 3})


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a part, and nothing of what else it holds."""
    pq.write_table(change(pq.read_table(file)), file)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def part(parts: Path, table: str, epoch: int) -> Path:
    return parts / f"{table}-{epoch:05d}.parquet"


def lost(table: str, epoch: int) -> Callable[[Path], None]:
    return lambda parts: part(parts, table, epoch).unlink()


def changed(table: str, how: Callable[[Path], None], epoch: int = 2) -> Callable[[Path], None]:
    return lambda parts: how(part(parts, table, epoch))


def emptied(parts: Path) -> None:
    for file in parts.iterdir():
        file.unlink()


def cut(parts: Path) -> None:
    for table in ("filters", "epochs"):
        part(parts, table, 4).unlink()
        part(parts, table, 3).unlink()


DAMAGED: dict[str, tuple[Callable[[Path], None], list[int]]] = {
    "filters lost": (lost("filters", 2), [0, 1]),
    "epochs lost": (lost("epochs", 2), [0, 1]),
    "first lost": (lost("epochs", 0), []),
    "last lost": (lost("epochs", 4), [0, 1, 2, 3]),
    "last filters lost": (lost("filters", 4), [0, 1, 2, 3]),
    "two last lost": (cut, [0, 1, 2]),
    "emptied": (emptied, []),
    "folder lost": (shutil.rmtree, []),
    "filters flipped": (changed("filters", flip), [0, 1]),
    "epochs flipped": (changed("epochs", flip), [0, 1]),
    "filters emptied": (
        changed("filters", lambda file: rewrite(file, lambda rows: rows.slice(0, 0))),
        [0, 1],
    ),
    "filters halved": (
        changed("filters", lambda file: rewrite(file, lambda rows: rows.slice(0, 3))),
        [0, 1],
    ),
    "filters doubled": (
        changed("filters", lambda file: rewrite(file, lambda rows: pa.concat_tables([rows] * 2))),
        [0, 1],
    ),
    "epochs changed": (
        changed(
            "epochs",
            lambda file: rewrite(
                file, lambda rows: rows.set_column(7, rows.field("test_acc"), pa.array([0.9]))
            ),
        ),
        [0, 1],
    ),
    "of another epoch": (
        lambda parts: shutil.copy(part(parts, "filters", 1), part(parts, "filters", 2)),
        [0, 1],
    ),
    "epochs of another epoch": (
        lambda parts: shutil.copy(part(parts, "epochs", 1), part(parts, "epochs", 2)),
        [0, 1],
    ),
    "added": (
        lambda parts: shutil.copy(part(parts, "filters", 2), part(parts, "rounds", 2)),
        [0, 1],
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_noticed_at_the_seal_and_recorded_again_after_a_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    how, whole = DAMAGED[damage]
    log = begun(tmp_path / "r")
    how(log.path / "parts")
    with pytest.raises(LogError, match=r"restore it from a backup|cannot write to"):
        log.seal()
    assert not list(log.path.glob("*.parquet"))
    log.release()
    caplog.clear()

    log = RunLog.resume(log.path, log.spec)
    assert log.epochs == whole
    last = whole[-1] if whole else None
    assert f"goes on after epoch {last}" in caplog.messages[-1]
    with pytest.raises(LogError, match=r"restore it from a backup"):
        log.seal()
    with pytest.raises(LogError, match=r"restore it from a backup"):
        log.drop_after(4)
    with pytest.raises(LogError, match=r"restore it from a backup"):
        append(log, 7)
    append(log, *range(len(whole), EPOCHS))
    log.seal()
    expected = load(record(tmp_path / "expected" / "r", EPOCHS))
    pd.testing.assert_frame_equal(load(log.path).filters, expected.filters)
    pd.testing.assert_frame_equal(load(log.path).epochs, expected.epochs)


def test_what_was_lost_may_be_put_back_or_rewound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = begun(tmp_path / "r")
    file = part(log.path / "parts", "filters", 2)
    file.rename(tmp_path / "kept")
    assert RunLog.resume(log.path, log.spec).epochs == [0, 1]
    (tmp_path / "kept").rename(file)
    assert RunLog.resume(log.path, log.spec).epochs == [0, 1, 2, 3, 4]
    file.unlink()
    log = RunLog.resume(log.path, log.spec)
    log.drop_after(1)
    append(log, 2)
    log.seal()
    assert list(load(log.path).epochs["epoch"]) == [0, 1, 2]


def test_parts_of_another_recording_are_refused_and_left_alone(tmp_path: Path) -> None:
    mine, other = begun(tmp_path / "a"), begun(tmp_path / "b")
    shutil.rmtree(mine.path / "parts")
    shutil.copytree(other.path / "parts", mine.path / "parts")
    before = listing(mine.path)
    for work in (mine.seal, lambda: RunLog.resume(mine.path, mine.spec)):
        with pytest.raises(LogError, match="belongs to another recording; put the parts of this"):
            work()
    parts = (before, listing(mine.path))
    assert [{n: c for n, c in files.items() if n != ".lock"} for files in parts] == [
        {n: c for n, c in before.items() if n != ".lock"}
    ] * 2


def test_a_copy_without_its_lock_file_goes_on(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    shutil.copytree(log.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".lock"))
    copy = RunLog.resume(tmp_path / "copy", log.spec)
    append(copy, 5)
    record = record_of(copy.part("epochs", 5))
    assert record is not None and record.run_id == copy._parts._run_id
    copy.seal()
    assert len(load(copy.path).epochs) == 6


def test_a_run_of_an_older_schema_goes_on_without_records_at_its_start(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    for file in (log.path / "parts").glob("epochs-*"):
        pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    log.release()
    (log.path / ".lock").unlink()
    with pytest.raises(LogError, match="is corrupt"):
        RunLog.resume(log.path, log.spec).seal()
    (log.path / ".lock").unlink()
    edit_spec(log.path, schema_version=3)
    log = RunLog.resume(log.path, log.spec)
    log.replace(4, epochs=epoch_row(4), filters=filter_rows(4, theta_hg=1.0))
    append(log, 5)
    shutil.copytree(log.path, tmp_path / "lost")
    log.seal()
    assert len(load(log.path).epochs) == 6
    part(tmp_path / "lost" / "parts", "epochs", 4).unlink()
    assert RunLog.resume(tmp_path / "lost", log.spec).epochs == [0, 1, 2, 3]


WRITES: dict[str, Callable[[RunLog], object]] = {
    "append": lambda log: append(log, 5),
    "replace": lambda log: log.replace(
        4, epochs=epoch_row(4).assign(sample_loss=0.5), filters=filter_rows(4, theta_hg=1.0)
    ),
    "first flow": lambda log: log.add_flow(4, flow_rows(4)),
    "flow of the next epoch": lambda log: log.add_flow(5, flow_rows(5)),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_process_killed_at_any_write_leaves_a_whole_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, write: str
) -> None:
    whole = part_chain._write
    for killed_at in range(4):
        log = begun(tmp_path / str(killed_at))
        log.note({"flow": True})
        left = iter(range(killed_at))

        def killing(file: Path, content: bytes, left: object = left) -> None:
            if next(left, None) is None:  # type: ignore[call-overload]
                raise KeyboardInterrupt
            whole(file, content)

        with monkeypatch.context() as patch:
            patch.setattr(part_chain, "_write", killing)
            try:
                WRITES[write](log)
                ended = True
            except KeyboardInterrupt:
                ended = False
        before = len(load(log.path).epochs)
        log = RunLog.resume(log.path, log.spec)
        assert len(log.epochs) == before >= EPOCHS
        assert not [m for m in caplog.messages if "is missing" in m or "corrupt" in m]
        if not ended and before == EPOCHS:
            WRITES[write](log)
        log.note({"flow": True})
        log.seal()
        load(log.path).filters  # noqa: B018
    assert ended


def test_flow_is_part_of_the_chain(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    log.note({"flow": True})
    log.add_flow(5, flow_rows(5))  # before the epoch is recorded
    append(log, 5)
    log.add_flow(5, flow_rows(5, "block.conv2"))  # of another meter
    with pytest.raises(LogError, match="so the flow of epoch 3 is too late"):
        log.add_flow(3, flow_rows(3))
    file = part(log.path / "parts", "flow", 5)
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(LogError, match=r"flow-00005\.parquet is missing"):
        log.seal()
    file.write_bytes(content)
    log.seal()
    assert len(load(log.path).flow) == 4
    assert {"steps"} <= set(FLOW)


def test_only_the_last_epoch_is_written_anew(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    with pytest.raises(LogError, match="only the last epoch can be written anew, not 3"):
        log.replace(3, epochs=epoch_row(3), filters=filter_rows(3))


def test_planned_epochs_are_needed_and_an_early_end_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = begun(tmp_path / "r")
    log.planned = range(8)
    with pytest.raises(LogError, match=r"cannot be finished: epoch 5, 6, 7 is missing, of 8 that"):
        log.seal()
    log.drop_after(2)
    append(log, 3, 4, 5, 6, 7)
    log.seal()
    own = RunLog.create(tmp_path / "own", RunSpec("own", epochs=8))
    append(own, 0, 1)
    with caplog.at_level(logging.WARNING):
        own.seal()
    assert "ends at epoch 1, and its spec says epochs=8" in caplog.messages[-1]
