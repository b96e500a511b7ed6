"""Single weights (Appendix H.1 of the paper): which rows of them a log stores, and correlations over all of them.

A network has millions of weights. A log stores a fixed, seeded subset of them; what must hold for all, the correlations
of Figures H1a and H1b, is computed over all while the run is recorded.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.scores import NEEDS, SCORES, score
from pruneviz.log.vocabulary import CorrelationMethod

PAIRS = (("theta_g", "theta_hg"), ("theta_change", "loss_preservation"))  # Figures H1a and H1b
METHODS: tuple[CorrelationMethod, ...] = ("pearson", "spearman")


def weight_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """The correlations of `PAIRS` over all weights of a table that are not pruned, by each of `METHODS`, in float64.

    Args: `table`, one row per weight of a network at one epoch, with `kept` and the columns that there are.
    Returns: one row per pair and method: x, y, method, n (weights that have both), r. r is null where a column is absent, as changes
    are at the first epoch, and where one is constant.
    Source: Lubana and Dick, ICLR 2021, Figures 2 and 3, Appendix H.1.
    """
    found = [
        (x, y, method, *_correlation(pair, method))
        for x, y in PAIRS
        for pair in [_pair(table, x, y)]
        for method in METHODS
    ]
    return pd.DataFrame(found, columns=["x", "y", "method", "n", "r"])


def _pair(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    pair = pd.DataFrame({"x": _quantity(table, x), "y": _quantity(table, y)}, copy=False)
    return pair[table["kept"].to_numpy() & pair.notna().all(axis=1).to_numpy()]


def _quantity(table: pd.DataFrame, name: str) -> np.ndarray:
    if name in table.columns:
        return table[name].to_numpy(dtype="float64")
    if name in SCORES and set(NEEDS[name]) <= set(table.columns):
        return score(table, name).to_numpy()
    return np.full(len(table), np.nan)


def _correlation(pair: pd.DataFrame, method: CorrelationMethod) -> tuple[int, float]:
    found = correlate(pair, "x", "y", by=[], method=method)
    return (int(found["n"].iloc[0]), float(found["r"].iloc[0])) if len(found) else (0, float("nan"))
