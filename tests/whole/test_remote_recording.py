"""`pv.Recorder(out=URL)` records what it records into a folder, whatever the store does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.upload_state import Uploaded
from pruneviz.stores import background
from pruneviz.stores.spool import spool_folder
from tests.support.short_recordings import (
    SAMPLE,
    assert_same_tables,
    network,
    record,
    train_epoch,
)
from tests.support.stores import names_at, new_bucket, watched

pytest.importorskip("fsspec")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(background, "_FIRST", 0.01)
    monkeypatch.chdir(tmp_path)
    return f"{new_bucket()}/run"


def test_a_recorder_into_a_store_goes_on_from_there_and_equals_one_into_a_folder(
    url: str, tmp_path: Path
) -> None:
    """Every third request fails, the loop dies after epoch 2, and its machine with it."""
    expected = record(network(), tmp_path / "run", epochs=4, every=2)
    written = []

    def fail_often(method: str, path: str) -> None:
        if method in ("put_file", "pipe_file"):
            written.append(path)
            if len(written) % 3 == 0:
                raise ConnectionError("refused")

    model = network()
    with (
        watched(fail_often),
        pytest.raises(RuntimeError),
        pv.Recorder(model, SAMPLE, url, every=2) as recorder,
    ):
        for epoch in range(3):
            if epoch:
                train_epoch(model, epoch)
            recorder.after_epoch(epoch)
        assert recorder._uploads._running[0].wait(60)  # type: ignore[index]
        raise RuntimeError
    assert pv.load(url).unfinished == ("run",)
    shutil.rmtree(tmp_path / "spool")
    with pv.Recorder(model, SAMPLE, url, every=2, resume="auto") as recorder:
        assert recorder.next_epoch() == 3
        for epoch in (3, 4):
            train_epoch(model, epoch)
            recorder.after_epoch(epoch)
    assert_same_tables(pv.load(url), expected)
    assert pv.faults(url).empty and "parts" not in str(names_at(url))
    assert {entry.name for entry in tmp_path.iterdir()} == {"run", "mirror", "spool"}


def test_a_finished_run_is_left_alone_or_trained_further(url: str) -> None:
    model = network()
    record(model, url, epochs=2, every=2)  # type: ignore[arg-type]
    recorder = pv.Recorder(model, SAMPLE, url, every=2, resume="auto")
    assert recorder.finished and recorder.last_epoch == 2
    recorder.rewind(2)
    train_epoch(model, 3)
    recorder.after_epoch(3)
    recorder.close()
    assert list(pv.load(url).epochs["epoch"]) == [0, 1, 2, 3]
    assert Uploaded.read(spool_folder(url)) == Uploaded()


def test_a_second_recorder_of_a_run_stops_at_its_next_epoch(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    first = pv.Recorder(model, SAMPLE, url)
    first.after_epoch(0)
    first._uploads._running[0].wait(60)  # type: ignore[index]
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "elsewhere"))
    second = pv.Recorder(model, SAMPLE, url, resume=True)
    with pytest.raises(LogError, match=r"was recorded by process .*, too; stop one"):
        for epoch in range(1, 50):
            first.after_epoch(epoch)
            first._uploads._running[0].wait(60)  # type: ignore[index]
    second.after_epoch(1)
    second.close()
    assert list(pv.load(url).epochs["epoch"]) == [0, 1]
