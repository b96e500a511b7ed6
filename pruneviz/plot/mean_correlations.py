"""Correlations of single runs, averaged over seeds for each network and data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pruneviz.analysis.correlation import correlate, over_seeds
from pruneviz.log.vocabulary import CorrelationMethod

KEYS = ["network", "dataset", "epoch"]


def correlations_of_rows(
    filters: pd.DataFrame, spec: pd.DataFrame, x: str, y: str, methods: Sequence[CorrelationMethod]
) -> pd.DataFrame:
    """Correlate two columns over the filters of each run and epoch, and average over runs.

    Args:
        filters: Rows of the filters table.
        spec: Facts about the runs in `filters`.
        x: A column or pruning measure.
        y: Another column or pruning measure.
        methods: Correlation coefficients.

    Returns:
        The columns of `mean_correlations`.
    """
    by_method = {
        method: correlate(filters, x, y, by=["run", "epoch"], method=method) for method in methods
    }
    return mean_correlations(by_method, spec)


def mean_correlations(
    correlations: Mapping[CorrelationMethod, pd.DataFrame],
    spec: pd.DataFrame,
    counted: str = "filters",
) -> pd.DataFrame:
    """Average the correlations of single runs over seeds.

    Args:
        correlations: For each coefficient, its values by run and epoch: run, epoch, n, r, low,
            high.
        spec: Run facts.
        counted: Name of the column for the number of correlated rows.

    Returns:
        One row per network, data set and epoch: `seeds` (runs averaged), the column `counted`
        (fewest rows correlated in a run) and, for each coefficient, its mean, its standard
        deviation over seeds (`_sd`) and its 95 % interval (`_low`, `_high`): the interval of the
        mean over seeds or, with a single seed, of the run over its rows.
    """
    parts = [_of_method(found, spec, method, counted) for method, found in correlations.items()]
    first, *others = parts
    beside = [part.drop(columns=["seeds", counted]) for part in others]
    return pd.concat([first, *beside], axis="columns").reset_index()


def _of_method(
    correlations: pd.DataFrame, spec: pd.DataFrame, method: CorrelationMethod, counted: str
) -> pd.DataFrame:
    correlations = correlations.astype({"run": "str"})
    mean = over_seeds(correlations, spec, by=KEYS).set_index(KEYS)
    facts = spec[["run", "network", "dataset"]]
    within = correlations.merge(facts, on="run").groupby(KEYS, observed=True)
    columns = {
        "seeds": mean["seeds"],
        counted: within["n"].min(),
        method: mean["r"],
        f"{method}_sd": mean["sd"],
    }
    for end in ("low", "high"):
        columns[f"{method}_{end}"] = mean[end].where(mean["seeds"] > 1, within[end].first())
    return pd.DataFrame(columns)
