"""Many snapshots and many runs in one process leave nothing behind: objects, memory, handles.

`make soak` takes 2,000 snapshots and records 1,000 runs, the ordinary tests a small part of each.
"""

from __future__ import annotations

import gc
import logging
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

import pruneviz as pv

_MEMORY = 8e6  # bytes by which an allocator may move without a leak
_OBJECTS = 50  # caches of Python and of libraries fill up by chance


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    objects: int
    memory: int
    handles: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        """Count it, after a garbage collection."""
        gc.collect()
        process = psutil.Process()
        files = process.num_fds() if sys.platform != "win32" else process.num_handles()
        return cls(
            len(gc.get_objects()), process.memory_info().rss, files, threading.active_count()
        )


def grown(work: Callable[[int], object], before: int, times: int) -> Held:
    """By how much this process grows while it works some times, after it has worked before."""
    for number in range(before):
        work(number)
    first = Held.now()
    for number in range(before, before + times):
        work(number)
    last = Held.now()
    return Held(*(getattr(last, name) - getattr(first, name) for name in vars(first)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


SAMPLE = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


@pytest.fixture(autouse=True)
def no_log_records(caplog: pytest.LogCaptureFixture) -> None:
    """Records that pytest keeps would count."""
    caplog.set_level(logging.ERROR, "pruneviz")


def check_snapshots(times: int) -> None:
    model = network()
    found = grown(lambda number: pv.measure(model, SAMPLE), 10, times)
    assert found.objects <= _OBJECTS and found.handles <= 0 and found.threads <= 0, found
    assert found.memory < _MEMORY, found


def check_runs(times: int, folder: Path) -> None:
    def recorded(number: int) -> None:
        model, out = network(), folder / "run"
        if number % 3 == 0:  # one that stops with an error, and goes on
            with pytest.raises(ZeroDivisionError), pv.Recorder(model, SAMPLE, out) as recorder:
                recorder.after_epoch(0)
                raise ZeroDivisionError
        with pv.Recorder(model, SAMPLE, out, resume="auto") as recorder:
            recorder.after_epoch(0 if recorder.last_epoch is None else recorder.last_epoch + 1)
        assert len(pv.load(out).filters)
        shutil.rmtree(out)

    found = grown(recorded, 10, times)
    assert found.objects <= _OBJECTS and found.handles <= 0 and found.threads <= 0, found
    assert found.memory < _MEMORY, found


def test_snapshots_leave_nothing_behind() -> None:
    check_snapshots(20)


def test_runs_leave_nothing_behind(tmp_path: Path) -> None:
    check_runs(10, tmp_path)


@pytest.mark.soak
def test_2000_snapshots_leave_nothing_behind() -> None:
    check_snapshots(2000)


@pytest.mark.soak
def test_1000_runs_leave_nothing_behind(tmp_path: Path) -> None:
    check_runs(1000, tmp_path)
