"""The numbers of a plot of flow: changes and predictions of filters, or their fit by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import pandas as pd

from pruneviz.analysis.gradient_flow import KNOWN, change_of, flow_rows, flow_table
from pruneviz.errors import FigureError, PrunevizError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.runs import Runs
from pruneviz.plot.source import Chosen, only_epochs

By: TypeAlias = Literal["filter", "layer"]

RUN = "the run"  # name of a run in the table of a meter without a recorder
_FIT = ["n", "slope", "r2", "explained"]


def flow_numbers(
    source: Runs | pd.DataFrame,
    prediction: str = "momentum",
    *,
    by: By = "filter",
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
) -> pd.DataFrame:
    """The numbers of `pruneviz.plot.flow`, which describes the arguments.

    Returns:
        By filter: run, epoch, depth, layer, filter, predicted and change (sums over the metered
        steps of the epoch), and the fit over all filters of the run at the epoch: n, slope, r2 and
        explained, as in `pruneviz.flow_table`. By layer: run, epoch, depth, layer and the fit over
        the filters of the layer.

    Raises:
        FigureError: If an argument is unknown, or nothing was recorded.
    """
    if by not in ("filter", "layer"):
        raise FigureError(f"by={by!r}; choose 'filter' or 'layer'")
    if prediction not in KNOWN:
        raise FigureError(unknown_name("prediction", str(prediction), KNOWN))
    try:
        rows = flow_rows(_chosen(source, runs), prediction)
    except PrunevizError as error:
        raise FigureError(str(error)) from error
    rows = rows.assign(run=rows["run"].astype(str).replace("", RUN))
    shown = only_epochs(list(rows["epoch"]), _default(rows) if epochs is None else epochs)
    rows = rows[rows["epoch"].isin(shown)].reset_index(drop=True)
    rows = rows.assign(layer=rows["layer"].astype(str), depth=_depths(rows))
    keys = ["run", "epoch"]
    if by == "layer":
        fit = flow_table(rows, prediction, by=[*keys, "layer"])
        found = rows[[*keys, "depth", "layer"]].drop_duplicates()
        return found.merge(fit[[*keys, "layer", *_FIT]], on=[*keys, "layer"])
    fit = flow_table(rows, prediction, by=keys)[[*keys, *_FIT]]
    points = rows.assign(predicted=rows[prediction], change=rows[change_of(prediction)])
    columns = [*keys, "depth", "layer", "filter", "predicted", "change"]
    return points[columns].merge(fit, on=keys)


def _chosen(source: Runs | pd.DataFrame, runs: Chosen) -> Runs | pd.DataFrame:
    if runs is None:
        return source
    if isinstance(runs, Mapping):
        if not isinstance(source, Runs):
            raise FigureError("a table has no facts of its runs; choose runs by name, or leave out")
        return source.select(**runs)
    held = source.spec if isinstance(source, Runs) else source
    known = list(dict.fromkeys(held["run"].astype(str)))
    for name in as_tuple(runs):
        if name not in known:
            raise FigureError(unknown_name("run", str(name), known))
    if isinstance(source, Runs):
        return source.named(as_tuple(runs))
    return source[source["run"].astype(str).isin(as_tuple(runs))]


def _default(rows: pd.DataFrame) -> list[int]:
    """The first metered epoch, the middle one and the last."""
    there = sorted({int(epoch) for epoch in rows["epoch"]})
    return sorted({there[0], there[len(there) // 2], there[-1]})


def _depths(rows: pd.DataFrame) -> pd.Series:
    """Place of every row's layer in the network, from 1: layers stand in its order."""
    places: dict[tuple[str, str], int] = {}
    counts: dict[str, int] = {}
    for run, layer in zip(rows["run"], rows["layer"], strict=True):
        if (run, layer) not in places:
            counts[run] = counts.get(run, 0) + 1
            places[run, layer] = counts[run]
    keys = zip(rows["run"], rows["layer"], strict=True)
    return pd.Series([places[key] for key in keys], index=rows.index)
