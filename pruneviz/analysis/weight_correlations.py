"""Correlations over all single weights of a network (the paper's Appendix H.1).

A log stores only a fixed, seeded subset of a network's millions of weights. Figures H1a and H1b
show correlations over all of them, so these are computed while a run is recorded.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.scores import NEEDS, SCORES, score
from pruneviz.log.vocabulary import CorrelationMethod

PAIRS = (("theta_g", "theta_hg"), ("theta_change", "loss_preservation"))  # Figures H1a and H1b
METHODS: tuple[CorrelationMethod, ...] = ("pearson", "spearman", "symlog")


def weight_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Correlate every pair in `PAIRS` by every method in `METHODS`, in float64.

    Args:
        table: One row per weight of a network at one epoch, with `kept`. Pruned weights do not
            count.

    Returns:
        One row per pair and method: x, y, method, n (weights that have both), n_eff (see
        `pruneviz.correlate`), r, low and high (by resampling layers). r is null if a column is
        absent, as changes are at the first epoch, or constant.

    References:
        Lubana and Dick, ICLR 2021, Figures 2 and 3, Appendix H.1.
    """
    found = []
    for x, y in PAIRS:
        pair = _kept_pair(table, x, y)
        found += [(x, y, method, *_correlation(pair, method)) for method in METHODS]
    return pd.DataFrame(found, columns=["x", "y", "method", "n", "n_eff", "r", "low", "high"])


def _kept_pair(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    values = {"x": _values_or_nulls(table, x), "y": _values_or_nulls(table, y)}
    pair = pd.DataFrame({"layer": table["layer"].to_numpy(), **values}, copy=False)
    return pair[table["kept"].to_numpy() & pair.notna().all(axis=1).to_numpy()]


def _values_or_nulls(table: pd.DataFrame, name: str) -> np.ndarray:
    if name in table.columns:
        return table[name].to_numpy(dtype="float64")
    if name in SCORES and set(NEEDS[name]) <= set(table.columns):
        return score(table, name).to_numpy()
    return np.full(len(table), np.nan)


def _correlation(pair: pd.DataFrame, method: CorrelationMethod) -> tuple[float, ...]:
    found = correlate(pair, "x", "y", by=[], method=method)
    if found.empty:
        return (0, *[float("nan")] * 4)
    return tuple(found.iloc[0])
