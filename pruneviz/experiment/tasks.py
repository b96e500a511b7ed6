"""Runs as tasks of any `concurrent.futures.Executor`, in the words of `workers.Workers`."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pruneviz.console.stop_signals import Received
from pruneviz.experiment.mailbox import Mailbox
from pruneviz.experiment.node_task import NodeTask, Outcome
from pruneviz.experiment.workers import GOES_ON, Event, Job

_LONGEST = 300  # characters of what an engine says
_BETWEEN_LOOKS = 1.0  # seconds between two looks at how far the runs are


@dataclass
class _Task:
    """A run, its future, and the last that it told."""

    job: Job
    number: int
    future: Future[Any]
    told: int = 0


class Tasks:
    """Runs that an executor works on; use it as a context manager, which withdraws them.

    Args:
        executor: Calls each run on a machine that shares the folder of the mailbox.
        mailbox: Has a place for each run, in the order in which they begin.
        at_once: How many runs the executor is given at the same time.

    Attributes:
        patience: Seconds after which runs that were asked to stop are withdrawn; they stop before,
            as far as the network lets them.
    """

    patience = 60.0

    def __init__(self, executor: Executor, mailbox: Mailbox, at_once: int) -> None:
        self._executor, self._mailbox, self._at_once = executor, mailbox, at_once
        self._tasks: list[_Task] = []
        self._begun, self._looked = 0, 0.0
        self._bell, self._rope = socket.socketpair()
        self._rope.setblocking(False)
        self._bell.setblocking(False)

    @property
    def busy(self) -> list[str]:
        """The runs that have not ended."""
        return [task.job.run for task in self._tasks]

    @property
    def has_room(self) -> bool:
        """Whether another job can be begun."""
        return len(self._tasks) < self._at_once

    def begin(self, job: Job) -> None:
        """Give a job to the executor, which begins it when it has a place."""
        call = NodeTask(job, self._mailbox.box(self._begun), Path.cwd())
        future = self._executor.submit(call)
        self._tasks.append(_Task(job, self._begun, future))
        self._begun += 1
        future.add_done_callback(lambda _: self._ring())

    def events(self, signals: Received | None, seconds: float) -> list[Event]:
        """What came from the runs.

        Args:
            signals: A signal ends the waiting.
            seconds: How long to wait for something.
        """
        wait([self._bell, *([signals.source] if signals else [])], seconds)
        with suppress(BlockingIOError):
            self._bell.recv(4096)
        look = time.monotonic() - self._looked >= _BETWEEN_LOOKS
        if look:
            self._looked = time.monotonic()
        return [event for task in list(self._tasks) for event in self._news(task, look)]

    def stop(self, number: int) -> list[Job]:
        """Ask all runs to stop.

        Returns:
            Those that had not begun, which are withdrawn.
        """
        self._mailbox.order(number)
        waiting = [task for task in self._tasks if self._mailbox.post(task.number) is None]
        withdrawn = [task for task in waiting if task.future.cancel()]
        self._tasks = [task for task in self._tasks if task not in withdrawn]
        return [task.job for task in withdrawn]

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *exception: object) -> None:
        """Withdraw what has not ended."""
        if self._tasks:
            self._mailbox.order(signal.SIGTERM)
        for task in self._tasks:
            task.future.cancel()
        self._tasks = []
        self._rope.close()
        self._bell.close()

    def _ring(self) -> None:
        """Tell that a run has ended; called by a thread of the executor."""
        with suppress(OSError):  # nobody listens any more, or will look anyway
            self._rope.send(b"!")

    def _news(self, task: _Task, look: bool) -> Iterator[Event]:
        """The last report of a run if it is new, and its end."""
        has_ended = task.future.done()  # asked first, so that no report comes after the end
        post = self._mailbox.post(task.number) if look else None
        if post is not None and post.count != task.told:
            task.told = post.count
            yield Event(task.job, "report", post.words, post.epochs)
        if has_ended:
            self._tasks.remove(task)
            yield _end(task)


def _end(task: _Task) -> Event:
    """How a run ended, with the machine's name if it did not end well."""
    if task.future.cancelled():
        return Event(task.job, "died", f"its task was withdrawn; {GOES_ON}")
    error = task.future.exception()
    if error is not None:
        text = " ".join(str(error).split())[:_LONGEST]
        words = f"it was lost with its node or task ({type(error).__name__}: {text}); {GOES_ON}"
        return Event(task.job, "died", words)
    outcome: Outcome = task.future.result()
    if outcome.kind in ("done", "stopped"):
        return Event(task.job, outcome.kind, outcome.words)
    words = f"on {outcome.host}: {outcome.words}"
    return Event(task.job, outcome.kind, words, error=outcome.error)
