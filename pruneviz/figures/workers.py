"""Pictures drawn in several processes, in the order in which they were asked for."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path

from pruneviz.console.processes import cores, end_with_parent, ended_on_interrupt
from pruneviz.errors import FigureError, PrunevizError

Work = Callable[[], list[Path]]  # draws one picture and returns its files; must be picklable
Result = list[Path] | PrunevizError

MOST_JOBS = 4  # by default; more processes take memory and gain little
# What a process needs before it can draw; one server process loads it for all.
_LOADED = ("pruneviz.figures.__main__", "pruneviz.figures.draw")


def default_jobs() -> int:
    """Default number of processes: one per core, at most `MOST_JOBS`."""
    return min(cores(), MOST_JOBS)


def prepare() -> None:
    """Start to load, in another process, what workers need; returns at once.

    Called early, while the command itself loads what it needs.
    """
    if _start_method() != "forkserver":
        return
    _context().set_forkserver_preload(list(_LOADED))
    # The server inherits the mask, so that Ctrl-C, which is for the command, does not stop it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        importlib.import_module("multiprocessing.forkserver").ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def results_of(works: Sequence[Work], jobs: int) -> Iterator[Iterator[Result]]:
    """Draw pictures, up to `jobs` at once.

    Args:
        works: One function per picture.
        jobs: Number of processes. With 1, or a single picture, this process draws.

    Yields:
        An iterator over the files of each picture, or why it could not be drawn, in the order of
        `works`. Leaving early, by Ctrl-C or an error, leaves no process behind.
    """
    jobs = min(jobs, len(works))
    if jobs < 2:
        yield map(_result, works)
        return
    prepare()
    pool = ProcessPoolExecutor(jobs, mp_context=_context(), initializer=_start_worker)
    with pool, ended_on_interrupt(pool):
        try:
            yield map(_of_worker, [pool.submit(_result, work) for work in works])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(work: Work) -> Result:
    """The files of a picture, or why it cannot be drawn; unexpected errors are raised."""
    try:
        return work()
    except PrunevizError as error:
        return error


def _of_worker(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        return FigureError(
            "a process that draws was ended from outside, as for lack of memory; draw in one "
            "process with --jobs 1"
        )


def _start_method() -> str:
    """A method that does not copy a process with threads, as plain fork does."""
    known = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in known else "spawn"


def _context() -> BaseContext:
    return multiprocessing.get_context(_start_method())


def _start_worker() -> None:
    """Prepare a worker: Ctrl-C is for the command, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    gc.freeze()  # loaded modules stay, so that collections need not look at them
