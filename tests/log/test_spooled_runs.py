"""A recording goes on from the spool, else from the store, and never into another one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog
from pruneviz.log.spec_file import read_spec
from pruneviz.log.spooled_runs import (
    check_many_processes,
    in_spool,
    prepare,
    prepare_all,
    upload_runs,
    within,
)
from pruneviz.log.uploads import Upload, Uploads
from pruneviz.stores.spool import spool_folder, spool_root
from pruneviz.upload import app as upload
from tests.support.stores import add_epoch, names_at, new_log, watched

fsspec = pytest.importorskip("fsspec")


pytestmark = pytest.mark.usefixtures("own_spool")


def recorded(url: str, epochs: int = 2, *, seal: bool = False) -> Path:
    """A run that was recorded and uploaded."""
    log = new_log(spool_folder(url))
    for epoch in range(epochs):
        add_epoch(log, epoch)
    if seal:
        log.seal()
    log.release()
    Uploads(log.path).finish()
    return log.path


def gone_on(path: Path) -> RunLog:
    return RunLog.resume(path, read_spec(path))


def refuse(method: str, path: str) -> None:
    raise ConnectionError("refused")


def test_a_url_is_recorded_into_the_spool_and_a_folder_into_itself(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    assert in_spool("s3://bucket/run") == spool_folder("s3://bucket/run")
    assert in_spool(Path("s3://bucket/run")) == spool_folder("s3://bucket/run")
    assert in_spool("data/mine") == Path("data/mine")
    assert in_spool(f"file://{tmp_path}/run") == tmp_path / "run"


def test_a_pattern_and_the_memory_of_a_process_are_no_places(url: str) -> None:
    for letter in "*?[":
        with pytest.raises(LogError, match="is a pattern, and a recording needs a place of its"):
            in_spool(f"{url}{letter}")
    check_many_processes(in_spool("data/mine"))
    with pytest.raises(LogError, match=r"memory://.* lies in the memory of one process"):
        check_many_processes(in_spool(url))


def test_a_lost_spool_is_filled_from_the_store(url: str, caplog: pytest.LogCaptureFixture) -> None:
    path = recorded(url)
    shutil.rmtree(spool_root())
    prepare(path, resume=True)
    assert f"{url} is not in {path}, and is copied there" in caplog.text
    log = gone_on(path)
    assert log.epochs == [0, 1]
    add_epoch(log, 2)
    with watched() as requests:
        assert Upload(path, url).work() is None
    assert requests["put_file"] == 2  # what came from there does not go back
    assert list(pv.load(url).epochs["epoch"]) == [0, 1, 2]


def test_a_copy_that_was_cut_off_is_made_again(url: str) -> None:
    path = recorded(url)
    shutil.rmtree(spool_root())

    def cut(method: str, name: str) -> None:
        if method == "get_file" and "epochs-00001" in name:
            raise ConnectionError("cut off")

    with watched(cut), pytest.raises(LogError, match="cut off"):
        prepare(path, resume=True)
    assert not path.exists()
    prepare(path, resume=True)
    assert gone_on(path).epochs == [0, 1]


def test_a_spool_goes_on_while_the_store_is_away(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = recorded(url)
    with watched(refuse):
        prepare(path, resume=True)
        assert f"the recording goes on in {path}" in caplog.text
        with pytest.raises(LogError, match=r"cannot be listed \(refused\)"):
            prepare(spool_folder(f"{url}2"), resume=True)


def test_a_run_that_went_on_elsewhere_is_not_gone_on_here(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = recorded(url)
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "other"))
    other = spool_folder(url)
    prepare(other, resume=True)
    log = gone_on(other)
    add_epoch(log, 2)
    assert Upload(other, url).work() is None
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
    with pytest.raises(LogError, match=f"recorded further elsewhere; .* delete {path}"):
        prepare(path, resume=True)


def test_a_place_that_is_not_free_is_refused(url: str) -> None:
    recorded(url, seal=True)
    with pytest.raises(LogError, match=f"{url} already holds a run; choose another place"):
        prepare(spool_folder(url), resume=False)
    fsspec.filesystem("memory").pipe_file(f"{url}2/notes.txt", b"mine")
    with pytest.raises(LogError, match=r"already holds other files, such as notes\.txt"):
        prepare(spool_folder(f"{url}2"), resume=True)


def test_a_finished_run_is_a_copy_that_can_be_opened_again(url: str) -> None:
    path = recorded(url, seal=True)
    shutil.rmtree(spool_root())
    with watched() as requests:
        prepare_all([path])
    assert requests["get_file"] <= 2  # the spec
    reopen(path)
    log = gone_on(path)
    add_epoch(log, 2)
    assert Upload(path, url).work() is None
    assert list(pv.load(url).epochs["epoch"]) == [0, 1, 2]
    assert not any(name.startswith("epochs") for name in names_at(url))
    log.seal()
    assert Upload(path, url).work() is None
    assert pv.faults(url).empty


def test_a_copy_is_renewed_when_the_store_has_another_run(url: str) -> None:
    path = recorded(url, seal=True)
    for name in names_at(url):
        fsspec.filesystem("memory").rm_file(f"{url}/{name}")
    prepare(path, resume=True)
    assert not path.exists()


def test_what_waits_is_uploaded_by_the_command(url: str) -> None:
    with watched(refuse):
        log = new_log(spool_folder(url))
        add_epoch(log, 0)
        log.seal()
    open_run = new_log(spool_folder(f"{url}2"))
    add_epoch(open_run, 0)
    open_run.release()
    shown = CliRunner().invoke(upload, [url.rpartition("/")[0]])
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == [f"{url}: uploaded", f"{url}2: uploaded"]
    assert pv.load([url, f"{url}2"]).unfinished == ("run2",)
    assert "no run waits" in CliRunner().invoke(upload, [url]).output
    assert CliRunner().invoke(upload, ["data/mine"]).exit_code == 2


def test_a_run_that_cannot_be_uploaded_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(spool_folder(url))
    add_epoch(log, 0)
    log.seal()
    monkeypatch.setattr(Uploads.finish, "__defaults__", (0.05,))
    with watched(refuse):
        shown = CliRunner().invoke(upload, [url])
        ((path, error),) = upload_runs([log.path])
    assert shown.exit_code == 1 and "1 run of 1 not uploaded" in shown.output
    assert path == log.path and error is not None and "(refused" not in str(path)


def test_a_call_that_hangs_is_left_after_a_time() -> None:
    with pytest.raises(LogError, match="s3://b did not answer within 0 seconds"):
        within(0.01, lambda: time.sleep(5), "s3://b did not answer")
    assert within(60, lambda: 3, "") == 3
