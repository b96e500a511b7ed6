"""A recorded epoch in few numbers: what sinks get while a network trains."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.measures import resolve
from pruneviz.analysis.run_facts import table_of
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod

METHODS: tuple[CorrelationMethod, ...] = ("pearson", "spearman")
# Columns of which every layer has quantiles, where they are recorded.
QUANTITIES = ("theta", "theta_norm2", "sigma", "theta_g", "abs_theta_g", "theta_hg", "delta_loss")
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}

_GRADIENT_FLOW = "theta_hg"  # and the same at other temperatures
_TARGETS = ("delta_loss", "loss_preservation")  # what other measures are correlated with


def aggregates(runs: Runs) -> dict[str, float]:
    """The aggregates of a run at one epoch.

    Pruned rows do not count in correlations and quantiles, and what is null has no entry.

    Args:
        runs: One run, with the rows of one epoch.

    Returns:
        Numbers by name:

        - `epoch/NAME`: every number of the epochs table, such as `epoch/mask_distance`,
          `epoch/kept_fraction` and facts of one's own;
        - `pearson/X/Y` and `spearman/X/Y`: correlation of `theta_g` with every recorded `theta_hg`,
          and of `loss_preservation` and `delta_loss` with every other recorded measure of pruneviz;
          of single weights those of the table `correlations`, over all weights of the network;
        - `COLUMN/LAYER/q10`, `/q50` and `/q90`: quantiles of the recorded ones among `QUANTITIES`
          in every layer.

    Example:
        >>> aggregates(runs)["pearson/theta_g/theta_hg"]
    """
    found = {**_facts(runs.epochs), **_correlations(runs), **_quantiles(runs.filters)}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _facts(epochs: pd.DataFrame) -> dict[str, float]:
    numbers = epochs.drop(columns=["run", "epoch"]).select_dtypes("number")
    return {f"epoch/{name}": float(numbers[name].iloc[-1]) for name in numbers if len(numbers)}


def _correlations(runs: Runs) -> dict[str, float]:
    if len(runs.correlations):
        rows = runs.correlations.to_dict("records")
        return {f"{row['method']}/{row['x']}/{row['y']}": float(row["r"]) for row in rows}
    found = {}
    for x, y in _pairs(runs):
        table = table_of(runs, [x, y], ("layer", "kept"))
        kept = table[table["kept"].ne(False).fillna(True)]
        for method in METHODS:
            r = correlate(kept, x, y, by=[], method=method, interval=None)["r"]
            found[f"{method}/{x}/{y}"] = float(r.iloc[0]) if len(r) else math.nan
    return found


def _pairs(runs: Runs) -> Iterator[tuple[str, str]]:
    columns = runs.recorded("filters")
    if "theta_g" in columns:
        flow = [name for name in columns if name.startswith(_GRADIENT_FLOW) and "_se" not in name]
        yield from (("theta_g", name) for name in flow)
    # a measure of one's own may fail, or take long
    measures = [name for name in recorded_measures(runs) if not resolve(name).own]
    for target in (name for name in _TARGETS if name in measures):
        yield from ((target, name) for name in measures if name not in (target, _TARGETS[0]))


def _quantiles(filters: pd.DataFrame) -> dict[str, float]:
    held = [name for name in QUANTITIES if name in filters and filters[name].notna().any()]
    if not held:
        return {}
    kept = filters[filters["kept"].ne(False).fillna(True)]
    layers = kept[held].astype("float64").groupby(kept["layer"], observed=True, sort=False)
    return {
        f"{column}/{layer}/{name}": value
        for name, quantile in QUANTILES.items()
        for column, values in layers.quantile(quantile).to_dict().items()
        for layer, value in values.items()
    }
