"""A run on another machine: supervised there, told about, stopped, saved and never alone."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from pruneviz.errors import LogError, PrunevizError
from pruneviz.experiment import node_task
from pruneviz.experiment.mailbox import Mailbox
from pruneviz.experiment.node_task import NodeTask, wait_until_idle
from pruneviz.experiment.workers import Job
from pruneviz.stores.spool import spool_root
from tests.support.jobs import leave, note_folder, note_spool, stay_until_asked, succeed


def task(mailbox: Mailbox, work: object, folder: Path) -> NodeTask:
    """A task as it arrives on a machine."""
    call = NodeTask(Job("r0", 2, work), mailbox.box(0), folder)  # type: ignore[arg-type]
    found: NodeTask = pickle.loads(pickle.dumps(call))
    return found


def test_a_run_is_done_in_the_folder_of_the_command(tmp_path: Path) -> None:
    with Mailbox(tmp_path / "out", 1) as mailbox:
        outcome = task(mailbox, note_folder, tmp_path)()
        assert (outcome.kind, outcome.words) == ("done", str(tmp_path))
        post = mailbox.post(0)
        assert post is not None and (post.epochs, post.words) == (1, "half way")


def test_a_run_of_a_store_is_known_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Mailbox(tmp_path / "out", 1) as mailbox:
        monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "shared"))
        call, expected = task(mailbox, note_spool, tmp_path), str(spool_root())
        monkeypatch.delenv("PRUNEVIZ_SPOOL")
        assert call().words == expected and expected.startswith(str(tmp_path / "shared"))


def test_failures_say_where(tmp_path: Path) -> None:
    with Mailbox(tmp_path / "out", 1) as mailbox:
        outcome = task(mailbox, succeed, tmp_path / "absent")()
        assert outcome.kind == "failed"
        assert f"the working directory of the command, {tmp_path / 'absent'}" in outcome.words
        assert outcome.words.endswith("start the command in a folder that all machines share")
        outcome = task(mailbox, leave, tmp_path)()
        assert (outcome.kind, outcome.words[:40]) == (
            "died",
            "its process ended before the run did, wi",
        )


@pytest.mark.parametrize("saves", [False, True], ids=["ordered", "saved"])
def test_a_run_stops_when_it_is_asked_to(saves: bool, tmp_path: Path) -> None:
    with Mailbox(tmp_path / "out", 1) as mailbox:
        call = task(mailbox, partial(stay_until_asked, note=tmp_path / "begun"), tmp_path)

        def ask() -> None:
            while not (tmp_path / "begun").exists():
                time.sleep(0.02)
            call.save() if saves else mailbox.order(signal.SIGUSR1)

        asking = threading.Thread(target=ask)
        asking.start()
        outcome = call()
        asking.join()
    assert (outcome.kind, outcome.words) == ("stopped", "stopped after step 1 of 2 of epoch 1")


def test_a_run_that_is_asked_to_stop_before_it_begins_does_not(tmp_path: Path) -> None:
    with Mailbox(tmp_path / "out", 1) as mailbox:
        mailbox.order(signal.SIGINT)
        outcome = task(mailbox, leave, tmp_path)()
    assert (outcome.kind, outcome.words) == ("stopped", "not begun")


def test_a_process_that_may_start_no_others_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with Mailbox(tmp_path / "out", 1) as mailbox:
        outcome = task(mailbox, leave, tmp_path)()
    assert outcome.kind == "failed" and "start it with --no-nanny" in outcome.words


def test_a_run_waits_for_the_process_that_recorded_it_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    busy = [LogError("it is being recorded"), LogError("it is being recorded")]

    def check(path: Path) -> None:
        if busy:
            raise busy.pop()

    monkeypatch.setattr(node_task, "check_idle", check)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    wait_until_idle(tmp_path, lambda epochs, words: told.append(words))
    assert told == ["waiting for the process that recorded it before"] * 2
    busy.append(LogError("it is being recorded"))
    monkeypatch.setattr(node_task, "_LOCKS_GONE", -1.0)
    with pytest.raises(PrunevizError, match="it is being recorded"):
        wait_until_idle(tmp_path, lambda epochs, words: None)


def test_a_run_that_nobody_records_need_not_wait(tmp_path: Path) -> None:
    wait_until_idle(tmp_path / "absent", lambda epochs, words: None)
