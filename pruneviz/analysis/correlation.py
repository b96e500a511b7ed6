"""Correlation of two quantities over the filters of each group of a log, with intervals, and its mean over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from pruneviz.analysis.coefficients import (
    COEFFICIENTS,
    Interval,
    bootstrap_intervals,
    coefficients,
    fisher_intervals,
)
from pruneviz.analysis.moments import pearson
from pruneviz.analysis.over_runs import check_level, mean_over_runs, with_facts
from pruneviz.analysis.pairs import Pairs, complete_pairs
from pruneviz.analysis.pairs_on_disk import moments_on_disk, pairs_at_once
from pruneviz.errors import AnalysisError
from pruneviz.log.scan import Scan
from pruneviz.log.schema import RunSpec
from pruneviz.log.vocabulary import CorrelationMethod


@dataclass(frozen=True)
class _How:
    """The options of `correlate` that say what is computed of the pairs of a group."""

    method: CorrelationMethod
    level: float
    interval: Interval
    resamples: int
    seed: int


def correlate(
    filters: pd.DataFrame | Scan,
    x: str,
    y: str,
    by: Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "pearson",
    level: float = 0.95,
    interval: Interval = "fisher",
    *,
    resamples: int = 999,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlation of two quantities over the filters of every group, with a confidence interval.

    Args:
        filters: a filters table, or a `Scan` of such tables on disk; every row counts in which x and y are not null, those of pruned
            filters (`kept` false) too.
        x, y: names of columns, or of measures in `pruneviz.analysis.scores.SCORES`; where both exist the column is meant.
        by: the columns that make the groups, such as ["run", "epoch", "layer"]; [] takes the whole table as one group.
        method: "pearson", "spearman" (ties get their mean rank) or "kendall" (tau-b).
        level: of confidence, between 0 and 1.
        interval: "fisher", normal on the scale of atanh(r), or "bootstrap", percentiles of `resamples` draws of filters with
            replacement from the generator `seed` (some seconds for a group of 10,000 filters).

    Returns: one row per group with complete pairs, sorted: the columns of `by`, n (pairs), r, low, high (from -1 to 1). r is null below
    3 pairs, where x or y is constant, and for Pearson where one is infinite; low and high also below 4 pairs (Kendall's Fisher: 5).

    A Fisher interval takes filters for independent draws from a bivariate normal distribution. It is far too narrow for heavy tails,
    which per-filter quantities have: there a few filters decide Pearson's r. The bootstrap comes nearer, though not all the way;
    ranks do not have the problem, and `over_seeds` asks what matters most, how r differs from one training to the next.

    Errors: `AnalysisError` for an unknown x, y, column of `by`, method or interval, a column that is no number, a level outside
    (0, 1), a group of a `Scan` too large for ranks or a bootstrap; `ScoreError` for a measure whose columns are missing.
    Source: standard errors by Fisher; Bonett and Wright, Psychometrika 2000 (Spearman); Fieller et al., Biometrika 1957 (Kendall).
    """
    by = [by] if isinstance(by, str) else list(by)
    how = _How(method, level, interval, resamples, seed)
    _check_choices(method, interval, level)
    if isinstance(filters, Scan):
        _check_groups(filters.no_rows(), by)
        return _correlated_on_disk(filters, x, y, by, how)
    _check_groups(filters, by)
    return _correlated(complete_pairs(filters, x, y, by), how)


def over_seeds(
    correlations: pd.DataFrame,
    spec: pd.DataFrame,
    by: Sequence[str] = ("network", "dataset", "epoch"),
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean over runs of the correlations that `correlate` found in each run.

    Args: `correlations`, with run, r and whatever else it was grouped by; `spec`, one row per run (`runs.spec`), for the columns of
    `by` that `correlations` lacks; `level`, of confidence.
    Returns: one row per group, sorted: the columns of `by`, seeds (runs with an r), r (their plain mean, not weighted by filters),
    sd (between runs), low and high (Student's t interval of the mean, which may reach past 1), r_min, r_max. sd, low and high
    are null for one seed; all but seeds are null where no run has an r.
    Errors: `AnalysisError` for columns that neither table has, runs that `spec` lacks or names twice, and a run that has several
    rows in a group, so that a mean would no longer be one over runs.
    Source: Lubana and Dick, ICLR 2021, Figures 3 and 13-15 (correlation averaged over 3 seeds).
    """
    by = [by] if isinstance(by, str) else list(by)
    _check_seed_tables(correlations, spec, by)
    table = with_facts(correlations, spec, by)
    _check_one_row_per_run(table, by)
    return mean_over_runs(table, by, "r", level).rename(
        columns={"mean": "r", "least": "r_min", "most": "r_max"}
    )


def _correlated(pairs: Pairs, how: _How) -> pd.DataFrame:
    r = coefficients(pairs.x, pairs.y, pairs.starts, how.method)
    if how.interval == "fisher":
        return _with_fisher(pairs.keys, pairs.n, r, how)
    low, high = bootstrap_intervals(
        pairs.x, pairs.y, pairs.starts, r, how.method, how.level, how.resamples, how.seed
    )
    return pairs.keys.assign(n=pairs.n, r=r, low=low, high=high)


def _with_fisher(keys: pd.DataFrame, n: np.ndarray, r: np.ndarray, how: _How) -> pd.DataFrame:
    low, high = fisher_intervals(r, n, how.method, how.level)
    return keys.assign(n=n, r=r, low=low, high=high)


def _correlated_on_disk(filters: Scan, x: str, y: str, by: list[str], how: _How) -> pd.DataFrame:
    nothing = _correlated(
        complete_pairs(filters.no_rows(), x, y, by), how
    )  # tells what is wrong before rows are read
    if how.method == "pearson" and how.interval == "fisher" and not {"run", "epoch"} <= set(by):
        keys, found = moments_on_disk(filters, x, y, by)
        return _with_fisher(keys, found.n, pearson(found), how)
    parts = [_correlated(pairs, how) for pairs in pairs_at_once(filters, x, y, by)]
    table = pd.concat(parts, ignore_index=True) if parts else nothing
    return table.sort_values(by, ignore_index=True) if by else table


def _check_one_row_per_run(table: pd.DataFrame, by: list[str]) -> None:
    twice = table[table.duplicated(list(dict.fromkeys([*by, "run"])))]
    if len(twice):
        raise AnalysisError(
            f"run {twice['run'].iloc[0]} has several correlations in one group of by={by}, so their mean would not be one over seeds; "
            f"add to by whatever else they were grouped by, of [{', '.join(map(str, table.columns))}]"
        )


def _check_seed_tables(correlations: pd.DataFrame, spec: pd.DataFrame, by: list[str]) -> None:
    missing = [name for name in ("run", "r") if name not in correlations.columns]
    if missing:
        raise AnalysisError(
            f"correlations lack {', '.join(missing)}; they have [{_names(correlations)}]; correlate with run among by"
        )
    if "run" not in spec.columns:
        raise AnalysisError(
            f"spec lacks run; it has [{_names(spec)}]; pass runs.spec, one row per run"
        )
    if not by:
        raise AnalysisError(
            "by is empty; name what the runs to be averaged share, such as ['network', 'dataset', 'epoch']"
        )
    unknown = [name for name in by if name not in correlations.columns and name not in spec.columns]
    if unknown:
        raise AnalysisError(
            f"by names {', '.join(unknown)}; correlations have [{_names(correlations)}] and spec has [{_names(spec)}]"
        )


def _check_groups(filters: pd.DataFrame, by: list[str]) -> None:
    missing = [name for name in by if name not in filters.columns]
    facts = [
        name
        for name in missing
        if name in {field.name for field in dataclasses.fields(RunSpec)} - {"run", "epochs"}
    ]
    if facts:
        call = f"runs.with_spec('filters', {', '.join(map(repr, facts))})"
        raise AnalysisError(
            f"by names {', '.join(facts)}, a fact of the run that stands in its spec; pass {call} as the table"
        )
    if missing:
        raise AnalysisError(
            f"by names {', '.join(missing)}; the table has [{_names(filters)}]; group by these, with by=[] by none, "
            "or put a fact of the run beside every row with runs.with_spec('filters', ...)"
        )


def _check_choices(method: str, interval: str, level: float) -> None:
    if method not in COEFFICIENTS:
        raise AnalysisError(
            f"method={method!r} is no correlation coefficient; choose one of {', '.join(COEFFICIENTS)}"
        )
    if interval not in get_args(Interval):
        raise AnalysisError(f"interval={interval!r}; choose one of {', '.join(get_args(Interval))}")
    check_level(level)


def _names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))
