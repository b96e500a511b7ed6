"""How much of a quantity is the sample: reliability, and correlations corrected for it.

Of a quantity x = truth + noise of the sample, the reliability is the share of the variance over
filters that is truth: the correlation of x with itself on another sample of that size. Two disjoint
halves of a sample give it for samples of half the size, and the formula of Spearman and Brown for
the whole. Noise weakens a correlation of two quantities, and noise that both have from the same
sample also makes one up: x and y from different samples share none, and dividing by the root of
their reliabilities gives the correlation of the truths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import as_names
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.half_tables import (
    Halves,
    TwoSamples,
    halves_of,
    measures_of_sample,
    name_of,
)
from pruneviz.analysis.measures import AnyMeasure, quantity
from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import is_number
from pruneviz.log.runs import Runs
from pruneviz.log.thin_copies import left_out, thin_rows, why_left_out
from pruneviz.log.vocabulary import CorrelationMethod

LEAST = 0.2  # reliability of half a sample below which a correction is not trusted
_BY = ("run", "epoch")


def step_up(r: Any, times: Any) -> Any:
    """Reliability of a larger sample, by the formula of Spearman and Brown.

    Exact for means over the sample, such as theta_g, whose noise falls with its size; for others it
    is an approximation.

    Args:
        r: Reliability of a sample, above 0.
        times: How many times larger the other sample is; 2 for the whole of two halves.

    Returns:
        times r / (1 + (times - 1) r).

    References:
        Spearman, "Correlation calculated from faulty data", British Journal of Psychology, 1910.
        Brown, "Some experimental results in the correlation of mental abilities", 1910.

    Example:
        >>> step_up(0.5, 2)
        0.6666666666666666
    """
    return times * r / (1 + (times - 1) * r)


def reliability(
    source: TwoSamples,
    measures: Sequence[AnyMeasure] | None = None,
    by: str | Sequence[str] | None = None,
    method: CorrelationMethod = "pearson",
    level: float = 0.95,
) -> pd.DataFrame:
    """How well a quantity agrees with itself on another sample, over the filters of every group.

    Args:
        source: Runs recorded with samples=2, or two tables of `pruneviz.measure` on two disjoint
            samples of equal size.
        measures: Pruning measures, as for `pruneviz.score`, or columns. Default: theta_g, theta_hg
            and all measures that depend on the sample.
        by: Columns to group by. Default: run and epoch, as far as the tables have them.
        method: Correlation coefficient, as for `pruneviz.correlate`. With ranks or logarithms the
            formula for larger samples is an approximation.
        level: Confidence level of the intervals.

    Returns:
        One row per measure and group: measure, the `by` columns, and of `pruneviz.correlate` n,
        n_eff, r (between the two samples), low and high; times (whole sample in halves), whole,
        whole_low and whole_high (reliability of the whole sample: of both together for a
        pair of tables), and reason. whole is null with a reason where r is not above 0, or groups
        hold runs of several sizes; an end of its interval below 0 counts as 0.

    Raises:
        AnalysisError: If the runs have no half samples, the tables hold other filters, or an
            argument is unknown.
        ScoreError: If a measure needs a column that was not measured on half samples.

    References:
        Spearman, "The proof and measurement of association between two things", 1904.

    Example:
        >>> runs = pv.load("data/mine")
        >>> pv.reliability(runs, ["theta_g", "loss_preservation"])
    """
    halves = halves_of(source, measures or ())
    groups = _groups(halves, by)
    wanted = measures_of_sample(halves) if measures is None else list(measures)
    parts = [_of_measure(halves, what, groups, method, level) for what in wanted]
    if not parts:
        raise AnalysisError("no measure depends on the sample; name columns in measures")
    return pd.concat(parts, ignore_index=True)


def corrected_correlation(
    source: TwoSamples,
    x: AnyMeasure,
    y: AnyMeasure,
    by: str | Sequence[str] | None = None,
    method: CorrelationMethod = "pearson",
    least: float = LEAST,
) -> pd.DataFrame:
    """The correlation of two quantities without the noise of the sample.

    Args:
        source: As for `reliability`.
        x: Column or pruning measure.
        y: Column or pruning measure.
        by: Columns to group by. Default: run and epoch, as far as the tables have them.
        method: Correlation coefficient, as for `pruneviz.correlate`.
        least: Reliability of a half sample that x and y need for a correction.

    Returns:
        One row per group: the `by` columns, n, r (on the whole sample; of a pair of tables the mean
        of both), within (mean of r on each half: noise of the sample weakens it, and noise that x
        and y share makes some up), cross (mean of r of x and y from different halves: only
        weakened), reliability_x and reliability_y (of a half), corrected (cross divided by the root
        of their product), and reason: why corrected is null, or that it is beyond -1 or 1, which no
        correlation is: then the reliabilities are too uncertain to correct with; or why r is null
        all the same, in thin copies.

    Raises:
        AnalysisError, ScoreError: As for `reliability`; if least is not between 0 and 1.

    References:
        Spearman, "The proof and measurement of association between two things", American Journal of
        Psychology, 1904: correction for attenuation.

    Example:
        >>> pv.corrected_correlation(pv.load("data/mine"), "theta_g", "theta_hg")
    """
    if not is_number(least) or not 0 < least < 1:
        raise AnalysisError(f"least={least!r}; give a reliability between 0 and 1, such as {LEAST}")
    halves = halves_of(source, [x, y])
    groups = _groups(halves, by)
    (x_a, x_b), (y_a, y_b) = halves.values(x), halves.values(y)
    gone = np.isnan(x_a) | np.isnan(y_a)
    table = halves.beside(x_a=x_a, x_b=x_b, y_a=y_a, y_b=y_b)[~gone]
    r = {pair: _r(table, *pair, groups, method) for pair in _PAIRS}
    cross = correlate(table, "x_a", "y_b", by=groups, method=method, interval=None)
    found = cross[[*groups, "n"]]
    within = (r["x_a", "y_a"] + r["x_b", "y_b"]) / 2
    found = found.assign(
        r=_whole(source, found, x, y, groups, method, within),
        within=within,
        cross=(r["x_a", "y_b"] + r["x_b", "y_a"]) / 2,
        reliability_x=r["x_a", "x_b"],
        reliability_y=r["y_a", "y_b"],
    )
    corrected = _corrected(found, least)
    if isinstance(source, Runs) and len(thin_rows(source.spec)):
        return _with_lacks(corrected, source, x, y)
    return corrected


_PAIRS = (("x_a", "y_a"), ("x_b", "y_b"), ("x_a", "y_b"), ("x_b", "y_a"), ("x_a", "x_b"),
          ("y_a", "y_b"))  # fmt: skip


def _of_measure(
    halves: Halves, what: AnyMeasure, by: list[str], method: CorrelationMethod, level: float
) -> pd.DataFrame:
    one, other = halves.values(what)
    table = halves.beside(half_a=one, half_b=other, times=halves.times.to_numpy())
    found = correlate(table, "half_a", "half_b", by=by, method=method, level=level)
    times = _times(table.dropna(subset=["half_a"]), by)
    positive = found["r"] > 0
    usable = positive & times.notna()
    ends = {
        f"whole{end}": step_up(found[name].clip(lower=0), times).where(usable)
        for end, name in (("", "r"), ("_low", "low"), ("_high", "high"))
    }
    reason = np.select(
        [found["r"].isna(), ~positive, times.isna()],
        [
            "fewer than 3 filters, or all values are equal",
            "the halves do not agree: r is not above 0",
            "runs of several sample sizes in one group",
        ],
        default="",
    )
    found = found.assign(times=times, **ends, reason=reason)
    found.insert(0, "measure", name_of(what, halves))
    return found


def _times(table: pd.DataFrame, by: list[str]) -> pd.Series:
    """Size of the whole sample in halves for each group, sorted; null if it differs within one."""
    grouped = table.groupby(by, observed=True)["times"] if by else None
    if grouped is None:
        least, most = pd.Series([table["times"].min()]), pd.Series([table["times"].max()])
    else:
        least, most = grouped.min(), grouped.max()
    return least.where(least == most).reset_index(drop=True)


def _r(
    table: pd.DataFrame, one: str, other: str, by: list[str], method: CorrelationMethod
) -> pd.Series:
    return correlate(table, one, other, by=by, method=method, interval=None)["r"]


def _whole(
    source: TwoSamples,
    found: pd.DataFrame,
    x: AnyMeasure,
    y: AnyMeasure,
    by: list[str],
    method: CorrelationMethod,
    within: pd.Series,
) -> pd.Series:
    """The correlation on the whole sample, in the order of the groups."""
    if not isinstance(source, Runs):
        return within
    lacking = _lacking(source, x, y)
    if lacking:
        source = source.named(set(source.spec["run"]) - lacking)
    if not len(source):
        return pd.Series(np.nan, index=found.index)
    if not by:
        return correlate(source, x, y, by=by, method=method, interval=None)["r"]
    whole = correlate(source, x, y, by=by, method=method, interval=None)
    texts = {name: "str" for name in by if name != "epoch"}
    return found.astype(texts)[by].merge(whole.astype(texts), on=by, how="left")["r"]


def _lacking(runs: Runs, x: AnyMeasure, y: AnyMeasure) -> set[str]:
    """Thin copies that left out what x or y is computed from on the whole sample."""
    columns = _columns_of(runs, x, y)
    return {run for names in left_out(runs.spec, columns).values() for run in names}


def _columns_of(runs: Runs, x: AnyMeasure, y: AnyMeasure) -> list[str]:
    known = runs.columns("filters")
    return [column for what in (x, y) for column in quantity(what, known).columns]


def _with_lacks(found: pd.DataFrame, runs: Runs, x: AnyMeasure, y: AnyMeasure) -> pd.DataFrame:
    """The table with the reason why r is null, as far as thin copies left out its filters."""
    why = why_left_out(runs.spec, _columns_of(runs, x, y)) or "thin copies left out these filters"
    lacks = found["r"].isna() & found["within"].notna() & found["reason"].eq("")
    return found.assign(reason=found["reason"].mask(lacks, f"r is null: {why}"))


def _corrected(found: pd.DataFrame, least: float) -> pd.DataFrame:
    low_x, low_y = (~(found[f"reliability_{name}"] >= least) for name in "xy")
    product = found["reliability_x"] * found["reliability_y"]
    corrected: pd.Series = found["cross"] / np.sqrt(product.where(~(low_x | low_y)))
    reason = np.select(
        [low_x & low_y, low_x, low_y, corrected.isna(), corrected.abs() > 1],
        [
            f"the reliability of x and y is below {least}",
            f"the reliability of x is below {least}",
            f"the reliability of y is below {least}",
            "there is no correlation",
            "beyond 1: the reliabilities are too uncertain to correct with",
        ],
        default="",
    )
    return found.assign(corrected=corrected, reason=reason)


def _groups(halves: Halves, by: str | Sequence[str] | None) -> list[str]:
    if by is not None:
        return as_names(by)
    return [name for name in _BY if name in halves.first]
