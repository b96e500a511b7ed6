"""One process at a time records a run; its end, however it comes, lets the next one go on."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_lock import LOCK_FILE, RunLock, check_idle
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load
from pruneviz.log.thinning import thin
from tests.log.test_run_directory import append, epoch_row, filter_rows, listing, record
from tests.support.racing_writers import race

ROOT = Path(__file__).parents[2]
# Light, as it loads neither pandas nor torch.
HOLDS = """
import os, subprocess, sys, time
from pathlib import Path
from pruneviz.log.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
how = sys.argv[2]
if how == "started":
    child = subprocess.Popen([sys.executable, "-c", "input()"], close_fds=False)
if how == "forked" and os.fork() == 0:
    time.sleep(60)
print("held", flush=True)
time.sleep(60 if how == "alone" else 0)
os._exit(0)
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock of a run."""
    command = [sys.executable, "-c", HOLDS, str(path), "alone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def is_locked(path: Path) -> bool:
    """Whether anybody holds the lock, this process included."""
    with (path / LOCK_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def begun(path: Path) -> RunLog:
    log = RunLog.create(path, RunSpec("r"))
    append(log, 0, 1)
    return log


def test_another_process_is_named_until_it_ends(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    log.release()
    with held_elsewhere(log.path) as process:
        said = (
            rf"r is being recorded by process {process.pid} \(.+\) since 2.*; wait for it or stop"
        )
        before = listing(log.path)
        for open_it in (
            lambda: RunLog.create(log.path, RunSpec("r")),
            lambda: RunLog.resume(log.path, log.spec),
            lambda: append(log, 2),
            lambda: log.drop_after(0),
            log.seal,
            lambda: check_idle(log.path),
        ):
            with pytest.raises(LogError, match=said):
                open_it()
        assert listing(log.path) == before
        assert len(load(log.path).epochs) == 2, "reading needs no lock"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(LogError, match=rf"was recorded further by process {process.pid}"):
        append(log, 2)  # what this one knows of the run may be old
    resumed = RunLog.resume(log.path, log.spec)
    append(resumed, 2)
    resumed.seal()
    assert len(load(log.path).epochs) == 3


def test_a_newer_recorder_of_this_process_takes_over(tmp_path: Path) -> None:
    older = begun(tmp_path / "r")
    newer = RunLog.resume(older.path, older.spec)
    said = "is recorded by a newer recorder of this process"
    for write in (
        lambda: append(older, 2),
        lambda: older.drop_after(0),
        lambda: older.replace(1, epochs=epoch_row(1), filters=filter_rows(1)),
        lambda: older.checkpoint,
        older.seal,
    ):
        with pytest.raises(LogError, match=said):
            write()
    older.release()
    assert is_locked(newer.path)
    append(newer, 2)
    newer.seal()
    assert len(load(newer.path).epochs) == 3


def test_a_run_that_fails_to_open_is_let_go(tmp_path: Path) -> None:
    log, other = begun(tmp_path / "r"), begun(tmp_path / "other")
    shutil.copy(other.part("epochs", 0), log.part("epochs", 0))
    log.release()
    with pytest.raises(LogError, match="belongs to another recording") as kept:
        RunLog.resume(log.path, log.spec)
    assert not is_locked(log.path)
    unread = RunLog(log.path, log.spec)
    with pytest.raises(LogError, match="belongs to another recording") as also_kept:
        append(unread, 2)
    assert not is_locked(log.path)
    del kept, also_kept  # with their frames, which hold the lock


def test_asking_for_the_folder_of_checkpoints_takes_nothing(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    log.release()
    assert log.checkpoint == log.path / "checkpoint"
    assert not is_locked(log.path)
    with held_elsewhere(log.path) as process:
        with pytest.raises(LogError, match=rf"was recorded further by process {process.pid}"):
            _ = log.checkpoint
        process.send_signal(signal.SIGKILL)
        process.wait()
    again = RunLog(log.path, log.spec)
    again.take()
    assert is_locked(log.path)


def test_the_lock_is_let_go_at_the_end_and_with_the_recorder(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    path = log.path
    assert is_locked(path)
    del log
    gc.collect()
    assert not is_locked(path)
    resumed = RunLog.resume(path, RunSpec("r"))
    resumed.release()
    assert not is_locked(path)
    append(resumed, 2)  # nobody else was there
    assert is_locked(path)
    resumed.seal()
    assert not (path / LOCK_FILE).exists()
    reopen(path)
    assert not is_locked(path)
    RunLog.resume(path, RunSpec("r")).seal()
    assert not (path / LOCK_FILE).exists()


def test_a_forked_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = "no error"
        try:
            append(log, 2)
        except LogError as error:
            said = str(error)
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode()
    assert re.search(f"is being recorded by process {os.getpid()} ", said), said
    append(log, 2)
    log.release()
    with held_elsewhere(log.path):
        pass


@pytest.mark.parametrize("how", ["forked", "started"])
def test_a_worker_or_program_that_outlives_its_parent_does_not_hold_the_lock(
    tmp_path: Path, how: str
) -> None:
    log = begun(tmp_path / "r")
    log.release()
    command = [sys.executable, "-c", HOLDS, str(log.path), how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            process.wait()
            append(RunLog.resume(log.path, log.spec), 2)
            os.killpg(process.pid, 0)  # the other one is still there
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_folder_that_was_replaced_is_noticed_at_the_next_write(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    log.path.rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", log.path)
    before = listing(log.path)
    for write in (lambda: append(log, 2), lambda: log.drop_after(0), log.seal):
        with pytest.raises(LogError, match="r: the folder was deleted or replaced since this rec"):
            write()
    assert listing(log.path) == before
    shutil.rmtree(log.path)
    (tmp_path / "moved").rename(log.path)
    append(log, 2)
    assert log.epochs == [0, 1, 2]


def test_a_lock_file_that_somebody_removed_does_not_let_two_write(tmp_path: Path) -> None:
    log = begun(tmp_path / "r")
    (log.path / LOCK_FILE).unlink()
    append(log, 2)
    assert is_locked(log.path)
    (log.path / LOCK_FILE).unlink()
    with (
        held_elsewhere(log.path) as process,
        pytest.raises(LogError, match=f"is being recorded by process {process.pid} "),
    ):
        append(log, 3)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_in_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def flock(fd: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    log = begun(tmp_path / "r")
    assert [message.split(" (")[0] for message in caplog.messages] == [
        f"{tmp_path / 'r'} is on a file system without locks"
    ]
    check_idle(log.path)
    newer = RunLog.resume(log.path, log.spec)
    with pytest.raises(LogError, match="newer recorder of this process"):
        append(log, 2)
    newer.seal()
    assert len(load(log.path).epochs) == 2


TEXTS = [b"", b"\xff\x00", b"[1]", b'{"process": "1"}', b"{" * 600, b"[" * 511]
TEXTS += [
    b'{"process": 7, "host": "\\u001b[2J", "since": "", "writer": "", "run_id": "a", "last": 1}'
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_lock_file_with_any_text_is_taken(tmp_path: Path, text: bytes) -> None:
    log = begun(tmp_path / "r")
    log.release()
    (log.path / LOCK_FILE).write_bytes(text)
    with (log.path / LOCK_FILE).open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LogError, match="r is being recorded by another process; wait"):
            RunLog.resume(log.path, log.spec)
    append(RunLog.resume(log.path, log.spec), 2)


def test_a_link_or_a_pipe_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    for make in (lambda file: file.symlink_to(tmp_path / "mine"), os.mkfifo, os.mkdir):
        path = tmp_path / "r"
        log = begun(path)
        log.release()
        (path / LOCK_FILE).unlink()
        make(path / LOCK_FILE)
        with pytest.raises(LogError, match=r"cannot write to .*r: "):
            RunLog.resume(path, log.spec)
        check_idle(path)
        shutil.rmtree(path)
    assert (tmp_path / "mine").read_text() == "kept"


def test_what_a_killed_process_left_is_no_content_and_is_not_copied(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    RunLock(left).release()
    assert (left / LOCK_FILE).exists()
    record(left)
    assert not (left / LOCK_FILE).exists()
    (left / LOCK_FILE).touch()  # killed before the last step of the seal
    copy = thin(left, tmp_path / "thin").path
    assert sorted(listing(copy)) == sorted(set(listing(left)) - {LOCK_FILE})
    assert len(load(left).epochs) == 3


def test_a_start_that_fails_leaves_no_lock_file(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="stored"):
        RunLog.create(tmp_path / "r", RunSpec.from_dict({"run": "r", "own": float("nan")}))
    assert not listing(tmp_path)
    finished = record(tmp_path / "finished")
    with pytest.raises(LogError, match="already holds the finished run"):
        RunLog.create(finished, RunSpec("finished"))
    with pytest.raises(LogError, match="nothing to resume"):
        RunLog.resume(finished, RunSpec("finished"))
    assert not (finished / LOCK_FILE).exists()


def test_whoever_may_write_into_the_folder_may_take_the_lock(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    RunLock(tmp_path).release()
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o660


def test_of_processes_that_race_for_a_run_one_records_it(tmp_path: Path) -> None:
    race(tmp_path, trials=4, seed=1)


@pytest.mark.soak
def test_of_processes_that_race_for_many_runs_one_each_records_it(tmp_path: Path) -> None:
    race(tmp_path, trials=200, seed=2)
