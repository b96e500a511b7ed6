"""Worker processes: how many there may be, and their end with the command that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


def cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(at_once: int) -> int:
    """CPU threads for each of several processes: the cores, shared evenly, at least one.

    No more than the person allows in the environment variable OMP_NUM_THREADS, as torch does.
    """
    shared = max(1, cores() // at_once)
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    try:
        allowed = int(first)
    except ValueError:  # not set, or no number
        return shared
    return min(shared, allowed) if allowed > 0 else shared


def end_with_parent() -> None:
    """End this process as soon as its parent has ended.

    Call it only in processes that may end at any moment, because they write whole files.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_the_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


@contextmanager
def ended_on_interrupt(pool: ProcessPoolExecutor) -> Iterator[None]:
    """On Ctrl-C end running workers and start no others; the pool alone would wait for all."""
    before = multiprocessing.active_children()
    try:
        yield
    except KeyboardInterrupt:
        for worker in set(multiprocessing.active_children()) - set(before):
            worker.terminate()  # safe at any moment, see end_with_parent
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def started_by_torchrun() -> bool:
    """Whether `torchrun` has started this process as one of several."""
    return processes_started() > 1 and "TORCHELASTIC_RUN_ID" in os.environ


def processes_started() -> int:
    """Number of processes that a launcher such as `torchrun` has started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    """Whether this process is the first of those that a launcher has started together."""
    return os.environ.get("RANK", "0") == "0"
