"""Verdicts on Figures 2, H1b and I1: whether two measures correlate more as masks settle.

Over a training nearly everything moves: two curves of one run are correlated over epochs whether
or not they have to do with each other. So each run's curve is compared with the mask distances of
its own run and with those of other seeds, which share the trend of training and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.lead_tests import lead
from pruneviz.analysis.multiple import holm
from pruneviz.analysis.rules import (
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    Panel,
    Rule,
    Verdict,
    families,
    not_testable,
    of_pair,
    too_few,
)

STATISTIC = (
    "D: mean rank correlation over epochs of a run's curve with its own mask distances, minus that "
    "with another seed's"
)
LOSS_PRESERVATION = "loss_preservation"
# The measure of change whose correlation with loss preservation is drawn, by row kind.
_CHANGE: Mapping[str, str] = {"weight": "theta_change"}
_MOST_EXACT = 7  # seeds whose permutations are all tried
_DRAWS = 9_999
_SEED = 0


@dataclass(frozen=True)
class Association:
    """How curves of several seeds move with the mask distances of their own and other seeds.

    Attributes:
        own: Mean over seeds of Spearman's rank correlation over epochs with the own distances.
        other: The same with those of another seed.
        d: own - other.
        low: Lower end of the 95 % interval of d; NaN below three seeds.
        high: Upper end.
        p: Share of permutations of the seeds with a mean at most that of `own`; NaN below two.
        partial: Mean over seeds of the own rank correlation with the epoch held fixed.
        differences: Mean over seeds of the own rank correlation of changes between epochs.
        seeds: Number of seeds.
        epochs: Number of epochs.
    """

    own: float
    other: float
    d: float
    low: float
    high: float
    p: float
    partial: float
    differences: float
    seeds: int
    epochs: int


def judge_association(panels: Sequence[Panel], rule: Rule) -> list[Verdict]:
    """Judge whether a run's curve moves with its own mask distances beyond the trend of training.

    Args:
        panels: Runs that differ only in their seed.
        rule: Its thresholds are zone (the least association of interest), p and epochs.

    Returns:
        A verdict on each panel; p-values are corrected over the networks of a figure.

    References:
        Lubana and Dick, ICLR 2021, caption of Figure 2.
        Yule, Journal of the Royal Statistical Society 1926: correlations of unrelated series that
        have a trend.
    """
    found = [_association_of(panel, rule) for panel in panels]
    p_values = np.array([np.nan if isinstance(one, Verdict) else one.p for one in found])
    for family in families(panels, rule):
        p_values[family] = holm(p_values[family])
    return [
        one if isinstance(one, Verdict) else _verdict(panel, one, p, rule)
        for panel, one, p in zip(panels, found, p_values, strict=True)
    ]


def decide(found: Association, p: float, rule: Rule) -> tuple[str, str]:
    """Verdict and reason of one panel.

    Args:
        found: Its association.
        p: p-value after correction for the number of panels.
        rule: Its thresholds.
    """
    zone = rule.thresholds["zone"]
    told = (
        f"own {found.own:.2f}, another seed's {found.other:.2f}, p = {p:.2g}; with the epoch held "
        f"fixed {found.partial:.2f}, of changes {found.differences:.2f}"
    )
    if p <= rule.thresholds["p"] and found.d <= -zone:
        return SUPPORTED, f"own masks go with the curve beyond the trend: {told}"
    if found.p <= rule.thresholds["p"]:
        return UNDECIDED, f"an own association shows, but too small or in too few panels: {told}"
    if found.low > -zone:
        return NOT_SUPPORTED, f"no association of its own: {told}"
    return UNDECIDED, f"an own association is neither shown nor excluded: {told}"


def association(curves: np.ndarray, distances: np.ndarray) -> Association:
    """How curves of several seeds move with their own and with other seeds' distances.

    Under the hypothesis that curves have to do with distances only through the trend that all
    seeds share, any assignment of distances to curves is as likely as the true one. That makes the
    permutation test exact, whatever the dependence between epochs.

    Args:
        curves: The correlation by seed and epoch, [seeds, epochs].
        distances: The mask distance by seed and epoch, in the same order.
    """
    seeds, epochs = curves.shape
    rho = _rank_correlations(curves, distances)
    own = np.diag(rho)
    others = (rho.sum(axis=0) + rho.sum(axis=1) - 2 * own) / (2 * max(seeds - 1, 1))
    other = float(np.mean(others)) if seeds > 1 else np.nan
    interval = lead(_pseudo_values(own, others))
    changes = np.diag(_rank_correlations(np.diff(curves), np.diff(distances)))
    return Association(
        own=float(np.mean(own)),
        other=other,
        d=float(np.mean(own)) - other,
        low=interval.low,
        high=interval.high,
        p=_permutation_p(rho),
        partial=_known_mean(_given_epoch(curves, distances, own)),
        differences=_known_mean(changes),
        seeds=seeds,
        epochs=epochs,
    )


def curves_of(
    runs: Sequence[str], correlations: pd.DataFrame, epochs: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Curves and mask distances of some runs at the epochs that have both in all of them.

    Args:
        runs: Names of the runs.
        correlations: Columns run, epoch and r.
        epochs: Columns run, epoch and mask_distance.

    Returns:
        Two arrays [runs, epochs].
    """
    r = _wide(correlations, "r", runs)
    distance = _wide(epochs, "mask_distance", runs)
    common = r.columns.intersection(distance.columns)
    return r[common].to_numpy(), distance[common].to_numpy()


def change_of(unit: str) -> str:
    """The measure of change whose correlation with loss preservation is drawn."""
    return _CHANGE.get(unit, "sigma_change")


def _association_of(panel: Panel, rule: Rule) -> Association | Verdict:
    few = too_few(panel, rule, STATISTIC)
    if few is not None:
        return few
    correlations = _correlations(panel)
    if correlations.empty:
        change = change_of(panel.unit)
        return not_testable(panel, STATISTIC, f"{change} and {LOSS_PRESERVATION} are not recorded")
    names = list(panel.runs.spec["run"])
    distances = panel.runs.read("epochs", ["run", "epoch", "mask_distance"])
    curves = curves_of(names, correlations, distances)
    count, needed = curves[0].shape[1], int(rule.thresholds["epochs"])
    if count < needed:
        reason = f"needs {needed} epochs with correlation and mask distance, has {count}"
        return not_testable(panel, STATISTIC, reason)
    found = association(*curves)
    if np.isnan(found.d):
        return not_testable(panel, STATISTIC, "a curve or a mask distance does not change at all")
    return found


def _verdict(panel: Panel, found: Association, p: float, rule: Rule) -> Verdict:
    verdict, reason = decide(found, p, rule)
    return Verdict(
        panel=panel,
        verdict=verdict,
        reason=reason + _left_out(panel),
        statistic=STATISTIC,
        value=found.d,
        low=found.low,
        high=found.high,
        runs=tuple(panel.runs.spec["run"]),
        seeds=found.seeds,
        p=float(p),
    )


def _left_out(panel: Panel) -> str:
    """That thin copies lack measured epochs, which the curves of their full runs have."""
    copies = [] if panel.unit == "weight" else panel.runs.thin_copies()
    fewer = [copy for copy in copies if set(copy.measured) - set(copy.held)]
    if not fewer:
        return ""
    who = f"the thin copy {fewer[0].run}" if len(fewer) == 1 else f"{len(fewer)} thin copies"
    return f"; {who} left out measured epochs, so curves are over fewer than those of the full runs"


def _correlations(panel: Panel) -> pd.DataFrame:
    """Pearson's r of the two measures, by run and epoch."""
    runs, change = panel.runs, change_of(panel.unit)
    if panel.unit == "weight":
        table = runs.read("correlations").dropna(subset=["r"])
        table = of_pair(table, change, LOSS_PRESERVATION)
        return table[table["method"].astype(str) == "pearson"]
    if not {"sigma", "sigma_delta", "abs_theta_g"} <= set(runs.recorded("filters")):
        return pd.DataFrame()
    columns = ["run", "epoch", "sigma", "sigma_delta", "abs_theta_g"]
    rows = runs.read("filters", columns, complete=["sigma_delta", "abs_theta_g"])
    return correlate(rows, change, LOSS_PRESERVATION, interval=None)


def _wide(table: pd.DataFrame, value: str, runs: Sequence[str]) -> pd.DataFrame:
    """A value by run and epoch; epochs without a value of each run are left out."""
    named = table.astype({"run": "str"})
    wide = named.pivot_table(index="run", columns="epoch", values=value)
    return wide.reindex(list(runs)).dropna(axis="columns")


def _rank_correlations(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Spearman's coefficient of every row with every row of another array; NaN for constants."""
    left, right = (_standard_ranks(values) for values in (rows, columns))
    return left @ right.T


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along each row, ties at their mean rank, with mean 0 and norm 1."""
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy()
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norms > 0, norms, np.nan)


def _pseudo_values(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pseudo-values of the jackknife over seeds, whose mean is D; none below three seeds.

    References:
        Arvesen, Annals of Mathematical Statistics 1969: the jackknife of U-statistics.
    """
    seeds = len(own)
    if seeds < 3:
        return own[:0]
    return own - (2 * (seeds - 1) * others - seeds * others.mean()) / (seeds - 2)


def _given_epoch(curves: np.ndarray, distances: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Own rank correlations with the epoch held fixed; NaN where a curve is monotone."""
    time = np.arange(curves.shape[1], dtype="float64")[None]
    left, right = (_rank_correlations(values, time)[:, 0] for values in (curves, distances))
    free = np.sqrt(np.maximum(1 - left**2, 0) * np.maximum(1 - right**2, 0))
    return (own - left * right) / np.where(free > 1e-9, free, np.nan)


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else np.nan


def _permutation_p(rho: np.ndarray) -> float:
    """Share of assignments of distances to curves whose mean is at most that of the true one."""
    seeds = len(rho)
    if seeds < 2 or np.isnan(rho).any():
        return np.nan
    observed = np.trace(rho) + 1e-9  # equal means count, whatever rounding does
    if seeds <= _MOST_EXACT:
        every = np.array(list(itertools.permutations(range(seeds))))
        return float(np.mean(rho[np.arange(seeds), every].sum(axis=1) <= observed))
    random = np.random.default_rng(_SEED)
    drawn = random.permuted(np.tile(np.arange(seeds), (_DRAWS, 1)), axis=1)
    hits = int(np.sum(rho[np.arange(seeds), drawn].sum(axis=1) <= observed))
    return (hits + 1) / (_DRAWS + 1)
