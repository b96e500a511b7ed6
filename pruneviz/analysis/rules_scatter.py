"""Verdicts on Figures 3, 13-15 and H1a: whether theta_hg and theta_g are highly correlated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.chosen_epochs import nearest_epochs
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.noise import clear_of_noise, error_columns, errors_of, with_degrees
from pruneviz.analysis.rules import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Panel,
    Rule,
    Verdict,
    correlation_interval,
    needs_seeds,
    not_testable,
)

X, Y = "theta_g", "theta_hg"
STATISTIC = "Pearson's r of theta_hg with theta_g, mean over seeds"


def judge_correlations(panels: Sequence[Panel], rule: Rule) -> list[Verdict]:
    """Judge whether the two quantities are highly correlated, at three epochs of each panel.

    Args:
        panels: Runs that differ only in their seed.
        rule: Its thresholds are high (Pearson), ranks (Spearman) and clear (share of the points).

    Returns:
        A verdict for the initialisation, a quarter and the end of each panel.

    References:
        Lubana and Dick, ICLR 2021, captions of Figures 3 and 13-15.
    """
    return [verdict for panel in panels for verdict in _of_panel(panel, rule)]


def decide(r: np.ndarray, ranks: np.ndarray, clear: float, rule: Rule) -> tuple[str, str]:
    """Verdict and reason from the coefficients of one epoch.

    Args:
        r: Pearson's r of each seed.
        ranks: Spearman's coefficient of each seed.
        clear: Share of the points that are clear of noise, of the noisier quantity; NaN if unknown.
        rule: Its thresholds and number of seeds.
    """
    limits = rule.thresholds
    if len(r) < rule.seeds:
        return NOT_TESTABLE, needs_seeds(rule, len(r))
    beside = f"Spearman {np.mean(ranks):.2f}"
    if np.isnan(clear):
        return UNDECIDED, f"standard errors are not recorded; {beside}"
    points = f"{100 * clear:.0f} % of the points are clear of noise; {beside}"
    if clear < limits["clear"]:
        return UNDECIDED, f"only {points}"
    low, high = correlation_interval(r)
    if high < limits["high"]:
        return NOT_SUPPORTED, f"the whole interval is below {limits['high']:g}; {points}"
    if correlation_interval(ranks)[1] < limits["ranks"]:
        return NOT_SUPPORTED, f"ranks correlate below {limits['ranks']:g}; {points}"
    if low < limits["high"]:
        return UNDECIDED, f"the interval reaches below and above {limits['high']:g}; {points}"
    if np.mean(ranks) < limits["ranks"]:
        return UNDECIDED, f"ranks may correlate below {limits['ranks']:g}; {points}"
    return SUPPORTED, f"the whole interval is at least {limits['high']:g}; {points}"


def _of_panel(panel: Panel, rule: Rule) -> Iterator[Verdict]:
    found = _of_weights(panel) if panel.unit == "weight" else _of_rows(panel)
    if found.empty:
        yield not_testable(panel, STATISTIC, f"no epoch of all seeds has {X} and {Y}")
    for epoch, rows in found.groupby("epoch"):
        known = rows.dropna(subset=["pearson", "spearman"])
        r, ranks = known["pearson"].to_numpy(), known["spearman"].to_numpy()
        verdict, reason = decide(r, ranks, float(known["clear"].mean()), rule)
        low, high = correlation_interval(r)
        yield Verdict(
            panel=panel,
            verdict=verdict,
            reason=reason,
            statistic=STATISTIC,
            value=float(np.mean(r)) if len(r) else np.nan,
            low=low,
            high=high,
            runs=tuple(known["run"].astype(str)),
            seeds=len(known),
            epoch=int(str(epoch)),
        )


def _of_rows(panel: Panel) -> pd.DataFrame:
    """pearson, spearman and clear of each run at the three epochs, from the filters table."""
    runs = panel.runs
    recorded = runs.recorded("filters")
    if not {X, Y} <= set(recorded):
        return pd.DataFrame()
    held = runs.read("filters", ["run", "epoch"], complete=[X, Y]).drop_duplicates()
    errors = [name for axis in (X, Y) for name in error_columns(axis) if name in recorded]
    columns = ["run", "epoch", X, Y, *errors]
    rows = runs.read("filters", columns, _shown(panel, held), complete=[X, Y])
    rows = with_degrees(rows, runs.spec)
    keys = ["run", "epoch"]
    found = correlate(rows, X, Y)[[*keys, "r"]].rename(columns={"r": "pearson"})
    ranks = correlate(rows, X, Y, method="spearman")[[*keys, "r"]].rename(columns={"r": "spearman"})
    return found.merge(ranks, on=keys).merge(_clear(rows), on=keys)


def _clear(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the points that are clear of noise, of the noisier quantity, by run and epoch."""
    shares = {
        name: clear_of_noise(rows, name).astype("Float64")
        for name in (X, Y)
        if errors_of(rows, name)
    }
    keys = [rows["run"], rows["epoch"]]
    if len(shares) < 2:
        return rows[["run", "epoch"]].drop_duplicates().assign(clear=np.nan)
    found = pd.DataFrame(shares).astype("float64").groupby(keys, observed=True).mean()
    return found.min(axis=1, skipna=False).rename("clear").reset_index()


def _of_weights(panel: Panel) -> pd.DataFrame:
    """The same from correlations over all single weights, which have no standard errors."""
    table = panel.runs.read("correlations").dropna(subset=["r"])
    pair = [{x, y} == {X, Y} for x, y in zip(table["x"], table["y"], strict=True)]
    table = table[pair].astype({"run": "str", "method": "str"})
    table = table[table["epoch"].isin(_shown(panel, table))]
    if table.empty:
        return table
    wide = table.pivot_table(index=["run", "epoch"], columns="method", values="r")
    return wide.reindex(columns=["pearson", "spearman"]).assign(clear=np.nan).reset_index()


def _shown(panel: Panel, held: pd.DataFrame) -> list[int]:
    """The epochs nearest to 0, a quarter and all of training that all runs hold."""
    runs_at = held.groupby("epoch")["run"].nunique()
    common = [int(epoch) for epoch in runs_at.index[runs_at == held["run"].nunique()]]
    if not common:
        return []
    stated = panel.runs.spec["epochs"].max()
    return nearest_epochs(common, int(max(common) if pd.isna(stated) else stated))
