"""How two quantities agree over filters and epochs: numbers behind the findings.

References:
    Lubana and Dick, ICLR 2021, captions of Figures 2, 3 and 13-15.
"""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate, over_seeds
from pruneviz.analysis.eigen_direction import eigen_share
from pruneviz.analysis.noise import DEGREES, clear_of_noise, error_columns, with_degrees
from pruneviz.analysis.over_runs import with_facts
from pruneviz.analysis.robustness import robustness
from pruneviz.analysis.rules import told_apart, unpruned
from pruneviz.analysis.rules_curve import Association, association, curves_of
from pruneviz.analysis.table_texts import APART
from pruneviz.log.runs import Runs

SETTING = ("network", "dataset", APART, "bn")  # shared by runs that differ only in their seed

_AVERAGED = ("pearson", "spearman", "trimmed", "within_layers", "layer_mean")
_OVER_EPOCHS = ("pearson", "spearman", "layer_mean")
_FEWEST_EPOCHS = 3  # of a rank correlation over epochs
_NUMBERS = tuple(field.name for field in fields(Association))


def agreement_over_seeds(runs: Runs, x: str, y: str) -> pd.DataFrame:
    """Correlations of x and y over filters, and their robustness, averaged over seeds.

    Args:
        runs: Recordings; the unpruned ones of filters count.
        x: Column, or key in `pruneviz.SCORES`.
        y: Column, or key in `pruneviz.SCORES`.

    Returns:
        One row per network, data set, setting (further facts that differ, in words), bn and epoch
        that has complete pairs, sorted: these, seeds (each once, as `pruneviz.claims` counts them),
        the means of pearson, spearman, trimmed, within_layers and layer_mean (see
        `pruneviz.robustness`), pearson_min and pearson_max (over seeds), the least loo_min and the
        greatest loo_max, low and high (the 95 % interval of the mean of pearson over seeds, as by
        `pruneviz.over_seeds`; null for one seed) and n_eff (of pearson, the fewest of any seed).
    """
    filters = unpruned(runs).filters
    found, spec = _counted(runs, robustness(filters, x, y))
    keys = [*SETTING, "epoch"]
    effective = correlate(filters, x, y, interval=None)
    effective = effective[effective["run"].isin(spec["run"])]
    found = found.merge(effective[["run", "epoch", "n_eff"]], on=["run", "epoch"])
    ends = over_seeds(effective, spec, by=keys)[[*keys, "low", "high"]]
    groups = found.groupby(keys, observed=True, dropna=False)
    means = groups[list(_AVERAGED)].mean().reset_index()
    extremes = groups.agg(
        seeds=("run", "nunique"),
        n_eff=("n_eff", "min"),
        pearson_min=("pearson", "min"),
        pearson_max=("pearson", "max"),
        loo_min=("loo_min", "min"),
        loo_max=("loo_max", "max"),
    )
    # Merged by columns, since an index does not match absent facts.
    return extremes.reset_index().merge(means, on=keys).merge(ends, on=keys, how="left")


def own_association(
    runs: Runs, x: str = "sigma_change", y: str = "loss_preservation"
) -> pd.DataFrame:
    """How the correlation of x and y moves with the mask distance of its own run (Figure 2).

    Args:
        runs: Recordings; the unpruned ones of filters count.
        x: Column, or key in `pruneviz.SCORES`.
        y: Column, or key in `pruneviz.SCORES`.

    Returns:
        Three rows per network, data set, setting and bn, one for each `coefficient` of x and y
        (pearson, spearman, layer_mean; see `pruneviz.robustness`), with the numbers of
        `pruneviz.analysis.rules_curve.association`: own, other, d, low, high, p (not corrected),
        partial, differences, seeds and epochs (those that have both in every run).

    References:
        Lubana and Dick, ICLR 2021, caption of Figure 2.
    """
    found, _ = _counted(runs, robustness(unpruned(runs).filters, x, y))
    rows = []
    for key, of_setting in found.groupby(list(SETTING), observed=True, dropna=False):
        names = list(dict.fromkeys(of_setting["run"].astype(str)))
        for coefficient in _OVER_EPOCHS:
            curve = of_setting.rename(columns={coefficient: "r"})
            curves, distances = curves_of(names, curve, runs.epochs)
            if curves.shape[1] >= _FEWEST_EPOCHS:
                numbers = asdict(association(curves, distances))
                rows.append({**dict(zip(SETTING, key, strict=True)), **numbers})
                rows[-1]["coefficient"] = coefficient
    return pd.DataFrame(rows, columns=[*SETTING, "coefficient", *_NUMBERS])


def derivative_facts(runs: Runs) -> pd.DataFrame:
    """Share of the derivatives that is signal, and two cases that would explain a correlation.

    Case 1: the loss does not depend on a filter's scale, as with batch norm in training mode if its
    eps goes to 0. Then theta_g is 0 and theta_hg is -g_norm2. Case 2: the gradient is an
    eigenvector of the Hessian. Then theta_hg is theta_g times its eigenvalue.

    Args:
        runs: Recordings; the unpruned ones of filters count.

    Returns:
        One row per network, data set, setting, bn and epoch, with means over seeds of

        - clear: fraction of filters whose theta_g is clear of the noise of the sample (as by
          `pruneviz.analysis.noise.clear_of_noise`), of those whose standard error is known.
        - cosine: median over filters of abs(theta_g) / (norm(theta) norm(g)); 0 in case 1.
        - scale: slope of theta_hg against -g_norm2, through the origin; 1 in case 1.
        - eigen: least-squares slope of theta_hg against theta_g, divided by the Rayleigh quotient
          g^T H g / norm(g)^2 of the whole network; 1 in case 2.
        - share: share of the variance of theta_hg that the Rayleigh quotient times theta_g
          explains, nothing fitted (`pruneviz.eigen_share`); 1 in case 2.

        and df, the fewest degrees of freedom of the standard errors behind clear.
    """
    runs = unpruned(runs)
    keys = ["run", "epoch"]
    numbers = ["theta_norm2", "theta_g", "theta_hg", "g_norm2"]
    errors = [name for name in error_columns("theta_g") if name in runs.filters]
    rows = runs.filters[[*keys, *numbers, *errors]]
    rows = rows.dropna(subset=["theta_g", "theta_hg", "g_norm2"])
    rows = rows.astype(dict.fromkeys(numbers, "float64"))
    rows = with_degrees(rows, runs.spec)
    facts = pd.DataFrame(
        [(*key, *_facts(group)) for key, group in rows.groupby(keys, observed=True)],
        columns=[*keys, "clear", "df", "cosine", "scale", "slope"],
    )
    found = facts.merge(runs.epochs[[*keys, "g_norm2", "ghg"]], on=keys)
    found = found.assign(eigen=found["slope"] / (found["ghg"] / found["g_norm2"]))
    found = found.astype({"run": "str"}).merge(eigen_share(runs)[[*keys, "share"]], on=keys)
    found, _ = _counted(runs, found)
    groups = found.groupby([*SETTING, "epoch"], observed=True, dropna=False)
    means = groups[["clear", "cosine", "scale", "eigen", "share"]].mean()
    return means.assign(df=groups["df"].min()).reset_index()


def _counted(runs: Runs, found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the runs that count, one of each seed, with their setting; and the spec of these."""
    known = found.astype({"run": "str"})
    _, spec = told_apart(runs, known["run"])
    return with_facts(known[known["run"].isin(spec["run"])], spec, SETTING), spec


def _facts(rows: pd.DataFrame) -> tuple[float, float, float, float, float]:
    """clear, df, cosine, scale and slope of theta_hg against theta_g, for one run at one epoch."""
    theta_g, theta_hg, g2 = (rows[name].to_numpy() for name in ("theta_g", "theta_hg", "g_norm2"))
    clear = clear_of_noise(rows, "theta_g").astype("Float64").mean()
    norms = np.sqrt(rows["theta_norm2"].to_numpy() * g2)
    cosine = np.median(np.abs(theta_g[norms > 0]) / norms[norms > 0])
    scale = -float(theta_hg @ g2) / float(g2 @ g2)
    x, y = theta_g - theta_g.mean(), theta_hg - theta_hg.mean()
    slope = float(x @ y) / float(x @ x)
    share = float("nan") if pd.isna(clear) else float(clear)
    return share, float(rows[DEGREES].min()), float(cosine), scale, slope
