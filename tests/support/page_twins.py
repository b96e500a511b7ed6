"""What the page of recordings should show, computed from the recordings in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

import pruneviz as pv
from pruneviz.analysis.masks import mask_scores
from pruneviz.analysis.symmetric_log import linear_threshold
from pruneviz.log.runs import Runs
from tests.support.browser import Box


@dataclass(frozen=True)
class AxisTwin:
    """An axis that holds all finite values of some columns, with a margin of 4 % at either end."""

    columns: Sequence[np.ndarray]
    log: bool = True

    @cached_property
    def threshold(self) -> float:
        """Below it the signed logarithm is linear."""
        return min(linear_threshold(values) for values in self.columns)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest place."""
        values = np.concatenate(list(self.columns))
        places = self.place(values[np.isfinite(values)])
        room = 0.04 * (places.max() - places.min())
        return float(places.min() - room), float(places.max() + room)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Places of values on the axis."""
        if not self.log:
            return values
        return np.sign(values) * np.log10(1 + np.abs(values) / self.threshold)

    def share(self, values: np.ndarray) -> np.ndarray:
        """Places of values from 0, at the low end, to 1."""
        low, high = self.ends
        return (self.place(values) - low) / (high - low)


def values_of(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64, null as NaN."""
    return table[column].to_numpy(dtype="float64", na_value=np.nan)


def points(run: Runs, x: str, y: str, epoch: int, box: Box, log: bool = True) -> pd.DataFrame:
    """The rows of a scatter, with the place of each in the plot in pixels."""
    rows = run.filters[run.filters["epoch"] == epoch]
    axes = [AxisTwin([values_of(rows, name)], log) for name in (x, y)]
    return points_on(run, x, y, epoch, box, axes)


def points_on(
    run: Runs, x: str, y: str, epoch: int, box: Box, axes: Sequence[AxisTwin]
) -> pd.DataFrame:
    """The rows of a scatter on given axes, with the place of each in the plot in pixels."""
    rows = run.filters[run.filters["epoch"] == epoch].reset_index(drop=True)
    left = axes[0].share(values_of(rows, x)) * box.width
    top = (1 - axes[1].share(values_of(rows, y))) * box.height
    found = rows.assign(left=left, top=top, layer=rows["layer"].astype(str))
    return found[np.isfinite(left) & np.isfinite(top)]


def isolated(rows: pd.DataFrame, count: int, distance: float = 3.0) -> pd.DataFrame:
    """The rows whose points lie furthest from all others, at least `distance` pixels."""
    places = rows[["left", "top"]].to_numpy()
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    alone = np.argsort(-apart.min(axis=1), kind="stable")[:count]
    assert apart[alone].min() > distance, f"{count} points do not lie {distance} pixels apart"
    return rows.iloc[alone]


def kept_rows(run: Runs, epoch: int) -> pd.DataFrame:
    """Rows of an epoch that are not pruned."""
    rows = run.filters[run.filters["epoch"] == epoch]
    return rows[~rows["kept"].eq(False).fillna(False).to_numpy(dtype=bool)]


def correlation(run: Runs, x: str, y: str, epoch: int, method: str = "pearson") -> float:
    """Correlation over the rows that are not pruned."""
    rows = kept_rows(run, epoch)
    return float(pv.correlate(rows, x, y, by=["epoch"], method=method, interval=None)["r"].iloc[0])


def pruned(run: Runs, measure: str, epoch: int, ratio: float) -> pd.Series:
    """Rows that a measure prunes at a ratio: True, False, or null without a score."""
    rows = run.filters[run.filters["epoch"] == epoch]
    mask = pv.keep_mask(mask_scores(rows, measure), ratio)
    index = pd.MultiIndex.from_frame(rows[["layer", "filter"]].astype({"layer": str}))
    return pd.Series((~mask).array, index=index)


def layers_of(run: Runs) -> list[str]:
    """Names of the layers, in order of depth."""
    return list(dict.fromkeys(run.filters["layer"].astype(str)))
