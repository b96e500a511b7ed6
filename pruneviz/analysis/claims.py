"""What recordings say about the claims of the paper's captions, as tables: one row per network and way of measuring, and epoch.

Source: Lubana and Dick, ICLR 2021, captions of Figures 2, 3 and 13-15.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.over_runs import with_facts
from pruneviz.analysis.robustness import robustness
from pruneviz.log.runs import Runs

SETTING = ("network", "dataset", "bn")  # what runs share that differ in their seed alone
_COEFFICIENTS = (
    "pearson",
    "spearman",
    "trimmed",
    "within_layers",
    "layer_mean",
    "loo_min",
    "loo_max",
)
_OVER_EPOCHS = ("pearson", "spearman", "layer_mean")


def shown_epochs(epochs: Sequence[int]) -> list[int]:
    """The initialisation, the first epoch, and those after a quarter, a half and all of the training, as far as they are among `epochs`."""
    last = max(epochs)
    wanted = {0, 1, round(last / 4), round(last / 2), last}
    return sorted(wanted & set(epochs))


def agreement_over_seeds(runs: Runs, x: str, y: str) -> pd.DataFrame:
    """How x and y correlate over the filters of unpruned runs, and what that rests on, averaged over seeds.

    Args: `runs`, unpruned recordings of filters; `x` and `y`, columns or measures.
    Returns: one row per network, data set, bn and epoch with complete pairs, sorted: these, seeds, the means of `pearson`, `spearman`,
    `trimmed`, `within_layers` and `layer_mean` (see `pruneviz.analysis.robustness`), `pearson_min` and `pearson_max` (over seeds),
    the least `loo_min` and the greatest `loo_max`.
    """
    found = with_facts(robustness(runs.filters, x, y), runs.spec, SETTING)
    keys = [*SETTING, "epoch"]
    groups = found.groupby(keys, observed=True)
    means = groups[list(_COEFFICIENTS[:5])].mean()
    ends = groups.agg(
        seeds=("run", "nunique"), pearson_min=("pearson", "min"), pearson_max=("pearson", "max"), loo_min=("loo_min", "min"),
        loo_max=("loo_max", "max"),
    )  # fmt: skip
    return ends.join(means).reset_index()


def mask_distance_association(
    runs: Runs, x: str = "sigma_change", y: str = "loss_preservation"
) -> pd.DataFrame:
    """Whether x and y correlate more as the masks of consecutive epochs come closer, run by run: the claim of Figure 2.

    Returns: two rows per run, its `span` of epochs "all" and "first rate" (before the learning rate falls for the first time, which moves
    both): run, bn, span, epochs (with both), `first` and `last` (Pearson's r at the first and at the last of these) and, each Spearman's
    rank correlation over epochs with the recorded mask distance, `pearson`, `spearman` and `layer_mean`: that of the coefficient of
    this name. The claim holds where they are negative; they are null below 3 epochs.
    """
    found = robustness(runs.filters, x, y)
    facts = runs.epochs[["run", "epoch", "mask_distance", "lr"]]
    both = (
        found.merge(facts, on=["run", "epoch"])
        .dropna(subset=["pearson", "mask_distance"])
        .sort_values(["run", "epoch"])
    )
    first_rate = both["lr"] == both.groupby("run", observed=True)["lr"].transform("first")
    parts = [
        _association(rows).assign(span=span)
        for span, rows in (("all", both), ("first rate", both[first_rate]))
    ]
    table = with_facts(
        pd.concat(parts, ignore_index=True).sort_values(["run", "span"], ignore_index=True),
        runs.spec,
        ["bn"],
    )
    return table[["run", "bn", "span", "epochs", "first", "last", *_OVER_EPOCHS]]


def _association(both: pd.DataFrame) -> pd.DataFrame:
    ends = (
        both.groupby("run", observed=True)["pearson"]
        .agg(epochs="size", first="first", last="last")
        .reset_index()
    )
    for name in _OVER_EPOCHS:
        found = correlate(both, "mask_distance", name, by=["run"], method="spearman")
        ends = ends.merge(found.rename(columns={"r": name})[["run", name]], on="run", how="left")
    return ends


def derivative_facts(runs: Runs) -> pd.DataFrame:
    """How much of the measured derivatives is signal, and how near they come to two cases in which a correlation would be no surprise.

    Where the loss does not depend on a filter's scale, as with batch norm in training mode when its eps goes to 0, `theta_g` is 0 and
    `theta_hg` is -`g_norm2`. Where the gradient is an eigenvector of the Hessian, `theta_hg` is `theta_g` times its eigenvalue.
    Returns: one row per network, data set, bn and epoch, the means over seeds of: `clear`, the share of filters whose theta_g is more than
    two standard errors from 0; `cosine`, the median over filters of abs(theta_g) / (norm(theta) norm(g)), 0 in the first case; `scale`, the
    slope of theta_hg against -g_norm2 through the origin, 1 in the first case; `eigen`, the slope of theta_hg against theta_g (least
    squares) over the Rayleigh quotient g^T H g / norm(g)^2 of the whole network, 1 in the second case.
    """
    columns = ["run", "epoch", "theta_norm2", "theta_g", "theta_hg", "g_norm2", "theta_g_se"]
    rows = (
        runs.filters[columns]
        .dropna(subset=["theta_g", "theta_hg", "g_norm2"])
        .astype(dict.fromkeys(columns[2:], "float64"))
    )
    groups = rows.groupby(["run", "epoch"], observed=True)
    facts = pd.DataFrame(
        [(*key, *_facts(group)) for key, group in groups],
        columns=["run", "epoch", "clear", "cosine", "scale", "slope"],
    )
    whole = runs.epochs[["run", "epoch", "g_norm2", "ghg"]]
    found = facts.merge(whole, on=["run", "epoch"])
    found = with_facts(
        found.assign(eigen=found["slope"] / (found["ghg"] / found["g_norm2"])), runs.spec, SETTING
    )
    return (
        found.groupby([*SETTING, "epoch"], observed=True)[["clear", "cosine", "scale", "eigen"]]
        .mean()
        .reset_index()
    )


def _facts(rows: pd.DataFrame) -> tuple[float, float, float, float]:
    """Of the filters of one run at one epoch: clear, cosine, scale and the slope of theta_hg against theta_g."""
    theta_g, theta_hg, g2 = (rows[name].to_numpy() for name in ("theta_g", "theta_hg", "g_norm2"))
    product = np.sqrt(rows["theta_norm2"].to_numpy() * g2)
    x, y = theta_g - theta_g.mean(), theta_hg - theta_hg.mean()
    clear = np.mean(np.abs(theta_g) > 2 * rows["theta_g_se"].to_numpy())
    cosine = np.median(np.abs(theta_g[product > 0]) / product[product > 0])
    return (
        float(clear),
        float(cosine),
        -float(theta_hg @ g2) / float(g2 @ g2),
        float(x @ y) / float(x @ x),
    )
