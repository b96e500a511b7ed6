"""Freed memory is kept while something is measured, and given back when the last measurement has ended."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import MeasureError
from pruneviz.experiment import freed_memory
from pruneviz.experiment.freed_memory import freed_memory_kept

KEEP, USUAL = [(-1, -1), (-4, 0)], [(-3, 32 * 1024**2), (-1, 64 * 1024**2), (-4, 65536), "trim"]


class Library:
    """In the place of the C library; notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked.append((parameter, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.asked.append("trim")
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library()
    monkeypatch.setattr(freed_memory, "_glibc", lambda: found)
    yield found


def test_only_the_outermost_context_changes_anything(library: Library) -> None:
    with freed_memory_kept():
        with freed_memory_kept():
            assert library.asked == KEEP
        assert library.asked == KEEP
    assert library.asked == [*KEEP, *USUAL]


def test_a_measurement_that_fails_gives_it_back_too(library: Library) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(MeasureError):
        pv.measure(model, (torch.full((2, 1, 4, 4), float("nan")), torch.tensor([0, 1])))
    assert library.asked == [*KEEP, *USUAL]


def told(program: str, **environment: str) -> str:
    """What a program in a process of its own prints."""
    settings = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_who_chooses_how_memory_is_allocated_keeps_that() -> None:
    program = "from pruneviz.experiment.freed_memory import _glibc; print(_glibc() is None)"
    assert told(program, MALLOC_TRIM_THRESHOLD_="1000000") == "True"
    assert told(program, GLIBC_TUNABLES="glibc.malloc.trim_threshold=1000000") == "True"


@pytest.mark.skipif(
    freed_memory._glibc() is None,
    reason="needs glibc, and an environment that does not choose how it allocates",
)
def test_what_was_freed_is_not_asked_for_anew() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            blocks = [torch.ones(5 * 1024**2) for _ in range(5)]
            del blocks
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    usual = faults()
    with freed_memory_kept():
        kept = faults()
    assert kept < usual / 3
