"""Runs side by side: how many a machine takes, on which device, and that none outlives the command that started it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from enum import StrEnum

from pruneviz.errors import PrunevizError


class Device(StrEnum):
    """Where to compute; `auto` is a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def device_at_hand(device: Device) -> str:
    """The device asked for as torch calls it, "cpu" or "cuda"; `PrunevizError` for a GPU that there is not."""
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise PrunevizError("there is no CUDA GPU on this machine; use --device cpu")
    return (
        "cuda"
        if device is Device.cuda or (device is Device.auto and torch.cuda.is_available())
        else "cpu"
    )


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runs_at_once(device: str) -> int:
    """How many runs go side by side if nobody says: one a core on a CPU, one on a GPU."""
    return 1 if device == "cuda" else cores()


def end_with_parent() -> None:
    """Let this process end as soon as the one that started it has ended, however that came: else it would go on, unseen."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_the_end() -> None:
        parent.join()
        os._exit(
            1
        )  # at any moment: whole files or none are on disk, so every run goes on from its last checkpoint

    threading.Thread(target=wait_for_the_end, daemon=True).start()


@contextmanager
def ended_on_interrupt(pool: ProcessPoolExecutor) -> Iterator[None]:
    """On Ctrl-C end the runs that are under way and start no more, where the pool alone would do all that wait."""
    before = multiprocessing.active_children()
    try:
        yield
    except KeyboardInterrupt:
        for worker in set(multiprocessing.active_children()) - set(before):
            worker.terminate()  # whole files or none are on disk, so every run goes on from its last checkpoint
        pool.shutdown(wait=False, cancel_futures=True)
        raise
