"""The pairs of two quantities that a correlation is taken over: complete, and group after group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.scores import SCORES, columns_read, score
from pruneviz.errors import AnalysisError
from pruneviz.log.scan import Scan


@dataclass(frozen=True)
class Pairs:
    """`keys`: the groups that have pairs, sorted; `x`, `y`: their pairs, group after group; `starts`: where those of a group begin."""

    keys: pd.DataFrame
    x: np.ndarray
    y: np.ndarray
    starts: np.ndarray

    @property
    def n(self) -> np.ndarray:
        """Pairs in each group."""
        return np.diff(self.starts, append=len(self.x))


def complete_pairs(filters: pd.DataFrame, x: str, y: str, by: list[str]) -> Pairs:
    """The pairs of a table in which neither x nor y, columns or measures, is null.

    Errors: `AnalysisError` for an unknown x or y and for one that is no number; `ScoreError` for a measure whose columns are missing.
    """
    xs, ys = _quantity(filters, x), _quantity(filters, y)
    complete = ~(np.isnan(xs) | np.isnan(ys))
    xs, ys = xs[complete], ys[complete]
    keys, rows, starts = grouped(filters.loc[complete, by])
    return Pairs(keys, xs[rows], ys[rows], starts)


def pairs_by_block(filters: Scan, x: str, y: str, by: list[str]) -> Iterator[Pairs]:
    """The complete pairs of every block of a scan that has any."""
    columns = [
        *by,
        *(
            column
            for name in (x, y)
            for column in ([name] if name in filters.columns else columns_read(name))
        ),
    ]
    for block in filters.blocks(columns):
        pairs = complete_pairs(block, x, y, by)
        if len(pairs.keys):
            yield pairs


def grouped(keys: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The distinct rows of `keys`, sorted and renumbered, the positions of the rows of all, and where in these those of each begin."""
    by = list(keys.columns)
    group = (
        keys.groupby(by, observed=True).ngroup().to_numpy()
        if by
        else np.zeros(len(keys), dtype="int64")
    )
    rows = np.argsort(group, kind="stable")
    rows = rows[group[rows] >= 0]  # a null key belongs to no group
    starts = np.flatnonzero(np.diff(group[rows], prepend=-1))
    return keys.iloc[rows[starts]].reset_index(drop=True), rows, starts


def _quantity(filters: pd.DataFrame, name: str) -> np.ndarray:
    """The float64 values of a column or measure, NaN for null."""
    if name in filters.columns:
        column = filters[name]
        if not pd.api.types.is_numeric_dtype(column):
            raise AnalysisError(
                f"column {name!r} holds {column.dtype}, not numbers; correlate two numeric columns or measures"
            )
        return column.to_numpy(dtype="float64", na_value=np.nan)
    if name in SCORES:
        return score(filters, name).to_numpy(dtype="float64", na_value=np.nan)
    had = ", ".join(map(str, filters.columns))
    raise AnalysisError(
        f"no column or measure {name!r}; the table has [{had}], and the measures are {', '.join(SCORES)}"
    )
