"""Run facts as columns, and means over runs with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special  # not scipy.stats, whose import takes half a second

from pruneviz.analysis.checks import check_level
from pruneviz.errors import AnalysisError


def with_facts(table: pd.DataFrame, spec: pd.DataFrame, facts: Sequence[str]) -> pd.DataFrame:
    """Add run facts to a table as columns.

    Args:
        table: Any table with a column `run`.
        spec: One row per run (`runs.spec`).
        facts: Columns of `spec` to add; columns already in `table` stay unchanged.

    Returns:
        `table` with the added columns.

    Raises:
        AnalysisError: If `spec` lacks a run or names one twice.
    """
    by_run = spec.assign(run=spec["run"].astype(str)).set_index("run")
    runs = table["run"].astype(str)
    unknown = sorted(set(runs) - set(by_run.index))
    if unknown or by_run.index.has_duplicates:
        fault = f"lacks {', '.join(unknown)}" if unknown else "names a run twice"
        raise AnalysisError(f"spec {fault}; pass one row per run: the spec of the same load")
    added = {name: runs.map(by_run[name]) for name in facts if name not in table.columns}
    return table.assign(**added)


def mean_over_runs(
    table: pd.DataFrame, by: Sequence[str], value: str, level: float = 0.95
) -> pd.DataFrame:
    """Mean of a column over the runs in each group.

    Args:
        table: One row per run and group. Null values do not count.
        by: Columns to group by.
        value: Column to average.
        level: Confidence level of the interval, between 0 and 1.

    Returns:
        One row per group, sorted: the `by` columns, seeds (number of values), mean, sd (between
        runs), low and high (Student's t interval of the mean), least, most. sd, low and high are
        null for a single value; all but seeds are null for none.

    Raises:
        AnalysisError: If `level` is outside (0, 1).
    """
    check_level(level)
    # Runs of a custom training loop may lack a network or data set; they form a group of their own.
    groups = table.groupby(list(by), observed=True, dropna=False)[value]
    found = groups.agg(seeds="count", mean="mean", sd="std", least="min", most="max")
    freedom = (found["seeds"] - 1).where(found["seeds"] > 1)
    quantile = special.stdtrit(freedom, (1 + level) / 2)  # of Student's t
    half = quantile * found["sd"] / np.sqrt(found["seeds"])
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half).reset_index()
    return found[[*by, "seeds", "mean", "sd", "low", "high", "least", "most"]]
