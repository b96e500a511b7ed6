"""Correlations between all pruning measures, for each group in a log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import as_names
from pruneviz.analysis.coefficients import coefficients
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.measures import AnyMeasure, names, resolve
from pruneviz.analysis.pairs import grouped, values_of
from pruneviz.analysis.run_facts import facts_known, table_of
from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import as_tuple
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod

# The same ranking as loss_preservation, a control, and a measure of all weights, which logs rarely
# hold.
_LEFT_OUT = ("snip", "random", "lamp")


def recorded_measures(filters: Runs | pd.DataFrame) -> list[str]:
    """Names of the pruning measures that runs or a filters table can supply.

    Args:
        filters: Runs, of which no rows are read; or a filters table.

    Returns:
        Measures, also registered ones, whose columns there are with values. Leaves out `random`,
        `lamp` and `snip`, which equals `loss_preservation` by definition.

    Example:
        >>> pv.recorded_measures(pv.load("data/cifar-mini"))
    """
    if isinstance(filters, Runs):
        known = {*filters.recorded("filters"), *facts_known(filters.spec)}
    else:
        known = {str(name) for name, values in filters.items() if values.notna().any()}
    held = [measure for measure in map(resolve, names()) if set(measure.needs or ()) <= known]
    return [measure.name for measure in held if measure.name not in _LEFT_OUT]


def correlation_matrix(
    filters: Runs | pd.DataFrame,
    measures: AnyMeasure | Sequence[AnyMeasure] | None = None,
    by: str | Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "spearman",
) -> pd.DataFrame:
    """Correlate every pruning measure with every other over the filters of each group.

    Args:
        filters: Runs, or a filters table.
        measures: Columns, or pruning measures as for `pruneviz.score`. Default:
            `recorded_measures(filters)`.
        by: Columns to group by.
        method: "pearson", "spearman", "kendall" or "symlog", as for `pruneviz.correlate`.

    Returns:
        One row per group and ordered pair: the `by` columns, x, y, n (number of filters), r. A
        measure's r with itself is 1. Pairs without values in a group have no row there.

    Raises:
        AnalysisError: If there are fewer than two measures; as for `pruneviz.correlate`.
        ScoreError: If the table lacks a column that a measure needs.

    Example:
        >>> found = pv.correlation_matrix(runs, by=["epoch"])
        >>> found[found["epoch"] == 16].pivot(index="x", columns="y", values="r")
    """
    by = as_names(by)
    asked = recorded_measures(filters) if measures is None else as_tuple(measures)
    chosen = list(dict.fromkeys(asked))
    labels = [what if isinstance(what, str) else resolve(what).name for what in chosen]
    _check_labels(labels)
    table = table_of(filters, chosen, by)
    values = {label: values_of(table, what) for label, what in zip(labels, chosen, strict=True)}
    known = table.assign(**values)
    correlate(known.head(0), labels[0], labels[1], by=by, method=method, interval=None)  # errors
    keys, rows, starts = grouped(known[by])  # once, not for every pair
    groups = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
    ordered = {label: column[rows] for label, column in values.items()}
    parts = [
        _of_pair(keys, groups, ordered[x], ordered[y], method).assign(x=x, y=y)
        for x, y in combinations_with_replacement(labels, 2)
    ]
    upper = pd.concat(parts, ignore_index=True)
    lower = upper[upper["x"] != upper["y"]].rename(columns={"x": "y", "y": "x"})
    both = pd.concat([upper, lower], ignore_index=True)
    return _in_order(both, by, labels)[[*by, "x", "y", "n", "r"]]


def _of_pair(
    keys: pd.DataFrame, groups: np.ndarray, x: np.ndarray, y: np.ndarray, method: CorrelationMethod
) -> pd.DataFrame:
    """n and r of every group that has complete pairs, as `correlate` finds them."""
    complete = ~(np.isnan(x) | np.isnan(y))
    own = groups[complete]
    starts = np.flatnonzero(np.diff(own, prepend=-1))
    r, _ = coefficients(x[complete], y[complete], starts, method)
    found = keys.iloc[own[starts]].reset_index(drop=True)
    return found.assign(n=np.diff(starts, append=len(own)), r=r)


def _check_labels(labels: list[str]) -> None:
    if len(labels) < 2:
        raise AnalysisError(
            f"a matrix needs two measures, this has [{', '.join(labels)}]; name more measures, or "
            "record the columns that need derivatives"
        )
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise AnalysisError(
            f"two measures are called {twice[0]}; give the functions different names, or register "
            "them with pruneviz.measures.register"
        )


def _in_order(table: pd.DataFrame, by: list[str], names: list[str]) -> pd.DataFrame:
    """Sort by group, then by x and y in the order of `names`."""
    places = {name: place for place, name in enumerate(names)}

    def key(column: pd.Series) -> pd.Series:
        return column.map(places) if column.name in ("x", "y") else column

    return table.sort_values([*by, "x", "y"], key=key, ignore_index=True)
