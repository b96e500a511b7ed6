"""Correlations of single runs, averaged over the runs of one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pruneviz.analysis.correlation import correlate, over_seeds
from pruneviz.log.vocabulary import CorrelationMethod


def correlations_of_rows(
    filters: pd.DataFrame,
    spec: pd.DataFrame,
    x: str,
    y: str,
    methods: Sequence[CorrelationMethod],
    counted: str = "filters",
    by: Sequence[str] = ("epoch",),
) -> pd.DataFrame:
    """Correlate two columns over the rows of each run and group, and average over runs.

    Args:
        filters: Rows of the filters table.
        spec: Facts about the runs in `filters`, all of one setting.
        x: A column or pruning measure.
        y: Another column or pruning measure.
        methods: Correlation coefficients.
        counted: Name of the column for the number of correlated rows.
        by: Columns to group by.

    Returns:
        The columns of `mean_correlations`.
    """
    groups = ["run", *by]
    by_method = {method: _correlations(filters, x, y, groups, method) for method in methods}
    return mean_correlations(by_method, spec, counted, by)


def _correlations(
    filters: pd.DataFrame, x: str, y: str, groups: list[str], method: CorrelationMethod
) -> pd.DataFrame:
    """Correlations of every run, with intervals of those that are alone in a group.

    Several runs give an interval over seeds, so theirs would be resampled for nothing.
    """
    if len(filters["run"].unique()) == 1:
        return correlate(filters, x, y, by=groups, method=method)
    found = correlate(filters, x, y, by=groups, method=method, interval=None)
    known = found.dropna(subset=["r"])
    alone = known[~known.duplicated(groups[1:], keep=False)]
    if alone.empty:
        return found
    runs = filters["run"].isin(alone["run"])
    own = correlate(filters[runs], x, y, by=groups, method=method)
    own = own.astype({"run": found["run"].dtype})
    ends = found[groups].merge(own[[*groups, "low", "high"]], on=groups, how="left")
    return found.assign(low=ends["low"].to_numpy(), high=ends["high"].to_numpy())


def mean_correlations(
    correlations: Mapping[CorrelationMethod, pd.DataFrame],
    spec: pd.DataFrame,
    counted: str = "filters",
    by: Sequence[str] = ("epoch",),
) -> pd.DataFrame:
    """Average the correlations of single runs over seeds.

    Args:
        correlations: For each coefficient, its values by run and group: run, the columns `by`, n,
            n_eff, r, low, high.
        spec: Facts about the runs, all of one setting.
        counted: Name of the column for the number of correlated rows.
        by: Columns to group by.

    Returns:
        One row per group: the columns `by`, `seeds` (runs averaged), the column `counted` (fewest
        rows correlated in a run), for each coefficient its mean, its standard deviation over seeds
        (`_sd`) and its 95 % interval (`_low`, `_high`): the interval of the mean over seeds or,
        with a single seed, of the run over its layers; and `pearson_n_eff` (fewest over seeds), if
        Pearson's coefficient is among them.
    """
    parts = [
        _of_method(found, spec, method, counted, list(by)) for method, found in correlations.items()
    ]
    first, *others = parts
    beside = [part.drop(columns=["seeds", counted]) for part in others]
    table = pd.concat([first, *beside], axis="columns")
    if "pearson" in correlations:
        groups = correlations["pearson"].groupby(list(by), observed=True)
        table = table.assign(pearson_n_eff=groups["n_eff"].min())
    return table.reset_index()


def _of_method(
    correlations: pd.DataFrame, spec: pd.DataFrame, method: str, counted: str, by: list[str]
) -> pd.DataFrame:
    correlations = correlations.astype({"run": "str"})
    mean = over_seeds(correlations, spec, by=by).set_index(by)
    within = correlations.groupby(by, observed=True)
    columns = {
        "seeds": mean["seeds"],
        counted: within["n"].min(),
        method: mean["r"],
        f"{method}_sd": mean["sd"],
    }
    for end in ("low", "high"):
        columns[f"{method}_{end}"] = mean[end].where(mean["seeds"] > 1, within[end].first())
    return pd.DataFrame(columns)
