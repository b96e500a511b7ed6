"""Worker processes under supervision: each has one job at a time, and dies alone.

Every worker has two pipes of its own: one for jobs and what becomes of them, and one for orders to
stop, which another thread of it reads. No lock, queue or helper process is shared, so the death of
one process, at any instant, leaves nothing behind that another would wait for.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from pruneviz.console.processes import end_with_parent
from pruneviz.console.stop_signals import (
    STOP_SIGNALS,
    Received,
    Stopped,
    blocked,
    exit_code,
    named,
    unblock,
)
from pruneviz.errors import PrunevizError
from pruneviz.experiment.freed_memory import keep_freed_memory
from pruneviz.experiment.stop import GRACE, Stop

Report = Callable[[float, str], None]  # epochs done, with the fraction of the current one; a note

GOES_ON = "the run goes on from its last checkpoint when the command is repeated"
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
# Seconds beyond those of the workers themselves, after which they are killed.
_PATIENCE = 4.0


@dataclass(frozen=True)
class Job:
    """One run to process in a worker.

    Args:
        run: Run name.
        epochs: Number of epochs, for the progress.
        work: Processes the run; must be picklable. Takes a `Report` and a `Stop`, and returns a
            sentence about the result.
    """

    run: str
    epochs: int
    work: Callable[[Report, Stop], str]


@dataclass(frozen=True)
class Event:
    """What came from a worker.

    Attributes:
        job: The job it is about.
        kind: "report"; or the end of the job: "done", "failed", "stopped", "raised" (a bug) or
            "died" (its process).
        words: A note, the result, why it failed, or where it stopped.
        epochs: Epochs done, of a report.
        error: The bug.
    """

    job: Job
    kind: Literal["report", "done", "failed", "stopped", "raised", "died"]
    words: str = ""
    epochs: float = 0.0
    error: Exception | None = None


class _Worker:
    """A process, and the job that it works on."""

    def __init__(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        their_orders, self.orders = multiprocessing.Pipe(duplex=False)
        self.job: Job | None = None
        self.has_told = False  # anything about its job
        self.killed_before = _killed_for_memory()
        spawn = multiprocessing.get_context("spawn")
        self.process = spawn.Process(target=_work, args=(theirs, their_orders))
        with theirs, their_orders:
            # The tracker is started by the first process, and lets through what it ignores itself.
            if os.name == "posix":
                with blocked():
                    resource_tracker.ensure_running()
            with blocked():
                self.process.start()

    def begin(self, job: Job) -> None:
        self.job, self.has_told = job, False
        send(self.pipe, job)

    def close(self) -> None:
        self.pipe.close()
        self.orders.close()


class Workers:
    """A number of worker processes; use it as a context manager, which ends them.

    Args:
        at_once: How many work at the same time.

    Attributes:
        patience: Seconds after which workers that were asked to stop are ended; they end themselves
            before.
    """

    patience = 2 * GRACE

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._workers: list[_Worker] = []

    @property
    def busy(self) -> list[str]:
        """The runs that are being worked on."""
        return [worker.job.run for worker in self._workers if worker.job is not None]

    @property
    def has_room(self) -> bool:
        """Whether another job can be begun."""
        return len(self.busy) < self._at_once

    def begin(self, job: Job) -> None:
        """Begin a job in a process that has none, or in a new one."""
        idle = [w for w in self._workers if w.job is None and w.process.is_alive()]
        if not idle:
            idle = [_Worker()]
            self._workers += idle
        idle[0].begin(job)

    def events(self, signals: Received | None, seconds: float) -> list[Event]:
        """What came from the workers.

        Args:
            signals: A signal ends the waiting; None if somebody else takes signals.
            seconds: How long to wait for something.
        """
        by_source: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        by_source |= {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*by_source, *([signals.source] if signals else [])], seconds)
        found: list[Event] = []
        for worker in dict.fromkeys(by_source[one] for one in ready if one in by_source):
            found += self._read(worker)
        return found

    def stop(self, number: int) -> list[Job]:
        """Ask all workers to stop; those that have nothing to write yet are ended.

        Returns:
            Jobs that were not begun: none, as every job here has a worker.
        """
        for worker in self._workers:
            send(worker.orders, number) if worker.has_told else worker.process.kill()
        return []

    def join(self, seconds: float) -> None:
        """Wait for the end of workers that were asked to stop; nothing that they send is read.

        Args:
            seconds: How long to wait for each.
        """
        for worker in self._workers:
            worker.process.join(seconds)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the processes: idle ones by a word, others by force."""
        for worker in self._workers:
            send(worker.pipe, None) if worker.job is None else worker.process.kill()
        until = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.close()
        self._workers = []

    def _read(self, worker: _Worker) -> Iterator[Event]:
        """Everything that a worker has sent so far, and its death."""
        dead = not worker.process.is_alive()  # asked first, so that all it has sent is read
        try:
            while worker.pipe.poll():
                kind, leaves, words, epochs, error = worker.pipe.recv()
                worker.has_told = True
                if worker.job is not None:
                    yield Event(worker.job, kind, words, epochs, error)
                if kind != "report":
                    worker.job = None
                if leaves:
                    worker.process.join(_PATIENCE)
                    dead = True
        except (EOFError, OSError):
            worker.process.join(_PATIENCE)
            dead = True
        if dead:
            worker.process.kill()
            worker.process.join()
            if worker.job is not None:
                memory = _killed_for_memory() > worker.killed_before
                yield Event(worker.job, "died", death(worker.process.exitcode, memory))
            worker.close()
            self._workers.remove(worker)


def send(pipe: Connection, message: object) -> None:
    """Send something to a process; its death is noticed elsewhere."""
    with suppress(OSError):
        pipe.send(message)


def death(code: int | None, for_memory: bool = False) -> str:
    """How a process died, and what to do.

    Args:
        code: Its exit code; the negative number of the signal that ended it.
        for_memory: Whether the system has killed a process for lack of memory meanwhile.
    """
    again = f"; {GOES_ON}"
    if code == -signal.SIGKILL:
        why = (
            "because memory ran out"
            if for_memory
            else "by somebody, or by the system because memory ran out"
        )
        return f"its process was killed (SIGKILL) {why}; run fewer at once with --jobs{again}"
    if code is not None and code < 0:
        name = named(-code)
        return f"its process {'crashed' if name in _CRASHES else 'was ended'} ({name}){again}"
    asked = [number for number in STOP_SIGNALS if exit_code(number) == code]
    if asked:
        return f"its process was ended ({named(asked[0])}){again}"
    return f"its process ended before the run did, with exit code {code}{again}"


def start_worker() -> None:
    """Prepare a worker process: end it with its parent, and keep freed memory."""
    end_with_parent()  # only whole files are on disk, so every run resumes from a checkpoint
    keep_freed_memory()


def _killed_for_memory() -> int:
    """How often the system has killed a process for lack of memory, as far as it says so."""
    found = 0
    for file in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with suppress(OSError, ValueError):
            lines = Path(file).read_text(encoding="utf-8").splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return found


# In the worker


def _work(pipe: Connection, orders: Connection) -> None:
    """Work on one job after the other, until the parent sends no more."""
    stop, signals = Stop(), Received()  # signals are received to the end of the process
    unblock()
    start_worker()
    threading.Thread(target=_listen, args=(orders, signals, stop), daemon=True).start()
    while (job := _next(pipe)) is not None:
        _tell(pipe, *_result(job, pipe, stop))
        if stop.asked is not None:
            os._exit(exit_code(stop.asked))  # all is written; unloading torch takes a while
        stop.keep(None)


def _next(pipe: Connection) -> Job | None:
    """The next job; None if there is no other."""
    try:
        job: Job | None = pipe.recv()
    except (EOFError, OSError):
        os._exit(1)  # the parent has died
    return job


def _listen(orders: Connection, signals: Received, stop: Stop) -> None:
    """Take requests to stop, from the parent or by a signal to this process."""
    while True:
        for ready in wait([orders, signals.source]):
            number: int | None = None
            if ready is not orders:
                number = signals.next()
            else:
                try:
                    number = orders.recv()
                except (EOFError, OSError):
                    return  # the parent has died, or ends this process
            if number is not None:
                stop.ask(number)


def _result(job: Job, pipe: Connection, stop: Stop) -> tuple[Any, ...]:
    """Work on a job: the kind of its end, whether this process ends, words, epochs and a bug."""
    # What earlier runs have loaded stays; garbage collections would search it again and again.
    gc.collect()
    gc.freeze()
    kind, words, bug = "done", "", None
    try:
        words = job.work(
            lambda epochs, note: _tell(pipe, "report", False, note, epochs, None), stop
        )
    except Stopped as error:
        kind, words = "stopped", str(error)
    except (PrunevizError, OSError, RuntimeError) as error:
        kind, words = "failed", str(error) or type(error).__name__
    except Exception as error:
        error.add_note(f"\nIn the process of the run:\n{traceback.format_exc()}")
        kind, words, bug = "raised", f"{type(error).__name__}: {error}", error
    return kind, stop.asked is not None, words, 0.0, bug


def _tell(pipe: Connection, *message: Any) -> None:
    try:
        pipe.send(message)
    except OSError:
        os._exit(1)  # the parent has died
