"""Verdicts on Figures 3, 13-15 and H1a: whether theta_hg and theta_g are highly correlated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate, over_seeds
from pruneviz.analysis.noise import clear_of_noise, error_columns, errors_lost, with_degrees
from pruneviz.analysis.panel_epochs import PanelEpochs, panel_epochs
from pruneviz.analysis.rules import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    Panel,
    Rule,
    Verdict,
    needs_seeds,
    not_testable,
    of_pair,
)
from pruneviz.log.thin_copies import why_left_out

X, Y = "theta_g", "theta_hg"
STATISTIC = "Pearson's r of theta_hg with theta_g: tanh of the mean of atanh r over seeds"


def judge_correlations(panels: Sequence[Panel], rule: Rule) -> list[Verdict]:
    """Judge whether the two quantities are highly correlated, at three epochs of each panel.

    Args:
        panels: Runs that differ only in their seed.
        rule: Its thresholds are high (Pearson), ranks (Spearman) and clear (share of the points).

    Returns:
        A verdict for the initialisation, a quarter and the end of each panel; "not testable" where
        not all seeds have the quantities there.

    References:
        Lubana and Dick, ICLR 2021, captions of Figures 3 and 13-15.
    """
    return [verdict for panel in panels for verdict in _of_panel(panel, rule)]


@dataclass(frozen=True)
class Agreement:
    """How two quantities correlate at one epoch, over seeds.

    Attributes:
        seeds: Number of seeds.
        r: tanh of the mean over seeds of atanh r, of Pearson's r; the centre of its interval.
        mean: Plain mean of Pearson's r, which a seed that fails lowers more.
        low: Lower end of the 95 % interval of r.
        high: Upper end.
        ranks: Mean of Spearman's coefficient.
        ranks_high: Upper end of its 95 % interval.
        clear: Share of the points that are clear of noise, of the noisier quantity whose standard
            errors are known; NaN if it is unknown in any seed.
        clear_in: The quantities whose standard errors are known.
        unclear: Why the share is unknown.
    """

    seeds: int
    r: float
    mean: float
    low: float
    high: float
    ranks: float
    ranks_high: float
    clear: float
    clear_in: str = f"{X} and {Y}"
    unclear: str = "standard errors are not recorded in each seed"


def decide(found: Agreement, rule: Rule) -> tuple[str, str]:
    """Verdict and reason for one epoch.

    Args:
        found: The correlations.
        rule: Its thresholds and number of seeds.
    """
    high, ranks = rule.thresholds["high"], rule.thresholds["ranks"]
    beside = f"plain mean {found.mean:.2f}, Spearman {found.ranks:.2f}"
    if found.seeds < rule.seeds:
        return NOT_TESTABLE, needs_seeds(rule, found.seeds)
    if np.isnan(found.clear):
        return UNDECIDED, f"{found.unclear}; {beside}"
    points = (
        f"{100 * found.clear:.0f} % of the points are clear of noise in {found.clear_in}; {beside}"
    )
    if found.clear < rule.thresholds["clear"]:
        return UNDECIDED, f"only {points}"
    if found.high < high:
        return NOT_SUPPORTED, f"the whole interval is below {high:g}; {points}"
    if found.ranks_high < ranks:
        return NOT_SUPPORTED, f"ranks correlate below {ranks:g}; {points}"
    if found.low < high:
        return UNDECIDED, f"the interval reaches below and above {high:g}; {points}"
    if found.mean < high:
        return UNDECIDED, f"the plain mean is below {high:g}; {points}"
    if found.ranks < ranks:
        return UNDECIDED, f"ranks may correlate below {ranks:g}; {points}"
    return SUPPORTED, f"the whole interval is at least {high:g}; {points}"


def agreements(found: pd.DataFrame, spec: pd.DataFrame) -> dict[int, Agreement]:
    """The agreement at each epoch.

    Args:
        found: Columns run, epoch, pearson, spearman, clear and clear_in.
        spec: One row per run.
    """
    means = {
        name: over_seeds(found.rename(columns={name: "r"}), spec, by=["epoch"]).set_index("epoch")
        for name in ("pearson", "spearman")
    }
    # A seed without errors may be all noise: nothing is known of the mean without it.
    clear = found.groupby("epoch")["clear"].agg(lambda shares: shares.mean(skipna=False))
    centres = np.tanh(np.arctanh(found["pearson"]).groupby(found["epoch"]).mean())
    # runs may know the errors of other quantities
    told = found[found["clear_in"] != ""].groupby("epoch")["clear_in"].unique()
    quantities = told.map(lambda names: " or ".join(sorted(names)))
    r, ranks = means["pearson"], means["spearman"]
    lost = why_left_out(spec, [*error_columns(X), *error_columns(Y)])
    unclear = f"standard errors are not there in each seed: {lost}" if lost else Agreement.unclear
    return {
        int(str(epoch)): Agreement(
            seeds=int(r["seeds"][epoch]),
            r=float(centres[epoch]),
            mean=float(r["r"][epoch]),
            low=float(r["low"][epoch]),
            high=float(r["high"][epoch]),
            ranks=float(ranks["r"][epoch]),
            ranks_high=float(ranks["high"][epoch]),
            clear=float(clear[epoch]),
            clear_in=str(quantities.get(epoch, "")),
            unclear=unclear,
        )
        for epoch in r.index
    }


def _of_panel(panel: Panel, rule: Rule) -> Iterator[Verdict]:
    held = _held_in_correlations(panel) if panel.unit == "weight" else _held_in_rows(panel)
    if held.empty:
        why = why_left_out(panel.runs.spec, [X, Y])
        reason = f"no epoch of all seeds has {X} and {Y}" + (f": {why}" if why else "")
        yield not_testable(panel, STATISTIC, reason)
        return
    epochs = panel_epochs(panel, held, (X, Y))
    found = _of_weights(panel, epochs) if panel.unit == "weight" else _of_rows(panel, epochs)
    verdicts = {**dict(_judged(panel, found, rule)), **dict(_untested(panel, epochs))}
    for epoch in sorted({*epochs.shown, *epochs.lacking}):
        undefined = f"{X} and {Y} have no correlation in any seed"
        yield verdicts.get(epoch, replace(not_testable(panel, STATISTIC, undefined), epoch=epoch))


def _untested(panel: Panel, epochs: PanelEpochs) -> Iterator[tuple[int, Verdict]]:
    for epoch, reason in epochs.lacking.items():
        yield epoch, replace(not_testable(panel, STATISTIC, reason), epoch=epoch)


def _judged(panel: Panel, found: pd.DataFrame, rule: Rule) -> Iterator[tuple[int, Verdict]]:
    if found.empty:
        return
    found = found.dropna(subset=["pearson", "spearman"])
    for epoch, agreement in agreements(found, panel.runs.spec).items():
        verdict, reason = decide(agreement, rule)
        yield (
            epoch,
            Verdict(
                panel=panel,
                verdict=verdict,
                reason=reason,
                statistic=STATISTIC,
                value=agreement.r,
                low=agreement.low,
                high=agreement.high,
                runs=tuple(found.loc[found["epoch"] == epoch, "run"].astype(str)),
                seeds=agreement.seeds,
                epoch=epoch,
            ),
        )


def _held_in_rows(panel: Panel) -> pd.DataFrame:
    """The runs and epochs that have both quantities."""
    if not {X, Y} <= set(panel.runs.recorded("filters")):
        return pd.DataFrame()
    return panel.runs.read("filters", ["run", "epoch"], complete=[X, Y]).drop_duplicates()


def _held_in_correlations(panel: Panel) -> pd.DataFrame:
    return _correlations(panel)[["run", "epoch"]].drop_duplicates()


def _of_rows(panel: Panel, epochs: PanelEpochs) -> pd.DataFrame:
    """pearson, spearman, clear and clear_in of each run at the shown epochs, from filters."""
    rows = _points(panel, epochs.shown)
    keys = ["run", "epoch"]
    found = correlate(rows, X, Y, interval=None)[[*keys, "r"]].rename(columns={"r": "pearson"})
    ranks = correlate(rows, X, Y, method="spearman", interval=None)[[*keys, "r"]].rename(
        columns={"r": "spearman"}
    )
    return found.merge(ranks, on=keys).merge(_clear(rows, panel.runs.spec), on=keys)


def _points(panel: Panel, epochs: Sequence[int]) -> pd.DataFrame:
    """run, epoch, both quantities and their standard errors, as far as they are recorded."""
    recorded = panel.runs.recorded("filters")
    errors = [name for axis in (X, Y) for name in error_columns(axis) if name in recorded]
    columns = ["run", "epoch", X, Y, *errors]
    return panel.runs.read("filters", columns, epochs, complete=[X, Y])


def _clear(rows: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Share of all points clear of noise and in which quantities, by run and epoch.

    It is that of the noisier quantity among those whose standard errors are known. A point without
    an error is not known to be clear; a run without any, or a thin copy that left some out, has no
    share.
    """
    told = with_degrees(rows, spec)
    flags = {name: clear_of_noise(told, name).astype("Float64") for name in (X, Y)}
    lost = rows["run"].astype(str).isin({*errors_lost(rows, spec, X), *errors_lost(rows, spec, Y)})
    groups = pd.DataFrame(flags).mask(lost).groupby([rows["run"], rows["epoch"]], observed=True)
    shares = groups.sum(min_count=1).div(groups.size(), axis=0).astype("float64")
    known = [" and ".join(shares.columns[row]) for row in shares.notna().to_numpy()]
    return pd.DataFrame({"clear": shares.min(axis=1), "clear_in": known}).reset_index()


def _correlations(panel: Panel) -> pd.DataFrame:
    table = panel.runs.read("correlations").dropna(subset=["r"])
    return of_pair(table, X, Y).astype({"run": "str", "method": "str"})


def _of_weights(panel: Panel, epochs: PanelEpochs) -> pd.DataFrame:
    """The same from correlations over all single weights; clear is that of the recorded sample."""
    table = _correlations(panel)
    table = table[table["epoch"].isin(epochs.shown)]
    if table.empty:
        return table
    wide = table.pivot_table(index=["run", "epoch"], columns="method", values="r")
    found = wide.reindex(columns=["pearson", "spearman"]).reset_index()
    if not {X, Y} <= set(panel.runs.recorded("filters")):
        return found.assign(clear=np.nan, clear_in="")
    clear = _clear(_points(panel, epochs.shown), panel.runs.spec).astype({"run": "str"})
    found = found.merge(clear, on=["run", "epoch"], how="left")
    return found.assign(clear_in=found["clear_in"].fillna(""))
