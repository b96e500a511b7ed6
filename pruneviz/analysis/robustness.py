"""What a correlation over all filters of a network rests on: one layer, a few outliers, differences between layers, or the filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.scores import SCORES, score
from pruneviz.errors import AnalysisError
from pruneviz.log.vocabulary import CorrelationMethod

_X, _Y = "_x", "_y"


def robustness(
    filters: pd.DataFrame, x: str, y: str, by: Sequence[str] = ("run", "epoch"), trim: float = 0.01
) -> pd.DataFrame:
    """Pearson's correlation of two quantities over the filters of every group, beside what is left of it without its likely props.

    Args: `filters`, with `layer`; `x` and `y`, columns or measures; `by`, the columns that make the groups; `trim`, a share of filters.
    Returns: one row per group with complete pairs, sorted: the columns of `by`, n (filters) and these correlations, each from -1 to 1:
        pearson, spearman: over all filters.
        trimmed: Pearson's without the share `trim` of the filters (rounded up) that lie farthest out, by the sum of the squared distances
            of x and y from their means, each in standard deviations. These bear on r the most.
        loo_min, loo_max: the least and the greatest of Pearson's r with one layer left out; loo_layer: the layer without which r differs
            most from `pearson`. See `leave_one_layer_out`.
        within_layers: Pearson's after each layer's mean is taken off x and y, so that layers that lie apart do not correlate by that
            alone. Layers in which x and y spread more still count for more.
        layer_mean: mean of the Pearson's r of single layers, weighted by their filters, so that the scales of layers play no part.
            Layers that have no r (fewer than 3 filters, or constant) are left out.
    A correlation that does not exist is null. Filters in which x or y is null or infinite do not count.
    Errors: `AnalysisError` for a table without layers, no column to group by, and a trim outside [0, 1); those of `pruneviz.correlate`.
    """
    by = [by] if isinstance(by, str) else list(by)
    _check(filters, by, trim)
    pairs = _pairs(filters, x, y, by)
    found = _r(pairs, by).rename(columns={"r": "pearson"})
    parts = {
        "spearman": _r(pairs, by, "spearman"),
        "trimmed": _r(_without_outliers(pairs, by, trim), by),
        "within_layers": _r(_centred(pairs, [*by, "layer"]), by),
        "layer_mean": _layer_mean(pairs, by),
    }
    for name, part in parts.items():
        found = found.merge(part.rename(columns={"r": name})[[*by, name]], on=by, how="left")
    return found.merge(
        _range_without(found, _without_each_layer(pairs, by, "pearson"), by), on=by, how="left"
    )


def leave_one_layer_out(
    filters: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "pearson",
) -> pd.DataFrame:
    """Correlation of two quantities over the filters of every group but those of one layer, for each layer that the group has.

    Args: as for `pruneviz.correlate`, of a table with `layer`.
    Returns: one row per group and layer, sorted by group, its layers in the order of the table: the columns of `by`, layer (the one left
    out), n (filters of the others) and r, null where the others have none.
    Errors: `AnalysisError` for a table without layers and no column to group by; those of `pruneviz.correlate`.
    """
    by = [by] if isinstance(by, str) else list(by)
    _check(filters, by)
    return _without_each_layer(_pairs(filters, x, y, by), by, method)


def _pairs(filters: pd.DataFrame, x: str, y: str, by: list[str]) -> pd.DataFrame:
    """The columns of `by`, the layer, and x and y of every filter in which both are finite."""
    known = filters.assign(
        **{name: score(filters, name) for name in (x, y) if name in SCORES and name not in filters}
    )
    correlate(known.head(0), x, y, by=by)  # refuses what is no quantity and what makes no groups
    pairs = known[[*by, "layer"]].assign(
        **{_X: known[x].astype("float64"), _Y: known[y].astype("float64")}
    )
    return pairs[np.isfinite(pairs[[_X, _Y]].to_numpy()).all(axis=1)].reset_index(drop=True)


def _r(pairs: pd.DataFrame, by: list[str], method: CorrelationMethod = "pearson") -> pd.DataFrame:
    return correlate(pairs, _X, _Y, by=by, method=method)[[*by, "n", "r"]]


def _without_each_layer(
    pairs: pd.DataFrame, by: list[str], method: CorrelationMethod
) -> pd.DataFrame:
    groups = pairs[[*by, "layer"]].drop_duplicates(ignore_index=True)
    rests = [
        _r(pairs[pairs["layer"] != layer], by, method).assign(layer=layer)
        for layer in groups["layer"].unique()
    ]
    rest = (
        pd.concat(rests, ignore_index=True).astype({"layer": "object"})
        if rests
        else groups.assign(n=0, r=np.nan)
    )
    found = groups.astype({"layer": "object"}).merge(rest, on=[*by, "layer"], how="left")
    return (
        found.fillna({"n": 0})
        .astype({"n": "int64"})
        .sort_values(by, kind="stable", ignore_index=True)
    )


def _centred(pairs: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    """The pairs less their means in each group."""
    return pairs.assign(
        **(pairs[[_X, _Y]] - pairs.groupby(groups, observed=True)[[_X, _Y]].transform("mean"))
    )


def _without_outliers(pairs: pd.DataFrame, by: list[str], trim: float) -> pd.DataFrame:
    """The pairs of every group but the share `trim` of them that lie farthest out, in standard deviations of x and y."""
    squares = _centred(pairs, by)
    squares[[_X, _Y]] **= 2
    variances = squares.groupby(by, observed=True)[[_X, _Y]].transform("mean")
    distances = squares.assign(distance=(squares[[_X, _Y]] / variances).sum(axis=1)).groupby(
        by, observed=True
    )["distance"]
    farthest = distances.rank(method="first", ascending=False)
    return pairs[farthest > np.ceil(trim * distances.transform("size"))]


def _layer_mean(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    layers = _r(pairs, [*by, "layer"]).dropna(subset=["r"])
    sums = (
        layers.assign(r=layers["r"] * layers["n"])
        .groupby(by, observed=True)[["r", "n"]]
        .sum()
        .reset_index()
    )
    return sums.assign(r=sums["r"] / sums["n"])


def _range_without(found: pd.DataFrame, rests: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """For every group the least and the greatest r with one layer left out, and the layer that moves r most."""
    known = rests.merge(found[[*by, "pearson"]], on=by).dropna(subset=["r", "pearson"])
    moved = known.assign(moved=(known["r"] - known["pearson"]).abs()).sort_values(
        "moved", ascending=False, kind="stable"
    )
    grouped = moved.groupby(by, observed=True)
    return grouped.agg(
        loo_min=("r", "min"), loo_max=("r", "max"), loo_layer=("layer", "first")
    ).reset_index()


def _check(filters: pd.DataFrame, by: list[str], trim: float = 0.0) -> None:
    if "layer" not in filters.columns:
        had = ", ".join(map(str, filters.columns))
        raise AnalysisError(
            f"the table has no column layer, only [{had}]; pass the filters table of a log"
        )
    if not by or "layer" in by:
        raise AnalysisError(
            f"by is {by}; group by what whole networks share, such as ['run', 'epoch'], so that a group has several layers"
        )
    if not 0 <= trim < 1:
        raise AnalysisError(
            f"trim={trim!r}; give the share of filters to leave out, from 0 to below 1, such as 0.01"
        )
