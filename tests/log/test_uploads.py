"""A run of the spool is uploaded as it grows, whole before it is finished, by one recorder."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log import uploads
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_lock import LOCK_FILE
from pruneviz.log.spec_file import read_spec
from pruneviz.log.spooled_runs import prepare
from pruneviz.log.upload_state import Uploaded
from pruneviz.log.uploads import Upload, Uploads
from pruneviz.stores.remote_folder import RemoteFolder
from pruneviz.stores.spool import spool_folder
from tests.support.stores import add_epoch, names_at, new_log, watched

fsspec = pytest.importorskip("fsspec")


pytestmark = pytest.mark.usefixtures("own_spool")


def uploaded(log: RunLog, url: str) -> None:
    assert Upload(log.path, url).work() is None


def upload_until_the_lock(log: RunLog, url: str) -> None:
    """Upload as a process that is killed once its lock is in the store."""

    def killed(self: RemoteFolder, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RemoteFolder, "version", killed)
        Upload(log.path, url).work()


def last_in(url: str) -> int:
    return int(pv.load(url).epochs["epoch"].max())


def refuse_lists(method: str, path: str) -> None:
    if method == "find":
        raise ConnectionError("refused")


def test_each_epoch_can_be_read_and_the_finished_run_is_that_of_a_disk(
    url: str, tmp_path: Path
) -> None:
    log, local = new_log(spool_folder(url)), new_log(tmp_path / "run")
    for epoch in range(3):
        for one in (log, local):
            add_epoch(one, epoch)
        uploaded(log, url)
        assert last_in(url) == epoch
    assert {"spec.json", ".lock", "parts/epochs-00002.parquet"} <= names_at(url)
    for one in (log, local):
        one.seal()
    uploaded(log, url)
    assert names_at(url) == {file.name for file in local.path.iterdir()}
    for table in ("epochs", "filters", "rounds"):
        pd.testing.assert_frame_equal(pv.load(url).read(table), pv.load(local.path).read(table))
    assert pv.faults(url).empty


def test_only_what_changed_is_uploaded_also_by_the_next_process(url: str) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    uploaded(log, url)
    log.release()
    log = RunLog.resume(log.path, log.spec)
    add_epoch(log, 1)
    with watched() as requests:
        uploaded(log, url)
    assert requests["put_file"] == 2  # filters and epochs; the spec and epoch 0 are there
    with watched() as requests:
        Upload(log.path, url).work()
    assert requests["put_file"] == 0 and requests["find"] == 1


def test_dropped_epochs_go_and_are_replaced(url: str) -> None:
    log = new_log(spool_folder(url))
    for epoch in range(4):
        add_epoch(log, epoch)
    uploaded(log, url)
    log.drop_after(1)
    uploaded(log, url)
    assert last_in(url) == 1 and not [n for n in names_at(url) if "00003" in n]
    add_epoch(log, 2, value=7.0)
    uploaded(log, url)
    assert pv.load(url).filters["theta_g"].max() == 7.0


@pytest.mark.parametrize("fails", range(1, 9))
def test_the_store_holds_a_run_that_can_be_read_after_every_request(url: str, fails: int) -> None:
    """Uploading is cut off before each request in turn, while the run is finished."""
    log = new_log(spool_folder(url))
    for epoch in range(2):
        add_epoch(log, epoch)
    uploaded(log, url)
    log.seal()
    made = []

    def cut(method: str, path: str) -> None:
        if method in ("put_file", "pipe_file", "rm_file"):
            made.append(path)
            if len(made) == fails:
                raise ConnectionError("cut off")

    with watched(cut), pytest.raises(LogError, match="cut off"):
        Upload(log.path, url).work()
    assert last_in(url) == 1
    uploaded(log, url)
    assert "parts" not in str(names_at(url)) and pv.faults(url).empty


def test_a_part_that_arrived_cut_is_uploaded_again_before_the_spec(url: str) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    store, real = fsspec.filesystem("memory"), []

    def cut(method: str, path: str) -> None:
        if method == "find" and not real:  # after the parts were put
            real.extend(name for name in store.store if url[9:] in name and "filters" in name)
            for name in real:
                store.pipe_file(name, b"cut")

    with watched(cut), pytest.raises(LogError, match=r"filters-00000.* is not what was"):
        Upload(log.path, url).work()
    assert "spec.json" not in names_at(url)
    uploaded(log, url)
    assert len(pv.load(url).filters) == 2


def test_a_file_that_others_changed_or_deleted_is_put_back(url: str) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    uploaded(log, url)
    store = fsspec.filesystem("memory")
    store.rm_file(f"{url}/parts/filters-00000.parquet")
    store.pipe_file(f"{url}/parts/epochs-00000.parquet", b"x" * 4000)
    uploaded(log, url)
    assert len(pv.load(url).filters) == 2


def test_a_second_recorder_elsewhere_is_noticed(url: str, tmp_path: Path) -> None:
    """One has the place; another one whose upload comes later is refused, and so is the first."""
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    uploaded(log, url)
    other = new_log(tmp_path / "elsewhere")
    refused = Upload(other.path, url).work()
    assert refused and "was recorded by process" in str(refused) and "too; stop one" in str(refused)
    fsspec.filesystem("memory").pipe_file(f"{url}/.lock", (other.path / ".lock").read_bytes())
    add_epoch(log, 1)
    assert str(Upload(log.path, url).work()).startswith(f"{url} was recorded by process")
    assert not [name for name in names_at(url) if "00001" in name]


def test_a_run_that_was_finished_elsewhere_is_not_overwritten(url: str) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    uploaded(log, url)
    store = fsspec.filesystem("memory")
    store.rm_file(f"{url}/.lock")
    store.pipe_file(f"{url}/spec.json", b"{}")
    assert "recorded further by another process" in str(Upload(log.path, url).work())
    assert store.cat_file(f"{url}/spec.json") == b"{}"


def test_checkpoints_stay_here_unless_asked(url: str) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    log.note({"size_after": 3})
    (log.checkpoint / f"epoch-00000-{'0' * 64}.pt").write_bytes(b"weights")
    uploaded(log, url)
    assert {n for n in names_at(url) if n.startswith("checkpoint")} == {"checkpoint/noted.txt"}
    Upload(log.path, url, checkpoints=True).work()
    assert f"checkpoint/epoch-00000-{'0' * 64}.pt" in names_at(url)


def test_recording_goes_on_while_the_store_refuses_and_all_is_uploaded_then(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "START_SECONDS", 0.01)
    log = new_log(spool_folder(url))
    running = Uploads(log.path)
    with watched(refuse_lists):
        running.begin()
        for epoch in range(3):
            add_epoch(log, epoch)
            running.changed()
        log.seal()
        with pytest.raises(LogError) as caught:
            running.finish(0.05)
    assert f"keep the folder, and go on with: pruneviz upload {url}" in str(caught.value)
    assert "refused" in str(caught.value)
    told = [text for text in caplog.messages if "The recording goes on in" in text]
    assert len(told) == 1
    Uploads(log.path).finish()
    assert last_in(url) == 2


def test_a_finished_run_leaves_a_copy_that_is_read_on_demand(url: str) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    running = Uploads(log.path)
    running.begin()
    log.seal()
    running.finish()
    assert not (log.path / "filters.parquet").exists()
    assert len(pv.load(log.path).filters) == 2
    assert Uploaded.read(log.path) == Uploaded()
    with watched() as requests:
        Uploads(log.path).finish()  # nothing waits any more
    assert not requests


def test_a_folder_outside_of_the_spool_and_a_copied_recorder_upload_nothing(
    url: str, tmp_path: Path
) -> None:
    log = new_log(tmp_path / "run")
    with watched() as requests:
        for running in (Uploads(log.path), copy.deepcopy(Uploads(spool_folder(url)))):
            running.begin()
            running.finish()
            running.leave()
    assert not requests


def test_a_run_that_vanished_from_the_disk_is_told(url: str) -> None:
    log = new_log(spool_folder(url))
    running = Uploads(log.path)
    running.begin()
    shutil.rmtree(log.path)
    with pytest.raises(LogError, match="uploading ended: FileNotFoundError"):
        for _ in range(1000):
            running.changed()
            running._running and running._running[0].wait(1)


def test_a_process_that_is_killed_once_its_lock_is_there_is_no_other_recorder(
    url: str,
) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    upload_until_the_lock(log, url)
    assert LOCK_FILE in names_at(url)
    log.release()
    again = RunLog.resume(log.path, read_spec(log.path))
    add_epoch(again, 1)
    assert Upload(again.path, url).work() is None


def test_a_store_that_fails_at_the_very_end_is_told_with_the_way_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    log.seal()
    upload = Upload(log.path, url)
    assert upload.work() is None

    def refuse(self: RemoteFolder) -> None:
        raise LogError("the token has expired")

    monkeypatch.setattr(RemoteFolder, "files", refuse)
    with pytest.raises(LogError, match=rf"\(the token has expired\).*: pruneviz upload {url}$"):
        upload.leave_copy()


def test_a_run_that_was_finished_after_its_last_upload_was_cut_off_goes_on(
    url: str,
) -> None:
    log = new_log(spool_folder(url))
    Upload(log.path, url).work()
    add_epoch(log, 0)
    upload_until_the_lock(log, url)
    log.seal()
    prepare(log.path, resume=True)
    assert Upload(log.path, url).work() is None
    assert pv.faults(url).empty
