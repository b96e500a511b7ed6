"""How theta_hg agrees with theta_g before training, and how much of the two is signal.

References:
    Lubana and Dick, ICLR 2021, captions of Figures 3 and 13-15, panel (a).
"""

from __future__ import annotations

import pandas as pd

from pruneviz.analysis.correlation import correlate, over_seeds
from pruneviz.analysis.noise import clear_of_noise, with_degrees
from pruneviz.analysis.over_runs import with_facts
from pruneviz.analysis.rules import told_apart, unpruned
from pruneviz.analysis.table_texts import (
    APART,
    by_mode,
    over_several,
    percent,
    ranges,
    rounded,
    telling,
    texts,
)
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod

# Runs that are equal in these differ only in their seed.
SETTING = ("network", "dataset", "width", APART, "sample_size", "bn")

# Facts that say nothing of a network before its training, and of a measurement there.
OF_TRAINING = (
    *("epochs", "batch_size", "lr", "lr_drops", "momentum", "weight_decay", "train_temperature"),
    *("augment", "precision", "lag", "mask_score", "mask_ratio", "temperatures"),
)

_HEADINGS = {
    "network": "network",
    "dataset": "dataset",
    "width": "width",
    APART: APART,
    "sample_size": "images",
    "bn": "bn",
    "seeds": "seeds",
    "pearson": "Pearson",
    "interval": "95 %",
    "spread": "over seeds",
    "n_eff": "n_eff",
    "spearman": "Spearman",
    "symlog": "symlog",
    "clear": "θᵀg clear",
    "clear_hg": "θᵀHg clear",
    "clear_hg_given_g": "θᵀHg clear, g held fixed",
}

_X, _Y = "theta_g", "theta_hg"
_BESIDE: tuple[CorrelationMethod, ...] = ("spearman", "symlog")


def initial_agreement(runs: Runs) -> pd.DataFrame:
    """Correlations of theta_hg with theta_g at epoch 0, and shares of filters clear of noise.

    Args:
        runs: Recordings; the unpruned ones of filters count.

    Returns:
        One row per network, data set, width, setting (further facts that differ, in words), sample
        size and bn that has both quantities at epoch 0, sorted: these, seeds (each once; runs that
        differ in their training alone are one), the means over seeds of pearson, spearman and
        symlog, low and high (the 95 % interval of the mean of pearson, as by
        `pruneviz.over_seeds`; null for one seed), pearson_min and pearson_max, n_eff (of pearson,
        the least of any seed), and the mean over seeds of the share of filters clear of the noise
        of the sample in theta_g (clear), in theta_hg (clear_hg; null without the errors of
        `errors="full"`), and in theta_hg by errors with g held fixed (clear_hg_given_g), all as by
        `pruneviz.clear_of_noise`.
    """
    filters = unpruned(runs).filters
    filters = filters[filters["epoch"] == 0].dropna(subset=[_X, _Y])
    columns = ("width", "sample_size")
    chosen, spec = told_apart(runs, filters["run"].astype("str"), OF_TRAINING, columns)
    filters = filters[filters["run"].isin(chosen.spec["run"])]
    by = list(SETTING)
    each = correlate(filters, _X, _Y, interval=None)
    found = over_seeds(each, spec, by=by).drop(columns="sd")
    found = found.rename(columns={"r": "pearson", "r_min": "pearson_min", "r_max": "pearson_max"})
    per_run = _clear_shares(filters, spec).merge(_named(each, "n_eff"), on="run")
    for method in _BESIDE:
        other = correlate(filters, _X, _Y, method=method, interval=None)
        per_run = per_run.merge(_named(other.rename(columns={"r": method}), method), on="run")
    groups = with_facts(per_run, spec, by).groupby(by, observed=True, dropna=False)
    names = [*_BESIDE, "clear", "clear_hg", "clear_hg_given_g"]
    beside = groups[names].mean().join(groups["n_eff"].min()).reset_index()
    return found.merge(beside, on=by)


def initialisation_table(runs: Runs) -> pd.DataFrame:
    """The numbers of `initial_agreement` as texts.

    Args:
        runs: Recordings; the unpruned ones of filters count.
    """
    found = by_mode(initial_agreement(runs))
    found["spread"] = over_several(found["seeds"], found["pearson_min"], found["pearson_max"])
    found["interval"] = ranges(found["low"], found["high"])
    for name in ("n_eff", "sample_size"):
        found[name] = texts(found[name], digits=0)
    found["width"] = ["" if pd.isna(width) else f"{width:g}" for width in found["width"]]
    for name in ("clear", "clear_hg", "clear_hg_given_g"):
        found[name] = [percent(share, digits=0) for share in found[name]]
    found = rounded(found, ["pearson", "spearman", "symlog"])
    return telling(found[list(_HEADINGS)].rename(columns=_HEADINGS))


def _named(correlations: pd.DataFrame, column: str) -> pd.DataFrame:
    return correlations[["run", column]].astype({"run": "str"})


def _clear_shares(filters: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Share of the filters of each run that are clear of noise, of those whose error is known."""
    known = with_degrees(filters, spec)
    clear = {
        "clear": clear_of_noise(known, _X),
        "clear_hg": clear_of_noise(known, _Y),
        "clear_hg_given_g": clear_of_noise(known, _Y, given_g=True),
    }
    rows = pd.DataFrame(clear).astype("Float64").assign(run=known["run"].astype("str"))
    return rows.groupby("run").mean().astype("float64").reset_index()
