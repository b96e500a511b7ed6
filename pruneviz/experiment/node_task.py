"""One run on another machine: a process under supervision there, as on this one."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pruneviz.errors import LogError, PrunevizError
from pruneviz.experiment.mailbox import Box, Post
from pruneviz.experiment.stop import GRACE, Stop
from pruneviz.experiment.workers import Event, Job, Report, Workers
from pruneviz.log.run_lock import check_idle
from pruneviz.stores.spool import SPOOL_VARIABLE, spool_root

_LOOKS = 0.5  # seconds between two looks for an order to stop
# Seconds until the locks of a machine that is gone are free, as NFS has it, and some more.
_LOCKS_GONE = 150.0


@dataclass(frozen=True)
class Outcome:
    """How a run on another machine ended; see `Event`.

    Attributes:
        kind, words, error: As those of an event.
        host: The machine.
    """

    kind: Any
    words: str
    host: str
    error: Exception | None = None


class NodeTask:
    """A run, as an engine calls it on one of its machines, perhaps several times.

    Every call goes on from the last checkpoint. The run has a process of its own, so that its
    memory, threads, signals and death are as in a command on that machine.

    Args:
        job: The run.
        box: Where the command looks for news of it.
        folder: Working directory of the command.
    """

    def __init__(self, job: Job, box: Box, folder: Path) -> None:
        spool = str(spool_root().parent)
        self._job = replace(job, work=partial(in_folder, folder, spool, job.work))
        self._box = box
        self._workers: Workers | None = None

    def __call__(self) -> Outcome:
        """Do the run to its end, or until the command asks to stop."""
        host = platform.node()
        try:
            self._box.check(host)
            if self._box.ordered() is not None:
                return Outcome("stopped", "not begun", host)
            _check_may_start_processes()
            event = self._followed(host)
        except (PrunevizError, OSError) as error:
            return Outcome("failed", str(error), host)
        return Outcome(event.kind, event.words, host, event.error)

    def save(self) -> None:
        """Let the run write its checkpoint and end its process; called by a signal's handler."""
        if self._workers is not None:
            self._workers.stop(signal.SIGTERM)
            self._workers.join(2 * GRACE)

    def __getstate__(self) -> dict[str, Any]:
        """Without what runs here."""
        return vars(self) | {"_workers": None}

    def _followed(self, host: str) -> Event:
        """Pass on what the run reports, until it ends."""
        count, asked = 1, False
        self._box.tell(Post(0.0, "starting", host, count))
        with Workers(1) as workers:
            self._workers = workers
            workers.begin(self._job)
            while True:
                for event in workers.events(None, _LOOKS):  # signals are the engine's
                    if event.kind != "report":
                        return event
                    count += 1
                    self._box.tell(Post(event.epochs, event.words, host, count))
                number = None if asked else self._box.ordered()
                if number is not None:
                    asked = True
                    workers.stop(number)


def _check_may_start_processes() -> None:
    """Check that the process of the engine may start others, which Dask's nannies forbid."""
    if multiprocessing.current_process().daemon:
        raise PrunevizError(
            "this Dask worker may not start processes; start it with --no-nanny, or with "
            "DASK_DISTRIBUTED__WORKER__DAEMON=False in its environment"
        )


def in_folder(
    folder: Path, spool: str, work: Callable[[Report, Stop], str], report: Report, stop: Stop
) -> str:
    """Do the work of a job in the working directory of the command, so that paths mean the same.

    Args:
        folder: The working directory.
        spool: What PRUNEVIZ_SPOOL is there, so that runs of a bucket are known as such.
        work: See `Job`.
        report: Takes reports.
        stop: Says when to stop.

    Raises:
        PrunevizError: If the folder is not there.
    """
    if hasattr(signal, "SIGUSR2"):  # Slurm sends it to all processes, and submitit takes it
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.environ[SPOOL_VARIABLE] = spool
    try:
        os.chdir(folder)
    except OSError as error:
        raise PrunevizError(
            f"the working directory of the command, {folder}, is not there on {platform.node()} "
            f"({error.strerror}); start the command in a folder that all machines share"
        ) from error
    return work(report, stop)


def wait_until_idle(path: Path, report: Report) -> None:
    """Wait for the process that recorded a run before, on a machine that may just have been lost.

    Args:
        path: Run directory; it may be missing.
        report: Told that it waits.

    Raises:
        LogError: If another process still records the run after some minutes.
    """
    until = time.monotonic() + _LOCKS_GONE
    while True:
        try:
            return check_idle(path)
        except LogError:
            if time.monotonic() > until:
                raise
        report(0.0, "waiting for the process that recorded it before")
        time.sleep(1.0)
