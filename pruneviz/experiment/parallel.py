"""Parallel runs: devices, the runs of worker processes, their progress and their end."""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from enum import StrEnum
from pathlib import Path

from pruneviz.console.processes import cores, started_by_torchrun, threads_each
from pruneviz.console.progress import Progress, show_progress
from pruneviz.console.stop_signals import GO_ON, Received, Stopped, named, reason
from pruneviz.console.time_limit import TimeLimit
from pruneviz.console.words import counted
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.engines.executors import executor_of
from pruneviz.errors import PrunevizError
from pruneviz.experiment.mailbox import Mailbox
from pruneviz.experiment.tasks import Tasks
from pruneviz.experiment.workers import GOES_ON, Event, Job, Workers
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import is_sealed, read_spec

# Seconds that a signal to all processes of a command may take from one of them to the next.
_SIGNALS_APART = 0.5


class Device(StrEnum):
    """Where to compute; `auto` is a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def available_device(device: Device) -> str:
    """The device to compute on, as PyTorch names it: "cpu" or "cuda".

    Raises:
        PrunevizError: If a GPU is requested but missing.
    """
    import torch

    if device is Device.cpu:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device is Device.cuda:
        raise PrunevizError("there is no CUDA GPU on this machine; use --device cpu")
    return "cpu"


def runs_at_once(device: str, engine: Engine = LOCAL) -> int:
    """Default number of parallel runs.

    One per core on a CPU, one on a GPU; on other machines as many as the engine has room for.
    """
    if not engine.is_local:
        return sys.maxsize
    return 1 if device == "cuda" else cores()


def threads_on(engine: Engine, at_once: int) -> int:
    """CPU threads for each of several runs at once."""
    return threads_each(at_once) if engine.is_local else engine.cpus or 1


def resumed_spec(path: Path, threads: int | None) -> RunSpec | None:
    """Set the number of CPU threads for a run, and return its spec if it was started before.

    An unfinished run keeps its number of threads, because another number rounds sums differently.

    Args:
        path: Run directory.
        threads: Number of threads for a new run. None leaves PyTorch's default.
    """
    import torch

    begun = (path / "spec.json").exists() and not is_sealed(path)
    before = read_spec(path) if begun else None
    wanted = before.threads if before else threads
    if wanted:
        torch.set_num_threads(wanted)
    return before


def device_on(engine: Engine, device: Device) -> str:
    """The device to compute on: that of this machine, or of the machines of an engine.

    Those are not asked: a run that finds no GPU there fails, and says where.

    Raises:
        PrunevizError: If a GPU is requested but missing, here or in what the engine gives.
    """
    if engine.is_local:
        return available_device(device)
    return "cuda" if device is Device.cuda or (engine.gpus and device is Device.auto) else "cpu"


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    say: Callable[[str], None],
    engine: Engine = LOCAL,
    shared: Path | None = None,
    *,
    limit: TimeLimit | None = None,
    failed: Callable[[str, str], object] | None = None,
) -> None:
    """Process runs in worker processes, here or on other machines, and show their progress.

    Args:
        jobs: The runs.
        at_once: Number of runs that are processed at the same time, at most.
        say: Prints one line.
        engine: Where. Default: on this machine.
        shared: Folder of the runs, which all machines share; required with other engines.
        limit: When to stop. Default: once all runs have ended.
        failed: Called at once with the name of a run that failed or whose process died, and why.

    Raises:
        PrunevizError: If runs failed or their processes died; raised after the others finish, with
            names and reasons. At once if the engine cannot be reached, or if `torchrun` has
            started several such commands.
        MissingExtraError: If the package of the engine is not installed.
        Stopped: If a signal or the limit asked to stop; raised once the runs have written their
            checkpoints.
    """
    if started_by_torchrun():
        raise PrunevizError(
            "torchrun has started this command several times, and each would do the same; call it "
            "by itself, which processes runs side by side (--jobs). Only pruneviz record shares "
            "one training among the processes of torchrun"
        )
    if engine.is_local:
        _run_in(Workers(at_once), jobs, say, limit, failed)
        return
    with (
        Mailbox(shared or Path(), len(jobs)) as mailbox,
        executor_of(engine, mailbox.folder / engine.kind) as executor,
    ):
        run_tasks(jobs, at_once, say, executor, mailbox, limit=limit, failed=failed)


def run_tasks(
    jobs: Sequence[Job],
    at_once: int,
    say: Callable[[str], None],
    executor: Executor,
    mailbox: Mailbox,
    *,
    limit: TimeLimit | None = None,
    failed: Callable[[str, str], object] | None = None,
) -> None:
    """`run_jobs` as tasks of any executor.

    Args:
        jobs: The runs.
        at_once: Number of runs that the executor is given at the same time, at most.
        say: Prints one line.
        executor: Where the runs are processed.
        mailbox: The folder in which they tell how far they are.
        limit, failed: As of `run_jobs`.

    Raises:
        PrunevizError: If runs failed or were lost; raised after the others finish.
        Stopped: If a signal or the limit asked to stop; raised once the runs have written their
            checkpoints.
    """
    _run_in(Tasks(executor, mailbox, at_once), jobs, say, limit, failed)


def _run_in(
    workers: Workers | Tasks,
    jobs: Sequence[Job],
    say: Callable[[str], None],
    limit: TimeLimit | None,
    failed: Callable[[str, str], object] | None,
) -> None:
    # signals are received until all processes have ended
    with show_progress(len(jobs), say) as progress, Received() as signals, workers:
        running = _Running(jobs, workers, signals, progress, limit, failed)
        running.until_done()
    running.raise_failures()


class _Running:
    """Runs in workers: those that wait, and what became of the others."""

    def __init__(
        self,
        jobs: Sequence[Job],
        workers: Workers | Tasks,
        signals: Received,
        progress: Progress,
        limit: TimeLimit | None,
        failed: Callable[[str, str], object] | None,
    ) -> None:
        self._waiting, self._total = deque(jobs), len(jobs)
        self._workers, self._signals, self._progress = workers, signals, progress
        self._limit, self._tell_failed = limit, failed
        self._failures: dict[str, list[str]] = {}  # message: runs
        self._stopped: list[str] = []
        self._bug: Exception | None = None

    def until_done(self) -> None:
        """Begin one run after the other until all have ended, or they have to stop."""
        while self._waiting or self._workers.busy:
            if self._limit and self._limit.is_near():
                return self._stop(None)
            while self._waiting and self._workers.has_room:
                self._workers.begin(self._waiting.popleft())
            events = self._workers.events(self._signals, seconds=1.0)
            number = self._signals.next(_SIGNALS_APART if _by_signal(events) else 0)
            self._take(events, stopping=number is not None)
            if number is not None:
                self._stop(number)

    def raise_failures(self) -> None:
        """Raise the first bug, or one error about all runs that failed."""
        if self._bug is not None:
            raise self._bug
        if self._failures:
            raise PrunevizError(self._failed())

    def _take(self, events: Iterable[Event], *, stopping: bool) -> None:
        """Show reports, and note which runs have ended and how."""
        for event in events:
            run = event.job.run
            if event.kind == "report":
                self._progress.start(run, event.job.epochs)
                self._progress.move(run, event.epochs, event.words)
            elif event.kind == "done":
                self._progress.end(run, f"{run}: {event.words}")
            elif stopping and event.kind in ("stopped", "died"):
                # a process that had nothing to write, or did not come to its next step, just ends
                where = event.words if event.kind == "stopped" else "stopped"
                self._stopped.append(f"{run} {where}")
            else:
                self._bug = self._bug or event.error
                words = event.words
                if event.kind == "stopped":
                    words = f"its process was asked to end, and {words}; {GOES_ON}"
                self._failures.setdefault(words, []).append(run)
                if self._tell_failed:
                    self._tell_failed(run, words)
                self._progress.end(run, f"{run}: failed")

    def _stop(self, number: int | None) -> None:
        """Let all runs write their checkpoints and end; a second signal ends them at once.

        Args:
            number: The signal; None at the limit.
        """
        self._waiting += self._workers.stop(signal.SIGTERM if number is None else number)
        until = time.monotonic() + self._workers.patience
        while self._workers.busy and time.monotonic() < until:
            self._take(self._workers.events(self._signals, seconds=0.2), stopping=True)
            again = self._signals.next()
            if again is not None and number is None:
                number = again  # the first one, of a system whose limit is the same
            elif again is not None:
                raise Stopped(number, f"Ended at once by a second {named(again)}. {GO_ON}")
        if self._waiting or self._stopped or self._workers.busy:
            raise Stopped(number, self._where(number))

    def _where(self, number: int | None) -> str:
        """Where the runs stand, and how to go on."""
        told = [*self._stopped, *(f"{run} stopped" for run in self._workers.busy)]
        if self._waiting:
            told.append(f"{counted(len(self._waiting), 'run')} not begun")
        failed = f" {self._failed()}" if self._failures else ""
        over = f"The time limit of {self._limit.text} is near" if self._limit else ""
        why = over if number is None else reason(number)
        return f"{why}: {'; '.join(told)}. {GO_ON}{failed}"

    def _failed(self) -> str:
        """Message about all failed runs, grouped by reason."""
        number = sum(len(runs) for runs in self._failures.values())
        named = (f"{', '.join(runs)}: {message}" for message, runs in self._failures.items())
        return (
            f"{number} of {self._total} runs failed; fix the cause and repeat the command. "
            f"{'. '.join(named)}"
        )


def _by_signal(events: Iterable[Event]) -> bool:
    """Whether a worker got a signal, which the command may get in a moment, too."""
    return any(event.kind in ("stopped", "died") for event in events)
