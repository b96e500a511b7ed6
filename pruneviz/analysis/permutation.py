"""Permutation tests of correlations, by units that the null hypothesis lets be exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import as_names, check_draws, require_columns
from pruneviz.analysis.coefficients import TRANSFORMS, transformed
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.pairs import complete_pairs
from pruneviz.analysis.run_facts import table_of
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod

Null = Literal["layers", "within_layers"]

_EXACT = 12  # layers up to which all signs are tried
_TIE = 1e-12  # relative difference below which two statistics count as equal


def permutation_test(
    filters: Runs | pd.DataFrame,
    x: AnyMeasure,
    y: AnyMeasure,
    by: str | Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "pearson",
    null: Null = "layers",
    *,
    resamples: int = 999,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether two quantities are correlated, with layers as what is independent.

    Filters of a layer are alike, so shuffling filters over the whole network finds a correlation
    wherever layers differ. Two null hypotheses respect layers:

    - "layers": no correlation over layers. The contribution of each layer to the covariance has
      either sign with equal chance, so signs of whole layers are flipped. Layers may have
      correlations of their own, as long as these cancel. Contributions are taken about the mean of
      all rows, so of layers of very unequal size 5 to 10 % of p-values are below 0.05.
    - "within_layers": no association in any layer, whatever layers have in common. Values of y are
      shuffled within each layer. Rejects as soon as some layer has an association, so r need not
      be of one sign; filters of a layer must be exchangeable.

    Args:
        filters: Runs, or a filters table with a column `layer`.
        x: Column, or pruning measure, as for `pruneviz.score`.
        y: Column, or pruning measure.
        by: Columns to group by; a group needs several layers.
        method: "pearson", "spearman" or "symlog", as for `pruneviz.correlate`.
        null: The null hypothesis.
        resamples: Number of random flips or shuffles; of up to 12 layers all flips are tried.
        seed: Seed of these.

    Returns:
        One row per group that has complete pairs, sorted: the `by` columns, n, r and p, two-sided,
        at least 1 / (resamples + 1); of k layers by flips at least 2 / 2^k. p is null where r is.

    Raises:
        AnalysisError: If the table has no column `layer` or `by` names it; if `method` or `null` is
            unknown; if `resamples` or `seed` is no whole number; as for `pruneviz.correlate`.
        ScoreError: If the table lacks a column that a measure needs.

    References:
        Winkler et al., "Multi-level block permutation", NeuroImage 2015: exchangeable blocks.
        Phipson and Smyth, 2010: p-values of random permutations are never zero.

    Example:
        >>> pv.permutation_test(pv.load("data/cifar-mini"), "theta_g", "theta_hg")
    """
    by = as_names(by)
    _check(by, method, null)
    check_draws(resamples, seed)
    table = table_of(filters, [x, y], [*by, "layer"])
    require_columns(table, ["layer"], "the table", "pass the filters table of a log")
    found = correlate(table, x, y, by=by, method=method, interval=None)
    pairs = complete_pairs(table, x, y, by, ["layer"])
    a, b = pairs.x, pairs.y
    if len(pairs.starts):
        a, b = transformed(a, b, pairs.starts, method)
    test = _flipped if null == "layers" else _shuffled
    p = np.full(len(found), np.nan)
    for group in np.flatnonzero(found["r"].notna().to_numpy()):
        rows = slice(pairs.starts[group], pairs.starts[group] + pairs.n[group])
        p[group] = test(a[rows], b[rows], pairs.units[0, rows], resamples, seed)
    return found[[*by, "n", "r"]].assign(p=p)


def _flipped(x: np.ndarray, y: np.ndarray, layer: np.ndarray, resamples: int, seed: int) -> float:
    """p-value of the covariance among those with signs of layers flipped."""
    products = (x - x.mean()) * (y - y.mean())
    of_layers = np.bincount(np.unique(layer, return_inverse=True)[1], products)
    count = len(of_layers)
    if count <= _EXACT:
        # One layer keeps its sign: flipping all of them changes no size.
        signs = 1 - 2 * ((np.arange(2 ** (count - 1))[:, np.newaxis] >> np.arange(count)) & 1)
        return float(_as_large(signs @ of_layers, of_layers.sum()).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (resamples, count))
    return _p_value(signs @ of_layers, of_layers.sum())


def _shuffled(x: np.ndarray, y: np.ndarray, layer: np.ndarray, resamples: int, seed: int) -> float:
    """p-value of the covariance among those with y shuffled within layers.

    Two-sided about the mean of the shuffles, which is the covariance of the layers' means.
    """
    order = np.lexsort((y, x, layer))  # whatever order the rows came in
    x, y, layer = x[order] - x.mean(), y[order], layer[order]
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for draw in range(resamples):
        drawn[draw] = x @ y[np.lexsort((generator.random(len(y)), layer))]
    first = np.flatnonzero(np.append(True, layer[1:] != layer[:-1]))
    sizes = np.diff(first, append=len(x))
    centre = np.add.reduceat(x, first) @ (np.add.reduceat(y, first) / sizes)
    return _p_value(drawn - centre, x @ y - centre)


def _as_large(drawn: np.ndarray, seen: float) -> np.ndarray:
    return np.abs(drawn) >= abs(seen) * (1 - _TIE)


def _p_value(drawn: np.ndarray, seen: float) -> float:
    return float((1 + _as_large(drawn, seen).sum()) / (1 + len(drawn)))


def _check(by: list[str], method: str, null: str) -> None:
    if method not in TRANSFORMS:
        raise AnalysisError(unknown_name("correlation method of this test", method, TRANSFORMS))
    if null not in get_args(Null):
        raise AnalysisError(unknown_name("null hypothesis", null, get_args(Null)))
    if "layer" in by:
        raise AnalysisError(
            f"by is {by}; group by columns that whole networks share, such as ['run', 'epoch'], "
            "so that a group has several layers"
        )
