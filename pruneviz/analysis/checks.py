"""Checks of arguments and tables that several analyses share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import as_tuple, is_number, is_whole


def as_names(by: str | Sequence[str]) -> list[str]:
    """Column names as a list; a single name counts as a list of one."""
    return list(as_tuple(by))


def columns_of(table: pd.DataFrame) -> list[str]:
    """Column names of a table, as text."""
    return [str(name) for name in table.columns]


def require_columns(table: pd.DataFrame, needed: Sequence[str], what: str, repair: str) -> None:
    """Check that a table has some columns.

    Raises:
        AnalysisError: If columns are missing; names them, the existing ones and the repair.
    """
    missing = [name for name in needed if name not in table.columns]
    if missing:
        has = ", ".join(columns_of(table))
        raise AnalysisError(f"{what} has no column {', '.join(missing)}; it has [{has}]; {repair}")


def check_level(level: float) -> None:
    """Check that a confidence level lies between 0 and 1.

    Raises:
        AnalysisError: If it does not.
    """
    if not (is_number(level) and 0 < level < 1):
        raise AnalysisError(f"level={level!r}; give a confidence between 0 and 1, such as 0.95")


def check_draws(resamples: int, seed: int) -> None:
    """Check the number of random draws and their seed.

    Raises:
        AnalysisError: If resamples is not a whole number from 1 on, or seed not one from 0 on.
    """
    if not (is_whole(resamples) and resamples >= 1):
        raise AnalysisError(f"resamples={resamples!r}; give a whole number of draws, such as 999")
    if not (is_whole(seed) and seed >= 0):
        raise AnalysisError(f"seed={seed!r}; give a whole number from 0 on, such as 0")
