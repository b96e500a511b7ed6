"""Correlation of two quantities over the filters of each group of a log, with intervals, and its mean over seeds."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from pruneviz.analysis.runs import check_level, mean_over_runs, with_facts
from pruneviz.errors import AnalysisError
from pruneviz.schema import RunSpec
from pruneviz.scores import SCORES, score

Method = Literal["pearson", "spearman", "kendall"]
Interval = Literal["fisher", "bootstrap"]
Pair = tuple[np.ndarray, np.ndarray]

_COEFFICIENTS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson": lambda x, y: stats.pearsonr(x, y).statistic,
    "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
    "kendall": lambda x, y: stats.kendalltau(x, y, method="asymptotic").statistic,
}

# Variance of atanh(r) over n pairs. Kendall's holds from n = 5 on, the others from n = 4 on.
_FISHER_VARIANCES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": lambda r, n: 1 / (n - 3),
    "spearman": lambda r, n: (1 + r**2 / 2) / (n - 3),
    "kendall": lambda r, n: 0.437 / (n - 4),
}


def correlate(
    filters: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = ("run", "epoch"),
    method: Method = "pearson",
    level: float = 0.95,
    interval: Interval = "fisher",
    *,
    resamples: int = 999,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlation of two quantities over the filters of every group, with a confidence interval.

    Args:
        filters: a filters table; every row counts in which x and y are not null, those of pruned filters (`kept` false) too.
        x, y: names of columns, or of measures in `pruneviz.scores.SCORES`; where both exist the column is meant.
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
    (0, 1); `ScoreError` for a measure whose columns are missing.
    Source: standard errors by Fisher; Bonett and Wright, Psychometrika 2000 (Spearman); Fieller et al., Biometrika 1957 (Kendall).
    """
    by = [by] if isinstance(by, str) else list(by)
    _check_choices(method, interval, level)
    _check_groups(filters, by)
    keys, pairs = _complete_pairs(filters, x, y, by)
    r = np.array([_coefficient(a, b, method) for a, b in pairs], dtype="float64")
    n = np.array([len(a) for a, _ in pairs], dtype="int64")
    fisher = interval == "fisher"
    ends = fisher_intervals(r, n, method, level) if fisher else _bootstrap_intervals(pairs, r, method, level, resamples, seed)
    return keys.assign(n=n, r=r, low=ends[0], high=ends[1])


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
    return mean_over_runs(table, by, "r", level).rename(columns={"mean": "r", "least": "r_min", "most": "r_max"})


def _quantity(filters: pd.DataFrame, name: str) -> np.ndarray:
    """The float64 values of a column or measure, NaN for null."""
    if name in filters.columns:
        column = filters[name]
        if not pd.api.types.is_numeric_dtype(column):
            raise AnalysisError(f"column {name!r} holds {column.dtype}, not numbers; correlate two numeric columns or measures")
        return column.to_numpy(dtype="float64", na_value=np.nan)
    if name in SCORES:
        return score(filters, name).to_numpy(dtype="float64", na_value=np.nan)
    had = ", ".join(map(str, filters.columns))
    raise AnalysisError(f"no column or measure {name!r}; the table has [{had}], and the measures are {', '.join(SCORES)}")


def _complete_pairs(filters: pd.DataFrame, x: str, y: str, by: list[str]) -> tuple[pd.DataFrame, list[Pair]]:
    """The groups that have rows in which neither x nor y is null, and for each the values of x and of y in those rows."""
    xs, ys = _quantity(filters, x), _quantity(filters, y)
    complete = ~(np.isnan(xs) | np.isnan(ys))
    xs, ys = xs[complete], ys[complete]
    keys, groups = _groups(filters.loc[complete, by])
    return keys, [(xs[rows], ys[rows]) for rows in groups]


def _groups(keys: pd.DataFrame) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The distinct rows of `keys`, sorted and renumbered, and for each the positions of its rows."""
    by = list(keys.columns)
    group = keys.groupby(by, observed=True).ngroup().to_numpy() if by else np.zeros(len(keys), dtype="int64")
    rows = np.argsort(group, kind="stable")
    rows = rows[group[rows] >= 0]  # a null key belongs to no group
    _, first = np.unique(group[rows], return_index=True)
    return keys.iloc[rows[first]].reset_index(drop=True), np.split(rows, first[1:]) if len(first) else []


def _coefficient(x: np.ndarray, y: np.ndarray, method: Method) -> float:
    if len(x) < 3 or _is_constant(x) or _is_constant(y):
        return np.nan
    if method == "pearson":
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return np.nan
        x, y = _scaled(x), _scaled(y)
        if _is_nearly_constant(x) or _is_nearly_constant(y):
            return np.nan
    return float(_COEFFICIENTS[method](x, y))


def _is_constant(values: np.ndarray) -> bool:
    return bool(values.min() == values.max())


def _is_nearly_constant(values: np.ndarray) -> bool:
    # Below this spread (twice the bound at which scipy warns) the deviations from the mean are mostly its rounding error.
    return bool(values.std() * np.sqrt(len(values)) < 2 * np.finfo("float64").eps ** 0.75 * abs(values.mean()))


def _scaled(values: np.ndarray) -> np.ndarray:
    """The values divided by the largest, which changes no correlation, and keeps sums and squares of tiny or huge ones in range."""
    return values / np.abs(values).max()


def fisher_intervals(r: np.ndarray, n: np.ndarray, method: Method, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the Fisher intervals of correlations `r` over `n` pairs each; see `correlate` for what they are worth."""
    enough = n >= (5 if method == "kendall" else 4)
    r, n = np.where(enough, r, np.nan), np.where(enough, n, 5)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(_FISHER_VARIANCES[method](r, n))
    with np.errstate(divide="ignore"):  # |r| = 1 lies at infinity, and its interval is the point itself
        centre = np.arctanh(np.clip(r, -1, 1))
    return np.tanh(centre - half), np.tanh(centre + half)


def _bootstrap_intervals(
    pairs: list[Pair], r: np.ndarray, method: Method, level: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    ends = np.full((len(pairs), 2), np.nan)
    for group in np.flatnonzero(~np.isnan(r)):
        if len(pairs[group][0]) >= 4:
            ends[group] = _bootstrap(*pairs[group], method, level, resamples, seed)
    return ends[:, 0], ends[:, 1]


def _bootstrap(x: np.ndarray, y: np.ndarray, method: Method, level: float, resamples: int, seed: int) -> np.ndarray:
    """Percentile interval of one group; every group starts the generator anew, so that it does not depend on the others."""
    with warnings.catch_warnings():
        # Draws from a small group can be constant and have no r. They are left out, for which scipy's own interval has no option.
        warnings.simplefilter("ignore")
        drawn = stats.bootstrap(
            (x, y),
            lambda a, b: _coefficient(a, b, method),
            paired=True,
            vectorized=False,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        return np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])


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
        raise AnalysisError(f"correlations lack {', '.join(missing)}; they have [{_names(correlations)}]; correlate with run among by")
    if "run" not in spec.columns:
        raise AnalysisError(f"spec lacks run; it has [{_names(spec)}]; pass runs.spec, one row per run")
    if not by:
        raise AnalysisError("by is empty; name what the runs to be averaged share, such as ['network', 'dataset', 'epoch']")
    unknown = [name for name in by if name not in correlations.columns and name not in spec.columns]
    if unknown:
        raise AnalysisError(f"by names {', '.join(unknown)}; correlations have [{_names(correlations)}] and spec has [{_names(spec)}]")


def _check_groups(filters: pd.DataFrame, by: list[str]) -> None:
    missing = [name for name in by if name not in filters.columns]
    facts = [name for name in missing if name in {field.name for field in dataclasses.fields(RunSpec)} - {"run", "epochs"}]
    if facts:
        call = f"runs.with_spec('filters', {', '.join(map(repr, facts))})"
        raise AnalysisError(f"by names {', '.join(facts)}, a fact of the run that stands in its spec; pass {call} as the table")
    if missing:
        raise AnalysisError(
            f"by names {', '.join(missing)}; the table has [{_names(filters)}]; group by these, with by=[] by none, "
            "or put a fact of the run beside every row with runs.with_spec('filters', ...)"
        )


def _check_choices(method: str, interval: str, level: float) -> None:
    if method not in _COEFFICIENTS:
        raise AnalysisError(f"method={method!r} is no correlation coefficient; choose one of {', '.join(_COEFFICIENTS)}")
    if interval not in get_args(Interval):
        raise AnalysisError(f"interval={interval!r}; choose one of {', '.join(get_args(Interval))}")
    check_level(level)


def _names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns))
