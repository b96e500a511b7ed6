"""Correlation between two quantities over the filters in each group, and its mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import get_args

import pandas as pd

from pruneviz.analysis.checks import as_names, check_draws, check_level, columns_of, require_columns
from pruneviz.analysis.coefficients import COEFFICIENTS
from pruneviz.analysis.group_correlations import How, correlated
from pruneviz.analysis.intervals import UNITS, Interval
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.over_runs import mean_over_runs, with_facts
from pruneviz.analysis.pairs import Asked, complete_pairs
from pruneviz.analysis.pairs_on_disk import correlated_on_disk
from pruneviz.analysis.resampling import Resampling
from pruneviz.analysis.run_facts import check_is_scan, check_not_left_out, table_of
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan
from pruneviz.log.vocabulary import CorrelationMethod

# Run facts that are in the spec but not in the filters table.
_FACTS = set(SPEC_FACTS) - {"run", "epochs"}


def correlate(
    filters: Runs | pd.DataFrame | Scan,
    x: AnyMeasure,
    y: AnyMeasure,
    by: str | Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "pearson",
    level: float = 0.95,
    interval: Interval | None = "auto",
    *,
    resamples: int = 999,
    seed: int = 0,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Correlate two quantities over the filters of every group.

    Rows in which x or y is null do not count; rows of pruned filters (`kept` false) do.

    Filters of a layer are alike, and a few large values dominate Pearson's r, so filters are no
    independent draws: intervals that take them for such (`"filters"`, `"fisher"`) are far too
    narrow. docs/uncertainty.md tells which interval answers which question, and how often each
    covers the truth. `over_seeds` shows the variation of r between training runs.

    Args:
        filters: Runs, a filters table, or a `Scan` for tables on disk.
        x: Column, or pruning measure, as for `pruneviz.score`. A column wins over a measure of the
            same name.
        y: Column, or pruning measure.
        by: Columns to group by, such as ["run", "epoch", "layer"], of runs also facts, such as
            "network"; [] makes one group.
        method: "pearson", "spearman" (ties get their mean rank), "kendall" (tau-b) or "symlog"
            (Pearson's r after sign(v) log(1 + |v| / threshold), with the threshold up to which the
            axes of `pruneviz.plot.scatter` are linear, for x and y of every group).
        level: Confidence level, between 0 and 1.
        interval: What is resampled.

            - "layers": layers, each with all that a group holds of it; a symmetric studentised
              bootstrap of atanh(r). A group of fewer than 5 layers cannot tell: its ends are -1
              and 1.
            - "hierarchical": runs, and in each drawn run its layers, for groups of several runs
              (`by` without "run"); Student's t times the spread of the draws.
            - "seeds": whole runs, for groups of several runs; Student's t with the jackknife's
              error.
            - "filters": filters, as if they were independent (percentiles).
            - "auto": layers; but filters where a group is one layer (`by` names `layer`), and rows
              of a table that has no column `layer`.
            - "fisher": nothing; the formula for independent draws from a normal distribution.
            - None: no interval, so low and high are null.
        resamples: Number of bootstrap draws per group.
        seed: Bootstrap seed.
        executor: Who works on the sections of a `Scan`: processes, Dask, Ray, anything that is a
            `concurrent.futures.Executor` (docs/large_sets.md). Default: this process.

    Returns:
        One row per group that has complete pairs, sorted: the `by` columns, n (number of pairs),
        n_eff, r, low and high (from -1 to 1). r is null below 3 pairs, if x or y is constant, and
        for Pearson and "symlog" also if a value is infinite. low and high are null where r is and
        below 4 pairs (Kendall with "fisher": 5), and nowhere else: -1 and 1 where units are too few
        or too unlike to tell, such as an r that a single layer makes.

        n_eff, the effective number of pairs, is (sum w)^2 / sum w^2 over the contributions
        w_p = (x_p - mean x)(y_p - mean y) to r: n if all filters contribute alike, 1 if a single
        one does. Contributions of both signs cancel: n_eff is near 0 where r is, and below 4 or so
        r is within two standard errors of 0 even if filters are independent. Ranks and logarithms
        contribute in the place of values for the methods of these; null for Kendall.

    Raises:
        AnalysisError: If x, y, a `by` column, `method` or `interval` is unknown; if a column is not
            numeric; if `level` is outside (0, 1); if the table lacks a column that the interval
            resamples, or a group holds a single run for an interval over runs; if a group of a
            `Scan` is too large for ranks or a bootstrap of filters; if a worker of `executor`
            fails or dies, which names run and epochs.
        ScoreError: If the table lacks a column that a measure needs.

    References:
        Fisher, Metron 1921: standard error of Pearson's coefficient, on the scale of atanh(r).
        Bonett and Wright, Psychometrika 2000: standard error of Spearman's coefficient.
        Fieller et al., Biometrika 1957: standard error of Kendall's coefficient.

    Example:
        >>> runs = pv.load("data/cifar-mini")
        >>> pv.correlate(runs, "theta_g", "theta_hg", method="spearman")
    """
    by = as_names(by)
    check_is_scan(filters, executor)
    known = _columns(filters)
    how = _how(by, method, interval, Resampling(level, resamples, seed), known)
    if isinstance(filters, Scan):
        check_not_left_out(filters, [x, y])
        filters.look_through(executor)
        nothing = filters.no_rows()
        _check_groups(nothing, by, how)
        # Raise errors about the arguments before any row is read.
        correlated(complete_pairs(nothing, x, y, by, how.units), how)
        return correlated_on_disk(filters, Asked.of(filters, x, y, by, how.units), how, executor)
    table = table_of(filters, [x, y], [*by, *how.units])
    _check_groups(table, by, how)
    return correlated(complete_pairs(table, x, y, by, how.units), how)


def over_seeds(
    correlations: pd.DataFrame,
    spec: Runs | pd.DataFrame,
    by: str | Sequence[str] = ("network", "dataset", "epoch"),
    level: float = 0.95,
) -> pd.DataFrame:
    """Average the correlations that `correlate` found in each run.

    Args:
        correlations: Result of `correlate` with "run" among its groups.
        spec: The runs, or one row per run (`runs.spec`), for the `by` columns that `correlations`
            lacks.
        by: Columns to group the averages by.
        level: Confidence level, between 0 and 1.

    Returns:
        One row per group, sorted: the `by` columns, seeds (number of runs that have an r), r (plain
        mean, not weighted by filters), sd (between runs), low and high (Student's t interval over
        runs on the scale of atanh(r), transformed back, so within -1 and 1), r_min, r_max. sd, low
        and high are null for one seed; all but seeds are null for none. Where an |r| is 1, up to
        rounding, the interval is Student's of r itself, cut at -1 and 1. Two seeds have one degree
        of freedom, so their intervals are very wide: 0.5 and 0.6 give -0.28 to 0.91.

    Raises:
        AnalysisError: If neither table has a `by` column; if `spec` lacks a run or names one twice;
            if a run has several rows in one group, so the mean would not be over runs.

    References:
        Lubana and Dick, ICLR 2021, Figures 3 and 13-15: correlations averaged over 3 seeds.

    Example:
        >>> each = pv.correlate(runs, "theta_g", "theta_hg")
        >>> pv.over_seeds(each, runs)
    """
    by = as_names(by)
    facts = spec.spec if isinstance(spec, Runs) else spec
    _check_seed_tables(correlations, facts, by)
    table = with_facts(correlations, facts, by)
    _check_one_row_per_run(table, by)
    found = mean_over_runs(table, by, "r", level, bounds=(-1.0, 1.0))
    return found.rename(columns={"mean": "r", "least": "r_min", "most": "r_max"})


def _columns(filters: Runs | pd.DataFrame | Scan) -> list[str]:
    if isinstance(filters, Runs):
        return filters.columns("filters")
    return [str(name) for name in getattr(filters, "columns", ())]


def _how(
    by: list[str],
    method: CorrelationMethod,
    interval: Interval | None,
    resampling: Resampling,
    columns: list[str],
) -> How:
    _check_choices(method, interval, resampling.level)
    check_draws(resampling.resamples, resampling.seed)
    if interval == "auto":
        interval = "layers" if "layer" in columns and "layer" not in by else "filters"
    units = UNITS[interval] if interval else ()
    given = [name for name in units if name in by]
    if given:
        raise AnalysisError(
            f"interval={interval!r} resamples {' and '.join(units)}, and by={by} gives every "
            f"{given[0]} a group of its own; leave {given[0]} out of by, or choose "
            "interval='filters'"
        )
    return How(method, interval, units, resampling)


def _check_one_row_per_run(table: pd.DataFrame, by: list[str]) -> None:
    twice = table[table.duplicated(list(dict.fromkeys([*by, "run"])))]
    if len(twice):
        raise AnalysisError(
            f"run {twice['run'].iloc[0]} has several correlations in one group of by={by}, so "
            "their mean would not be over seeds; add the other column they were grouped by, one of "
            f"[{', '.join(columns_of(table))}]"
        )


def _check_seed_tables(correlations: pd.DataFrame, spec: pd.DataFrame, by: list[str]) -> None:
    repair = "call correlate with 'run' among by"
    require_columns(correlations, ["run", "r"], "the table of correlations", repair)
    require_columns(spec, ["run"], "spec", "pass runs.spec, one row per run")
    if not by:
        raise AnalysisError(
            "by is empty; name the columns that the averaged runs share, such as "
            "['network', 'dataset', 'epoch']"
        )
    known = list(dict.fromkeys([*columns_of(correlations), *columns_of(spec)]))
    unknown = [name for name in by if name not in known]
    if unknown:
        raise AnalysisError(f"by={by}: {unknown_name('column', unknown[0], known)}")


def _check_groups(filters: pd.DataFrame, by: list[str], how: How) -> None:
    lacking = [name for name in how.units if name not in filters.columns]
    if lacking:
        raise AnalysisError(
            f"interval={how.interval!r} resamples {' and '.join(how.units)}, and the table has no "
            f"column {lacking[0]}; add it, or choose interval='filters' if rows are independent of "
            "each other, or interval=None for no interval"
        )
    missing = [name for name in by if name not in filters.columns]
    facts = [name for name in missing if name in _FACTS]
    if facts:
        call = f"runs.with_spec('filters', {', '.join(map(repr, facts))})"
        raise AnalysisError(
            f"by={by}: the table has no {', '.join(facts)}, the spec of the runs has; pass {call} "
            "as the table"
        )
    if missing:
        hint = (
            "by=[] makes one group of all rows, and runs.with_spec('filters', ...) adds facts of "
            "the runs as columns"
        )
        problem = unknown_name("column", missing[0], columns_of(filters), hint)
        raise AnalysisError(f"by={by}: {problem}")


def _check_choices(method: str, interval: str | None, level: float) -> None:
    if method not in COEFFICIENTS:
        raise AnalysisError(unknown_name("correlation method", method, COEFFICIENTS))
    if interval is not None and interval not in get_args(Interval):
        raise AnalysisError(unknown_name("interval", interval, get_args(Interval)))
    check_level(level)
