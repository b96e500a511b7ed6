"""Correlations of two quantities over the filters, averaged over seeds, as the columns of a figure's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pruneviz.analysis.correlation import correlate, over_seeds
from pruneviz.figures.options import Method

KEYS = ["network", "dataset", "epoch"]


def agreement(filters: pd.DataFrame, spec: pd.DataFrame, x: str, y: str, methods: Sequence[Method]) -> pd.DataFrame:
    """Correlations of columns `x` and `y` over the filters of each run and epoch, averaged over the runs of each network.

    Returns: the columns of `averaged`.
    """
    return averaged({method: correlate(filters, x, y, by=["run", "epoch"], method=method) for method in methods}, spec)


def averaged(correlations: Mapping[Method, pd.DataFrame], spec: pd.DataFrame, counted: str = "filters") -> pd.DataFrame:
    """Correlations of each run and epoch (run, epoch, n, r, low, high), by coefficient, averaged over the runs of each network.

    Returns one row per network, data set and epoch: `seeds` (runs averaged), the column `counted` (fewest filters, or weights,
    correlated in a run) and, for each coefficient, its mean, its standard deviation over seeds (`_sd`) and its 95 % interval (`_low`,
    `_high`): that of the mean over seeds or, where there is one seed and so no spread over seeds, that of the run over its filters.
    """
    parts = [_of_method(found, spec, method, counted) for method, found in correlations.items()]
    return pd.concat([parts[0], *(part.drop(columns=["seeds", counted]) for part in parts[1:])], axis="columns").reset_index()


def _of_method(correlations: pd.DataFrame, spec: pd.DataFrame, method: Method, counted: str) -> pd.DataFrame:
    correlations = correlations.astype({"run": "str"})
    mean = over_seeds(correlations, spec, by=KEYS).set_index(KEYS)
    within = correlations.merge(spec[["run", "network", "dataset"]], on="run").groupby(KEYS, observed=True)
    columns = {"seeds": mean["seeds"], counted: within["n"].min(), method: mean["r"], f"{method}_sd": mean["sd"]}
    ends = {f"{method}_{end}": mean[end].where(mean["seeds"] > 1, within[end].first()) for end in ("low", "high")}
    return pd.DataFrame({**columns, **ends})
