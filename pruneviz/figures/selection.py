"""Which recorded runs, and which of their epochs, a figure is drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import different, listed
from pruneviz.runlog import Runs
from pruneviz.schema import check_columns

# Facts that runs of different seeds share; a mean over runs that differ in one of them would be a mean over nothing in particular.
RECIPE = ("preset", "width", "epochs", "bn", "temperatures", "lag", "sample_size", "every", "train_images", "batch_size", "lr")


def chosen_spec(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The rows of a spec table (`runs.spec`) of a figure: the unpruned runs of its networks on one data set, by network and seed.

    Networks without a run are left out. Errors: `FigureError` when no run is left, when two runs share network and seed, or when
    the runs of a network differ in more than their seed.
    """
    dataset = chosen_dataset(spec, entry, options)
    chosen = _unpruned(spec)
    chosen = chosen[chosen["network"].isin(entry.networks) & (chosen["dataset"] == dataset)]
    if chosen.empty:
        raise FigureError(f"no finished, unpruned run of {listed(entry.networks)} on {dataset} is among {_held(spec)}; record one")
    for _, rows in chosen.groupby("network", observed=True):
        _check_equal_but_for_seed(rows)
    place = chosen["network"].map(entry.networks.index)
    return chosen.assign(place=place).sort_values(["place", "seed", "run"], ignore_index=True).drop(columns="place")


def chosen_dataset(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> str:
    """The data set of a figure: the one asked for, else the figure's own if recorded, else the only one recorded.

    Errors: `FigureError` when several others are recorded and none was asked for.
    """
    unpruned = _unpruned(spec)
    recorded = sorted(map(str, different(unpruned.loc[unpruned["network"].isin(entry.networks), "dataset"])))
    if options.dataset is not None:
        return options.dataset
    if entry.dataset in recorded or not recorded:
        return entry.dataset
    if len(recorded) > 1:
        raise FigureError(f"{listed(entry.networks)} is recorded on {listed(recorded)}; choose one with the option dataset (--dataset)")
    return recorded[0]


def missing_networks(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> tuple[str, ...]:
    """The networks of a figure of which no finished, unpruned run on the chosen data set is recorded."""
    unpruned = _unpruned(spec)
    there = set(unpruned.loc[unpruned["dataset"] == chosen_dataset(spec, entry, options), "network"])
    return tuple(network for network in entry.networks if network not in there)


def filters_of(runs: Runs, spec: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of `runs.filters` that belong to the runs of `spec`, with their keys and `columns`.

    Errors: `LogError` naming the columns that were not recorded.
    """
    check_columns(runs.filters, list(columns), "the filters table", "record the runs with the columns that the figure needs")
    filters = runs.filters.loc[runs.filters["run"].isin(spec["run"]), ["run", "epoch", "layer", "filter", *columns]]
    return filters.assign(run=filters["run"].cat.remove_unused_categories())


def measured_epochs(filters: pd.DataFrame, columns: Sequence[str]) -> list[int]:
    """The epochs at which every run of a filters table holds `columns`, ascending."""
    measured = filters.dropna(subset=list(columns)).groupby("run", observed=False)["epoch"].unique()
    return sorted(set.intersection(*(set(map(int, epochs)) for epochs in measured))) if len(measured) else []


def nearest_epochs(epochs: Sequence[int], schedule: int, fractions: Sequence[float]) -> list[int]:
    """Of `epochs` those nearest to the given fractions of a schedule, without repeats: 0, 1/4 and 1 of 160 are 0, 40 and 160."""
    known = np.asarray(epochs)
    return list(dict.fromkeys(int(known[np.argmin(np.abs(known - fraction * schedule))]) for fraction in fractions))


def _unpruned(spec: pd.DataFrame) -> pd.DataFrame:
    return spec[(spec["rounds"].fillna(0) == 0) & (spec["target"].fillna(0) == 0) & (spec["unit"] == "filter")]


def _held(spec: pd.DataFrame) -> str:
    pairs = spec[["network", "dataset"]].drop_duplicates().itertuples(index=False)
    return "the recordings, which hold " + (listed(f"{network} on {dataset}" for network, dataset in pairs) if len(spec) else "nothing")


def _check_equal_but_for_seed(rows: pd.DataFrame) -> None:
    twice = rows[rows.duplicated("seed", keep=False)]
    if len(twice):
        raise FigureError(f"runs {listed(twice['run'])} share network, data set and seed; keep one of them in this folder")
    for fact in (name for name in RECIPE if name in rows.columns):
        values = different(rows[fact])
        if len(values) > 1:
            each = "; ".join(f"{run}: {value}" for run, value in zip(rows["run"], rows[fact], strict=True))
            raise FigureError(f"runs to be averaged over seeds differ in {fact} ({each}); keep runs that differ in folders of their own")
