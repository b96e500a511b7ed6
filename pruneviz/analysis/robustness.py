"""Robustness of correlations: without outliers, single layers or layer means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import as_names, require_columns
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.moments import merged, moments, pearson
from pruneviz.analysis.pairs import complete_pairs, grouped, values_of
from pruneviz.analysis.run_facts import table_of
from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import exactly, is_number
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod

_X, _Y = "_x", "_y"
_FAR = "_far"
_NUMBERS = ("n", "r", "pearson", "spearman", "trimmed", "within_layers", "layer_mean")
_RESULTS = frozenset((_X, _Y, _FAR, *_NUMBERS, "loo_min", "loo_max", "loo_layer"))


def robustness(
    filters: Runs | pd.DataFrame,
    x: AnyMeasure,
    y: AnyMeasure,
    by: str | Sequence[str] = ("run", "epoch"),
    trim: float = 0.01,
) -> pd.DataFrame:
    """Correlate two quantities, and once more without outliers, single layers or layer means.

    Rows in which x or y is null or infinite do not count.

    Args:
        filters: Runs, or a filters table with a column `layer`.
        x: Column, or pruning measure, as for `pruneviz.score`.
        y: Column, or pruning measure.
        by: Columns to group by; a group needs several layers.
        trim: Fraction of filters that `trimmed` leaves out, from 0 to below 1.

    Returns:
        One row per group that has complete pairs, sorted: the `by` columns, n (number of filters)
        and these correlations, each from -1 to 1, null where undefined:

        - pearson, spearman: over all filters.
        - trimmed: Pearson's r without the fraction `trim` (rounded up) of the filters farthest out,
          by the sum of squared distances of x and y from their means in standard deviations. These
          filters affect r the most.
        - within_layers: Pearson's r after subtracting each layer's mean from x and y, so
          differences between layers do not contribute. Layers with more spread still weigh more.
        - layer_mean: mean over layers of Pearson's r in a single layer, weighted by their number of
          filters, so the scales of layers do not matter. Layers without an r (fewer than 3 filters,
          or constant) are left out.
        - loo_min, loo_max: least and greatest Pearson's r with one layer left out (see
          `leave_one_layer_out`). loo_layer: the layer whose absence changes r most.

    Raises:
        AnalysisError: If the table has no column `layer`; if `by` is empty or names `layer`; if
            `trim` is outside [0, 1); as for `pruneviz.correlate`.
        ScoreError: If the table lacks a column that a measure needs.

    Example:
        >>> runs = pv.load("data/cifar-mini")
        >>> pv.robustness(runs, "theta_g", "theta_hg")
    """
    by = as_names(by)
    table = table_of(filters, [x, y], [*by, "layer"])
    _check(table, by, trim)
    pairs = _pairs(table, x, y, by)
    found = _r(pairs, by).rename(columns={"r": "pearson"})
    parts = {
        "spearman": _r(pairs, by, "spearman"),
        "trimmed": _r(_without_outliers(pairs, by, trim), by),
        "within_layers": _r(_centred(_scaled(pairs, by), [*by, "layer"]), by),
        "layer_mean": _layer_mean(pairs, by),
    }
    for name, part in parts.items():
        found = found.merge(part.rename(columns={"r": name})[[*by, name]], on=by, how="left")
    rests = _without_each_layer(pairs, by, "pearson")
    return found.merge(_range_without(found, rests, by), on=by, how="left")


def leave_one_layer_out(
    filters: Runs | pd.DataFrame,
    x: AnyMeasure,
    y: AnyMeasure,
    by: str | Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "pearson",
) -> pd.DataFrame:
    """Correlate two quantities over the filters of every group with one layer left out in turn.

    Rows in which x or y is null or infinite do not count.

    Args:
        filters: Runs, or a filters table with a column `layer`.
        x: Column, or pruning measure, as for `pruneviz.score`.
        y: Column, or pruning measure.
        by: Columns to group by; a group needs several layers.
        method: "pearson", "spearman", "kendall" or "symlog", as for `pruneviz.correlate`.

    Returns:
        One row per group and layer, sorted by group, layers in table order: the `by` columns, layer
        (the one left out), n (number of filters in the others), r (null if undefined).

    Raises:
        AnalysisError: If the table has no column `layer`; if `by` is empty or names `layer`; as for
            `pruneviz.correlate`.
        ScoreError: If the table lacks a column that a measure needs.

    Example:
        >>> pv.leave_one_layer_out(runs, "theta_g", "theta_hg", method="spearman")
    """
    by = as_names(by)
    table = table_of(filters, [x, y], [*by, "layer"])
    _check(table, by)
    return _without_each_layer(_pairs(table, x, y, by), by, method)


def _pairs(filters: pd.DataFrame, x: AnyMeasure, y: AnyMeasure, by: list[str]) -> pd.DataFrame:
    """The `by` columns, layer, x and y for every filter with finite x and y."""
    correlate(filters.head(0), x, y, by=by, interval=None)  # raises errors about x, y and by
    values = {_X: values_of(filters, x), _Y: values_of(filters, y)}
    pairs = filters[[*by, "layer"]].assign(**values)
    finite = np.isfinite(pairs[[_X, _Y]].to_numpy()).all(axis=1)
    return pairs[finite].dropna(subset=by).reset_index(drop=True)  # null keys make no group


def _r(pairs: pd.DataFrame, by: list[str], method: CorrelationMethod = "pearson") -> pd.DataFrame:
    return correlate(pairs, _X, _Y, by=by, method=method, interval=None)[[*by, "n", "r"]]


def _without_each_layer(
    pairs: pd.DataFrame, by: list[str], method: CorrelationMethod
) -> pd.DataFrame:
    numbers, layers = pd.factorize(pairs["layer"])  # -1: filters of no layer, in every rest
    pairs = pairs.assign(layer=numbers)
    groups = pairs.loc[numbers >= 0, [*by, "layer"]].drop_duplicates(ignore_index=True)
    if method == "pearson":
        rests = list(_pearson_without_each_layer(pairs, by))
    else:
        rests = [
            _r(pairs[numbers != number], by, method).assign(layer=number)
            for number in range(len(layers))
        ]
    if rests:
        found = groups.merge(pd.concat(rests, ignore_index=True), on=[*by, "layer"], how="left")
        found = found.fillna({"n": 0}).astype({"n": "int64"})
    else:
        found = groups.assign(n=0, r=np.nan)
    names = np.asarray(layers, dtype="object")[found["layer"].to_numpy(dtype="int64")]
    found["layer"] = pd.Series(names, dtype="object")
    return found.sort_values(by, kind="stable", ignore_index=True)


def _pearson_without_each_layer(pairs: pd.DataFrame, by: list[str]) -> Iterator[pd.DataFrame]:
    """Pearson's r of every group without one layer, from the moments of the other layers.

    `layer` is the number of a layer; -1 for none.
    """
    of_layers = complete_pairs(pairs, _X, _Y, [*by, "layer"])
    if of_layers.keys.empty:
        return
    parts = moments(of_layers.x, of_layers.y, of_layers.starts)
    keys, order, starts = grouped(of_layers.keys[by])
    parts, numbers = parts[order], of_layers.keys["layer"].to_numpy()[order]
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    for number in np.unique(numbers[numbers >= 0]):
        others = np.flatnonzero((numbers != number) & np.isin(group, group[numbers == number]))
        if not len(others):
            continue
        first = np.flatnonzero(np.diff(group[others], prepend=-1))
        rest = merged(parts[others], first)
        without = keys.iloc[group[others[first]]].reset_index(drop=True)
        yield without.assign(n=rest.n, r=pearson(rest), layer=number)


def _scaled(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The pairs divided by a power of two near the largest of their group, so that squares fit.

    This rounds nothing but values that are nothing beside the largest.
    """
    keys = [pairs[name] for name in by]
    largest = pairs[[_X, _Y]].abs().groupby(keys, observed=True).transform("max")
    exponents = np.frexp(largest.to_numpy(dtype="float64", na_value=np.nan))[1]
    return pairs.assign(**(pairs[[_X, _Y]] / np.ldexp(1.0, exponents - 1)))


def _centred(pairs: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    """The pairs minus their means in each group; exactly 0 where all are equal."""
    known = pairs.dropna(subset=groups)
    if known.empty:
        return pairs.assign(**{_X: np.nan, _Y: np.nan})
    of_group = known.groupby(groups, observed=True)[[_X, _Y]]
    away = pairs[[_X, _Y]] - of_group.transform("mean")
    # a mean of equal numbers may be off by its rounding, which would pass for their deviation
    equal = of_group.transform("min") == of_group.transform("max")
    return pairs.assign(**away.mask(equal.reindex(pairs.index, fill_value=False), 0.0))


def _without_outliers(pairs: pd.DataFrame, by: list[str], trim: float) -> pd.DataFrame:
    """The pairs without the fraction `trim` of each group that lies farthest out."""
    squares = _centred(_scaled(pairs, by), by)
    squares[[_X, _Y]] **= 2
    variances = squares.groupby(by, observed=True)[[_X, _Y]].transform("mean")
    squares[_FAR] = (squares[[_X, _Y]] / variances).sum(axis=1)
    distances = squares.groupby(by, observed=True)[_FAR]
    farthest = distances.rank(method="first", ascending=False)
    sizes, share = distances.transform("size"), exactly(trim)
    return pairs[farthest > sizes.map({n: math.ceil(share * int(n)) for n in sizes.unique()})]


def _layer_mean(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    layers = _r(pairs, [*by, "layer"]).dropna(subset=["r"])
    weighted = layers.assign(r=layers["r"] * layers["n"])
    sums = weighted.groupby(by, observed=True)[["r", "n"]].sum().reset_index()
    return sums.assign(r=sums["r"] / sums["n"])


def _range_without(found: pd.DataFrame, rests: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Least and greatest r with one layer left out, and the layer that changes r most."""
    known = rests.merge(found[[*by, "pearson"]], on=by).dropna(subset=["r", "pearson"])
    known = known.assign(**{_FAR: (known["r"] - known["pearson"]).abs()})
    known = known.sort_values(_FAR, ascending=False, kind="stable")
    groups = known.groupby(by, observed=True)
    parts = groups.agg(loo_min=("r", "min"), loo_max=("r", "max"), loo_layer=("layer", "first"))
    return parts.reset_index()


def _check(filters: pd.DataFrame, by: list[str], trim: float = 0.0) -> None:
    require_columns(filters, ["layer"], "the table", "pass the filters table of a log")
    if not by or "layer" in by:
        raise AnalysisError(
            f"by is {by}; group by columns that whole networks share, such as ['run', 'epoch'], "
            "so that a group has several layers"
        )
    if taken := sorted(_RESULTS.intersection(by)):
        raise AnalysisError(
            f"by names {', '.join(taken)}, as the result has a column; rename that of the table"
        )
    if not (is_number(trim) and 0 <= trim < 1):
        raise AnalysisError(
            f"trim={trim!r}; give the fraction of filters to leave out, from 0 to below 1, such as "
            "0.01"
        )
