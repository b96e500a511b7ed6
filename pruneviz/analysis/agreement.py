"""How two quantities agree over filters and epochs: numbers behind the findings.

References:
    Lubana and Dick, ICLR 2021, captions of Figures 2, 3 and 13-15.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.noise import clear_of_noise, error_columns, with_degrees
from pruneviz.analysis.over_runs import with_facts
from pruneviz.analysis.robustness import robustness
from pruneviz.log.runs import Runs

SETTING = ("network", "dataset", "bn")  # shared by runs that differ only in their seed

_AVERAGED = ("pearson", "spearman", "trimmed", "within_layers", "layer_mean")
_OVER_EPOCHS = ("pearson", "spearman", "layer_mean")


def agreement_over_seeds(runs: Runs, x: str, y: str) -> pd.DataFrame:
    """Correlations of x and y over filters, and their robustness, averaged over seeds.

    Args:
        runs: Unpruned recordings of filters.
        x: Column, or key in `pruneviz.SCORES`.
        y: Column, or key in `pruneviz.SCORES`.

    Returns:
        One row per network, data set, bn and epoch that has complete pairs, sorted: these, seeds,
        the means of pearson, spearman, trimmed, within_layers and layer_mean (see
        `pruneviz.robustness`), pearson_min and pearson_max (over seeds), the least loo_min and the
        greatest loo_max.
    """
    found = with_facts(robustness(runs.filters, x, y), runs.spec, SETTING)
    keys = [*SETTING, "epoch"]
    groups = found.groupby(keys, observed=True)
    means = groups[list(_AVERAGED)].mean()
    extremes = groups.agg(
        seeds=("run", "nunique"),
        pearson_min=("pearson", "min"),
        pearson_max=("pearson", "max"),
        loo_min=("loo_min", "min"),
        loo_max=("loo_max", "max"),
    )
    return extremes.join(means).reset_index()


def mask_distance_association(
    runs: Runs, x: str = "sigma_change", y: str = "loss_preservation"
) -> pd.DataFrame:
    """Whether x and y correlate more as masks of consecutive epochs move closer (Figure 2).

    Args:
        runs: Recordings of filters.
        x: Column, or key in `pruneviz.SCORES`.
        y: Column, or key in `pruneviz.SCORES`.

    Returns:
        Two rows per run, whose `span` of epochs is "all" or "first rate" (before the learning rate
        first falls, which moves both quantities): run, bn, span, epochs (number of epochs that have
        both), first and last (Pearson's r at the first and last of them), and pearson, spearman and
        layer_mean: Spearman's rank correlation, over epochs, of the coefficient of that name with
        the recorded mask distance. The claim holds if these are negative; they are null below 3
        epochs.
    """
    found = robustness(runs.filters, x, y)
    facts = runs.epochs[["run", "epoch", "mask_distance", "lr"]]
    both = found.merge(facts, on=["run", "epoch"]).dropna(subset=["pearson", "mask_distance"])
    both = both.sort_values(["run", "epoch"])
    first_rate = both["lr"] == both.groupby("run", observed=True)["lr"].transform("first")
    spans = {"all": both, "first rate": both[first_rate]}
    parts = [_association(rows).assign(span=span) for span, rows in spans.items()]
    table = pd.concat(parts, ignore_index=True).sort_values(["run", "span"], ignore_index=True)
    table = with_facts(table, runs.spec, ["bn"])
    return table[["run", "bn", "span", "epochs", "first", "last", *_OVER_EPOCHS]]


def _association(both: pd.DataFrame) -> pd.DataFrame:
    pearson = both.groupby("run", observed=True)["pearson"]
    table = pearson.agg(epochs="size", first="first", last="last").reset_index()
    for name in _OVER_EPOCHS:
        found = correlate(both, "mask_distance", name, by=["run"], method="spearman")
        column = found.rename(columns={"r": name})[["run", name]]
        table = table.merge(column, on="run", how="left")
    return table


def derivative_facts(runs: Runs) -> pd.DataFrame:
    """Share of the derivatives that is signal, and two cases that would explain a correlation.

    Case 1: the loss does not depend on a filter's scale, as with batch norm in training mode if its
    eps goes to 0. Then theta_g is 0 and theta_hg is -g_norm2. Case 2: the gradient is an
    eigenvector of the Hessian. Then theta_hg is theta_g times its eigenvalue.

    Args:
        runs: Recordings of filters.

    Returns:
        One row per network, data set, bn and epoch, with means over seeds of

        - clear: fraction of filters whose theta_g is clear of the noise of the sample (as by
          `pruneviz.analysis.noise.clear_of_noise`), of those whose standard error is known.
        - cosine: median over filters of abs(theta_g) / (norm(theta) norm(g)); 0 in case 1.
        - scale: slope of theta_hg against -g_norm2, through the origin; 1 in case 1.
        - eigen: least-squares slope of theta_hg against theta_g, divided by the Rayleigh quotient
          g^T H g / norm(g)^2 of the whole network; 1 in case 2.
    """
    keys = ["run", "epoch"]
    numbers = ["theta_norm2", "theta_g", "theta_hg", "g_norm2"]
    errors = [name for name in error_columns("theta_g") if name in runs.filters]
    rows = runs.filters[[*keys, *numbers, *errors]]
    rows = rows.dropna(subset=["theta_g", "theta_hg", "g_norm2"])
    rows = rows.astype(dict.fromkeys(numbers, "float64"))
    rows = with_degrees(rows, runs.spec)
    facts = pd.DataFrame(
        [(*key, *_facts(group)) for key, group in rows.groupby(keys, observed=True)],
        columns=[*keys, "clear", "cosine", "scale", "slope"],
    )
    found = facts.merge(runs.epochs[[*keys, "g_norm2", "ghg"]], on=keys)
    found = found.assign(eigen=found["slope"] / (found["ghg"] / found["g_norm2"]))
    found = with_facts(found, runs.spec, SETTING)
    groups = found.groupby([*SETTING, "epoch"], observed=True)
    return groups[["clear", "cosine", "scale", "eigen"]].mean().reset_index()


def _facts(rows: pd.DataFrame) -> tuple[float, float, float, float]:
    """clear, cosine, scale and slope of theta_hg against theta_g, for one run at one epoch."""
    theta_g, theta_hg, g2 = (rows[name].to_numpy() for name in ("theta_g", "theta_hg", "g_norm2"))
    clear = clear_of_noise(rows, "theta_g").astype("Float64").mean()
    norms = np.sqrt(rows["theta_norm2"].to_numpy() * g2)
    cosine = np.median(np.abs(theta_g[norms > 0]) / norms[norms > 0])
    scale = -float(theta_hg @ g2) / float(g2 @ g2)
    x, y = theta_g - theta_g.mean(), theta_hg - theta_hg.mean()
    slope = float(x @ y) / float(x @ x)
    share = float("nan") if pd.isna(clear) else float(clear)
    return share, float(cosine), scale, slope
