"""The numbers of `pv.plot.trajectory`: a quantity of filters or layers over epochs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.runs import Runs
from pruneviz.plot.recorded import (
    Wanted,
    check_held,
    depths_of,
    epochs_of_group,
    groups_of,
    known_quantity,
    lowest_seed,
    values_of,
)
from pruneviz.plot.source import Chosen, Source, asked_epochs, runs_of

Filters: TypeAlias = str | Iterable[tuple[str, int]] | pd.DataFrame | None

# Columns of quantiles, and their fractions of the filters.
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


def trajectory_table(
    source: Source,
    y: AnyMeasure,
    *,
    filters: Filters = None,
    layers: str | Sequence[str] | None = None,
    epochs: Wanted = None,
    runs: Chosen = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """The numbers of `pv.plot.trajectory`, from the same arguments.

    Returns:
        Of layers, one row per group of runs, layer and epoch: group, depth (of the layer, from 1),
        layer, epoch, y (name of the quantity), seeds (runs that have values), filters (kept filters
        with a finite value, of all seeds together), infinite (those without), pruned (filters that
        are gone, of all seeds), and the quantiles p05, p25, p50, p75, p95, null if there is no
        value.
        Of chosen filters, one row per group, filter and epoch, for the run with the lowest seed:
        group, depth, layer, filter, weight (of single weights), epoch, y, run, seeds (runs in the
        group), value (null where the filter is pruned) and pruned (whether it is).

    Raises:
        FigureError: If y, a layer, a filter, an epoch or a run is unknown, or y has no values;
            lists what is there.
    """
    epochs, whole = asked_epochs(epochs), runs_of(source, runs, unit)
    check_held(whole, [y])
    name = known_quantity(whole, y).name
    if isinstance(filters, str):
        layers = _one_layer(filters, layers)
        filters = None
    if filters is not None and layers is not None:
        raise FigureError("filters= names single filters and layers= whole layers; give one")
    groups = [_of(label, group, y, name) for label, group in groups_of(whole, by)]
    groups = [group for group in groups if group.epochs]
    if not groups:
        raise FigureError(f"every value of {name} is null; choose another column or measure")
    known = sorted({epoch for group in groups for epoch in group.epochs})
    rows = pd.concat([group.rows for group in groups])
    names = chosen_layers(rows, layers)
    wanted = None if filters is None else _chosen_filters(rows, filters)
    parts = []
    for group in groups:
        at = epochs_of_group(group.epochs, known, epochs)
        found = _by_layer(group, names, at) if wanted is None else _singly(group, wanted, at)
        parts.append(found.assign(group=group.label, y=name))
    table = pd.concat(parts, ignore_index=True)
    if not len(table):
        raise FigureError(f"{name} has no value in these layers; choose others")
    first = ["group", "depth", "layer"]
    return table[[*first, *(column for column in table if column not in first)]]


def chosen_layers(rows: pd.DataFrame, layers: str | Sequence[str] | None) -> list[str]:
    """Names of layers.

    Args:
        rows: Rows of the filters table.
        layers: Names, or patterns such as "stage1.*". Default: all.

    Raises:
        FigureError: If there is no such layer; lists those that there are.
    """
    known = list(map(str, pd.unique(rows["layer"])))
    if layers is None:
        return known
    found: list[str] = []
    for name in [layers] if isinstance(layers, str) else layers:
        matching = [name] if name in known else fnmatch.filter(known, name)
        if not matching:
            raise FigureError(unknown_name("layer", name, known))
        found += matching
    return list(dict.fromkeys(found))


@dataclass(frozen=True, repr=False)
class _Group:
    """Runs that differ in their seed.

    Attributes:
        label: What tells the group from others.
        first: Run with the lowest seed.
        rows: Rows of `values_of`, with the quantity as `value` and the depth of the layer.
        epochs: Epochs at which there is a value.
    """

    label: str
    first: str
    rows: pd.DataFrame
    epochs: list[int]


def _of(label: str, group: Runs, y: AnyMeasure, name: str) -> _Group:
    rows = values_of(group, [y]).rename(columns={name: "value"})
    rows = rows.assign(depth=rows["layer"].map(depths_of(rows)).astype("int64"))
    epochs = sorted(map(int, rows.loc[rows["value"].notna(), "epoch"].unique()))
    return _Group(label, str(lowest_seed(group).spec["run"].iloc[0]), rows, epochs)


def _one_layer(name: str, layers: object) -> str:
    if layers is not None:
        raise FigureError(f"filters={name!r} names a layer, and layers= names others; give one")
    return name


def _by_layer(group: _Group, names: Sequence[str], epochs: Sequence[int]) -> pd.DataFrame:
    rows = group.rows[group.rows["layer"].isin(names)]
    held = rows.loc[rows["value"].notna(), "layer"].unique()
    rows = rows[rows["layer"].isin(held) & rows["epoch"].isin(epochs)]
    values = rows["value"].to_numpy()
    rows = rows.assign(
        value=np.where(np.isinf(values), np.nan, values),
        infinite=np.isinf(values),
        pruned=~rows["kept"],
        seed=rows["run"].where(rows["value"].notna()),
    )
    groups = rows.groupby(["depth", "layer", "epoch"], observed=True, sort=True)
    counts = groups.agg(
        seeds=("seed", "nunique"),
        filters=("value", "count"),
        infinite=("infinite", "sum"),
        pruned=("pruned", "sum"),
    )
    quantiles = groups["value"].quantile(np.array(list(QUANTILES.values()))).unstack()  # noqa: PD010
    quantiles = quantiles.reindex(columns=list(QUANTILES.values()))  # none without rows
    quantiles.columns = list(QUANTILES)
    return counts.join(quantiles).reset_index().astype({"layer": "str"})


def _chosen_filters(rows: pd.DataFrame, filters: Any) -> pd.DataFrame:
    """The filters that were asked for as a table of keys."""
    keys = ["layer", "filter", *_weight_key(rows)]
    if isinstance(filters, pd.DataFrame):
        found = filters[[key for key in keys if key in filters]]
    else:
        listed = (
            [filters]
            if isinstance(filters, tuple) and isinstance((*filters, 0)[0], str)
            else filters
        )
        found = _keys(list(as_tuple(listed)), keys)
    if not len(found):
        raise FigureError(
            "filters= names no filter; give pairs such as ('conv1', 3), or leave it out"
        )
    for layer, number in found[["layer", "filter"]].itertuples(index=False):
        _check_filter(rows, str(layer), number)
    return found.drop_duplicates().astype({"layer": "str"})


def _weight_key(rows: pd.DataFrame) -> list[str]:
    return ["weight"] if "weight" in rows and rows["weight"].notna().any() else []


def _keys(chosen: list[tuple[Any, ...]], keys: list[str]) -> pd.DataFrame:
    tuples = all(isinstance(one, (tuple, list)) for one in chosen)
    lengths = {len(one) if tuples else 0 for one in chosen}
    if not lengths <= set(range(2, len(keys) + 1)) or len(lengths) > 1:
        raise FigureError(
            f"filters={chosen!r}, expected the name of a layer, or tuples of {', '.join(keys)}, "
            "such as [('conv1', 0), ('conv1', 3)]"
        )
    return pd.DataFrame(chosen, columns=keys[: min(lengths, default=2)])


def _check_filter(rows: pd.DataFrame, layer: str, number: int) -> None:
    mine = rows.loc[rows["layer"].astype(str) == layer, "filter"]
    if not len(mine):
        raise FigureError(unknown_name("layer", layer, list(map(str, pd.unique(rows["layer"])))))
    if number not in set(mine):
        raise FigureError(
            f"layer {layer} has no filter {number}; it has {mine.nunique()} from {mine.min()} to "
            f"{mine.max()}"
        )


def _singly(group: _Group, wanted: pd.DataFrame, epochs: Sequence[int]) -> pd.DataFrame:
    rows = group.rows[group.rows["run"] == group.first].astype({"run": "str", "layer": "str"})
    found = rows[rows["epoch"].isin(epochs)].merge(wanted, on=list(wanted.columns))
    found = found.assign(pruned=~found["kept"], seeds=group.rows["run"].nunique())
    keys = ["depth", "layer", "filter", *_weight_key(found)]
    in_order = found.sort_values([*keys, "epoch"], ignore_index=True)
    return in_order[[*keys, "epoch", "run", "seeds", "value", "pruned"]]
