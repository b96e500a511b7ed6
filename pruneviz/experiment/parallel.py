"""Parallel runs: devices, worker processes, their reports and their end."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.context import SpawnContext
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Queue

from pruneviz.console.processes import cores, end_with_parent, ended_on_interrupt
from pruneviz.console.progress import Progress, show_progress
from pruneviz.errors import PrunevizError
from pruneviz.experiment.freed_memory import keep_freed_memory
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import is_sealed, read_spec

Report = Callable[[float, str], None]  # epochs done, with the fraction of the current one; a note
_Reports = Queue[tuple[str, float, str]]  # a run, its epochs done, a note


class Device(StrEnum):
    """Where to compute; `auto` is a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class Job:
    """One run to process in a worker.

    Args:
        run: Run name.
        epochs: Number of epochs, for the progress.
        work: Processes the run; must be picklable. Takes a `Report` and returns a sentence about
            the result.
    """

    run: str
    epochs: int
    work: Callable[[Report], str]


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


def runs_at_once(device: str) -> int:
    """Default number of parallel runs: one per core on a CPU, one on a GPU."""
    return 1 if device == "cuda" else cores()


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


def run_jobs(jobs: Sequence[Job], at_once: int, say: Callable[[str], None]) -> None:
    """Process runs in worker processes, and show their progress.

    Args:
        jobs: The runs.
        at_once: Number of workers.
        say: Prints one line.

    Raises:
        PrunevizError: If runs failed; raised after the others finish, with names and reasons.
    """
    failures: dict[str, list[str]] = {}  # message: runs
    spawn = multiprocessing.get_context("spawn")
    with (
        show_progress(len(jobs), say) as progress,
        _manager(spawn) as manager,
        ProcessPoolExecutor(at_once, mp_context=spawn, initializer=start_worker) as pool,
        ended_on_interrupt(pool),
    ):
        reports = manager.Queue()
        totals = {job.run: job.epochs for job in jobs}
        pending = {pool.submit(_process, job, reports): job for job in jobs}
        while pending:
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            _show(reports, totals, progress)
            for future in done:
                run = pending.pop(future).run
                failure = _failure(future)
                if failure is not None:
                    failures.setdefault(failure, []).append(run)
                progress.end(run, f"{run}: {future.result() if failure is None else 'failed'}")
    if failures:
        raise PrunevizError(_failed(failures, len(jobs)))


def start_worker() -> None:
    """Prepare a worker process: end it with its parent, and keep freed memory."""
    end_with_parent()  # only whole files are on disk, so every run resumes from a checkpoint
    keep_freed_memory()


def _manager(spawn: SpawnContext) -> SyncManager:
    """A started manager; workers report through its queue."""
    manager = SyncManager(ctx=spawn)
    manager.start(end_with_parent)
    return manager


def _process(job: Job, reports: _Reports) -> str:
    # What earlier runs have loaded stays; garbage collections would search it again and again.
    gc.collect()
    gc.freeze()
    return job.work(lambda epochs, note: reports.put((job.run, epochs, note)))


def _show(reports: _Reports, totals: dict[str, int], progress: Progress) -> None:
    """Show all reports since the last call."""
    while not reports.empty():
        run, epochs, note = reports.get()
        progress.start(run, totals[run])
        progress.move(run, epochs, note)


def _failure(future: Future[str]) -> str | None:
    """Why a run failed, or None; unexpected errors are raised."""
    error = future.exception()
    if error is None:
        return None
    if not isinstance(error, (PrunevizError, OSError, RuntimeError)):
        raise error
    return str(error) or type(error).__name__


def _failed(failures: dict[str, list[str]], total: int) -> str:
    """Message about all failed runs, grouped by reason."""
    number = sum(len(runs) for runs in failures.values())
    reasons = " ".join(f"{', '.join(runs)}: {message}" for message, runs in failures.items())
    return f"{number} of {total} runs failed; fix the cause and repeat the command. {reasons}"
