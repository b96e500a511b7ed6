"""Pieces and what workers do with them, in a module that other processes can import."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pruneviz.errors import LogError


@dataclass(frozen=True)
class Step:
    """A piece of a few rows."""

    number: int
    rows: int = 1

    @property
    def name(self) -> str:
        return f"run r, epoch {self.number}"


def square(step: Step) -> int:
    return step.number**2


def slow_at_first(step: Step) -> int:
    time.sleep(0.05 if step.number == 0 else 0)
    return step.number


def damaged_at_three(step: Step) -> int:
    if step.number == 3:
        raise LogError("its file is corrupt; restore it")
    return step.number


def divides_at_three(step: Step) -> float:
    return 1 / (step.number - 3)


def missing_at_three(step: Step) -> int:
    if step.number == 3:
        try:
            Path("/no/such/file").stat()
        except FileNotFoundError:
            raise LogError("/no/such/file is missing; restore it") from None
    return step.number


def dies_at_three(step: Step) -> int:
    if step.number == 3:
        os._exit(9)
    return step.number


def peak_bytes() -> int:
    """Most memory of this process since it began; `getrusage` counts what it was forked from."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
