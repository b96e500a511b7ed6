"""Run facts as columns, and means over runs with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special  # not scipy.stats, whose import takes half a second

from pruneviz.analysis.checks import check_level
from pruneviz.errors import AnalysisError

_ROUNDING = 1e-12  # of the distance of two bounds: nearer to one, a value has no logit to speak of


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
    table: pd.DataFrame,
    by: Sequence[str],
    value: str,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Mean of a column over the runs in each group.

    Values within bounds get an interval within them: Student's t of their logit between the bounds
    (atanh, for -1 and 1), transformed back. A value on a bound itself, up to rounding, has no
    logit; then the interval is that of the plain mean, cut at the bounds.

    Args:
        table: One row per run and group. Null values do not count.
        by: Columns to group by.
        value: Column to average.
        level: Confidence level of the interval, between 0 and 1.
        bounds: Least and greatest possible value, if there are such.

    Returns:
        One row per group, sorted: the `by` columns, seeds (number of values), mean, sd (between
        runs), low and high (Student's t interval over runs), least, most. sd, low and high are
        null for a single value; all but seeds are null for none.

    Raises:
        AnalysisError: If `level` is outside (0, 1).
    """
    check_level(level)
    # Runs of a custom training loop may lack a network or data set; they form a group of their own.
    groups = table.groupby(list(by), observed=True, dropna=False)[value]
    found = groups.agg(seeds="count", mean="mean", sd="std", least="min", most="max")
    low, high = _student(found, level)
    if bounds is not None:
        margin = _ROUNDING * (bounds[1] - bounds[0])
        inside = (found["least"] > bounds[0] + margin) & (found["most"] < bounds[1] - margin)
        low_inside, high_inside = _student_of_logit(table, by, value, level, bounds)
        low = low_inside.where(inside, low.clip(*bounds))
        high = high_inside.where(inside, high.clip(*bounds))
    found = found.assign(low=low, high=high).reset_index()
    return found[[*by, "seeds", "mean", "sd", "low", "high", "least", "most"]]


def _student(found: Any, level: float) -> tuple[pd.Series, pd.Series]:
    """Student's t interval from seeds, mean and sd."""
    freedom = (found["seeds"] - 1).where(found["seeds"] > 1)
    half = special.stdtrit(freedom, (1 + level) / 2) * found["sd"] / np.sqrt(found["seeds"])
    return found["mean"] - half, found["mean"] + half


def _student_of_logit(
    table: pd.DataFrame,
    by: Sequence[str],
    value: str,
    level: float,
    bounds: tuple[float, float],
) -> tuple[pd.Series, pd.Series]:
    """Student's t interval of the logit between two bounds, transformed back."""
    least, width = bounds[0], bounds[1] - bounds[0]
    logits = special.logit((table[value].astype("float64") - least) / width)
    groups = table.assign(**{value: logits}).groupby(list(by), observed=True, dropna=False)[value]
    with np.errstate(invalid="ignore"):  # infinite logits, whose interval is not used
        found = groups.agg(seeds="count", mean="mean", sd="std")
    low, high = (special.expit(end) * width + least for end in _student(found, level))
    return low, high
