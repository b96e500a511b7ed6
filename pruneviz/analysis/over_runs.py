"""Runs as the unit of repetition: facts of a run beside its rows, and means over runs with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from pruneviz.errors import AnalysisError


def with_facts(table: pd.DataFrame, spec: pd.DataFrame, facts: Sequence[str]) -> pd.DataFrame:
    """A table that has a column `run`, with those of `facts` that it lacks taken from the run's row of `spec`.

    Errors: `AnalysisError` for runs that `spec` lacks or names twice.
    """
    by_run = spec.assign(run=spec["run"].astype(str)).set_index("run")
    runs = table["run"].astype(str)
    unknown = sorted(set(runs) - set(by_run.index))
    if unknown or by_run.index.has_duplicates:
        what = f"lacks {', '.join(unknown)}" if unknown else "names a run twice"
        raise AnalysisError(
            f"spec {what}; pass one row per run, such as the spec that the same load gave"
        )
    return table.assign(
        **{name: runs.map(by_run[name]) for name in facts if name not in table.columns}
    )


def mean_over_runs(
    table: pd.DataFrame, by: Sequence[str], value: str, level: float = 0.95
) -> pd.DataFrame:
    """Mean of a column over the rows of each group, one row being one run; absent values do not count.

    Returns: one row per group, sorted: the columns of `by`, seeds (values averaged), mean, sd (between runs), low and high (Student's t
    interval of the mean), least, most. sd, low and high are null for one value, all but seeds for none.
    Errors: `AnalysisError` for a level outside (0, 1).
    """
    check_level(level)
    # Runs of a person's own loop may have no network or data set; they are a group, not nothing.
    groups = table.groupby(list(by), observed=True, dropna=False)[value]
    found = groups.agg(seeds="count", mean="mean", sd="std", least="min", most="max")
    half = stats.t.ppf((1 + level) / 2, found["seeds"] - 1) * found["sd"] / np.sqrt(found["seeds"])
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half).reset_index()
    return found[[*by, "seeds", "mean", "sd", "low", "high", "least", "most"]]


def check_level(level: float) -> None:
    """Raise `AnalysisError` where a confidence is not between 0 and 1."""
    if not 0 < level < 1:
        raise AnalysisError(f"level={level!r}; give a confidence between 0 and 1, such as 0.95")
