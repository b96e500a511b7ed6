"""Runs that are interrupted, and the parts of two recordings that must be equal afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

import pruneviz as pv


def ignore(epochs: float, note: str) -> None:
    """Progress report that does nothing."""


def interrupt(at: float, note: str) -> Callable[[float, str], None]:
    """Progress report that interrupts the run at an epoch, once its note begins with `note`."""

    def report(epochs: float, now: str) -> None:
        if epochs >= at and now.startswith(note):
            raise KeyboardInterrupt

    return report


def without_times(runs: pv.Runs) -> pd.DataFrame:
    """The epochs table without the duration of each epoch."""
    return runs.epochs.drop(columns="seconds")
