"""Runs as tasks of an executor: progress, failures by name, losses, and their end by a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pruneviz.console.stop_signals import Stopped
from pruneviz.errors import PrunevizError
from pruneviz.experiment.mailbox import Mailbox
from pruneviz.experiment.parallel import run_tasks
from pruneviz.experiment.tasks import Tasks
from pruneviz.experiment.workers import Job
from tests.support.jobs import miss_images, stay_until_asked, succeed


class Losing(Executor):
    """An executor that loses tasks: some end in an error, some never begin."""

    def __init__(self, waits: bool = False) -> None:
        self._waits = waits

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future:  # type: ignore[type-arg]
        future: Future[object] = Future()
        if not self._waits:
            future.set_exception(ConnectionError("the node\nis gone"))
        return future


def run(jobs: list[Job], executor: Executor, folder: Path, at_once: int = 9) -> list[str]:
    """Run jobs on an executor; returns what is said."""
    said: list[str] = []
    with Mailbox(folder, len(jobs)) as mailbox:
        run_tasks(jobs, at_once, said.append, executor, mailbox)
    return said


def test_a_failure_is_told_by_run_and_machine_and_stops_no_other(tmp_path: Path) -> None:
    jobs = [Job("r0", 2, miss_images), Job("r1", 2, succeed)]
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(
            PrunevizError, match=r"^1 of 2 runs failed; .*\. r0: on \S+: no images; download them$"
        ),
    ):
        said: list[str] = []
        with Mailbox(tmp_path / "out", 2) as mailbox:
            run_tasks(jobs, 2, said.append, executor, mailbox)
    assert sorted(line.partition(" (")[0] for line in said) == ["r0: failed", "r1: recorded"]
    assert not list((tmp_path / "out").iterdir())


def test_a_lost_task_is_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(
        PrunevizError,
        match=r"r0: it was lost with its node or task \(ConnectionError: the node is gone\); "
        "the run goes on from its last checkpoint when the command is repeated",
    ):
        run([Job("r0", 2, succeed)], Losing(), tmp_path)


def test_no_more_tasks_are_given_than_may_run_at_once(tmp_path: Path) -> None:
    with Mailbox(tmp_path, 2) as mailbox, Tasks(Losing(waits=True), mailbox, at_once=1) as tasks:
        assert tasks.has_room
        tasks.begin(Job("r0", 2, succeed))
        assert not tasks.has_room and tasks.busy == ["r0"]


def test_a_signal_stops_what_runs_and_withdraws_what_waits(tmp_path: Path) -> None:
    jobs = [
        Job(f"r{number}", 2, partial(stay_until_asked, note=tmp_path / "begun"))
        for number in range(2)
    ]

    def interrupt() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with ThreadPoolExecutor(1) as executor, pytest.raises(Stopped) as stopped:
        run(jobs, executor, tmp_path / "out")
    interrupting.join()
    assert str(stopped.value) == (
        "Interrupted: r0 stopped after step 1 of 2 of epoch 1; 1 run not begun. "
        "Finished work is kept; repeat the command to go on."
    )
    assert not list((tmp_path / "out").iterdir())
