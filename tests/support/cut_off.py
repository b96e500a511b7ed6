"""Runs that are cut off in the middle, and what of two recordings must be equal afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

import pruneviz as pv


def ignore(epochs: float, note: str) -> None:
    """A progress report for nobody."""


def interrupt(at: float, note: str) -> Callable[[float, str], None]:
    """A progress report that interrupts the run, at an epoch that is just being measured, or just done."""

    def report(epochs: float, now: str) -> None:
        if epochs >= at and now.startswith(note):
            raise KeyboardInterrupt

    return report


def without_times(runs: pv.Runs) -> pd.DataFrame:
    """The epochs table but for how long each epoch took."""
    return runs.epochs.drop(columns="seconds")
