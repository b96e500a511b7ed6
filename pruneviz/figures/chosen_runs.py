"""Which recorded runs, and which of their epochs, a figure is drawn from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import different, listed
from pruneviz.log.runs import Runs
from pruneviz.log.schema import FILTER_KEYS
from pruneviz.plans.needs import FIGURE_NEEDS

# Facts that runs of different seeds share; a mean over runs that differ in one of them would be a mean over nothing in particular.
RECIPE = (
    "preset", "width", "epochs", "bn", "temperatures", "lag", "sample_size", "every", "train_images", "batch_size", "lr",
    "unit", "measure", "target", "rounds", "schedule", "prune_at_start", "carry_momentum", "keep_at_least", "prune_phase_only",
    "flowandprune",
)  # fmt: skip
# Facts that the measures of one panel share; otherwise it would compare more than measures.
COMPARED = (
    "width",
    "epochs",
    "train_images",
    "batch_size",
    "lr",
    "target",
    "schedule",
    "prune_at_start",
    "carry_momentum",
    "flowandprune",
)

DATASET_ORDER = (
    "cifar10",
    "cifar100",
)  # panels from left to right; other data sets stand after these
GROUP = [
    "network",
    "dataset",
    "measure",
    "rounds",
]  # runs that are equal in these differ by their seed
KIND_WORDS: Mapping[str, str] = {
    "unpruned": "unpruned",
    "weights": "unpruned, measured by single weights",
    "pruned": "pruned and trained to the end",
    "prune_phase": "pruning rounds alone",
    "pruned weights": "pruned, measured by single weights",
}
_OWN_DATASETS = {need.dataset for need in FIGURE_NEEDS.values()} - {None}


@dataclass(frozen=True)
class RunGroup:
    """One combination of which a figure needs a run, of any seed; `dataset` None where any data set would do."""

    network: str
    measure: str | None
    rounds: int
    dataset: str | None


def kinds_of(spec: pd.DataFrame) -> pd.Series:
    """What every run of a spec table is: "unpruned", "weights", "pruned" or "prune_phase" (see `pruneviz.plans.planning.Need`)."""
    pruned = (spec["rounds"].fillna(0) > 0) | (spec["target"].fillna(0) > 0)
    by_filter = np.select(
        [pruned & spec["prune_phase_only"].eq(True), pruned], ["prune_phase", "pruned"], "unpruned"
    )
    by_weight = np.where(pruned, "pruned weights", "weights")  # the former make no figure
    return pd.Series(np.where(spec["unit"] == "weight", by_weight, by_filter), index=spec.index)


def chosen_spec(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The rows of a spec table (`runs.spec`) of a figure: the runs of its kind, by network, data set, rounds, measure and seed.

    Combinations without a run are left out. Errors: `FigureError` when no run is left, when two runs share all of these, when the runs
    to be averaged differ in more than their seed, or those of one panel in more than their measure.
    """
    datasets = chosen_datasets(spec, entry, options)
    chosen = _of_kind(spec, entry)
    chosen = chosen[chosen["dataset"].isin(datasets)]
    if chosen.empty:
        what = f"finished run of {listed(entry.networks)}{f' on {listed(datasets)}' if datasets else ''} ({KIND_WORDS[entry.need.kind]})"
        raise FigureError(f"no {what} is among {_held(spec)}; record one")
    for _, rows in chosen.groupby(GROUP, observed=True, dropna=False):
        _check_equal_but_for_seed(rows)
    for _, rows in chosen.groupby(["network", "dataset", "rounds"], observed=True):
        _check_equal(rows, COMPARED, "runs that are compared in one panel")
    places = {
        name: chosen[name].map(list(order).index)
        for name, order in _orders(entry, datasets).items()
    }
    keys = chosen.assign(**places).sort_values(
        ["network", "dataset", "rounds", "measure", "seed", "run"]
    )
    return chosen.loc[keys.index].reset_index(drop=True)


def chosen_datasets(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> tuple[str, ...]:
    """The data sets of a figure, in the order of its panels: the one asked for, or the figure's own, else what is recorded.

    Of what is recorded an accuracy curve shows every data set, and every other figure one: CIFAR-100, else the only one. Empty where
    nothing is recorded. Errors: `FigureError` when several others are recorded and none was asked for.
    """
    if entry.need.dataset is not None:
        return (entry.need.dataset,)
    if options.dataset is not None:
        return (options.dataset,)
    recorded = sorted(map(str, different(_of_kind(spec, entry)["dataset"])))
    if entry.need.kind == "pruned":
        return tuple(
            sorted(recorded, key=lambda name: (*(name != known for known in DATASET_ORDER), name))
        )
    if entry.dataset in recorded:
        return (entry.dataset,)
    several = [name for name in recorded if name not in _OWN_DATASETS] or recorded
    if len(several) > 1:
        raise FigureError(
            f"{listed(entry.networks)} is recorded on {listed(several)}; choose one with the option dataset (--dataset)"
        )
    return tuple(several)


def missing_runs(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> tuple[RunGroup, ...]:
    """The combinations that a figure shows and of which no finished run is recorded, in the order of the figure."""
    datasets: tuple[str | None, ...] = chosen_datasets(spec, entry, options) or (None,)
    chosen = _of_kind(spec, entry)
    measures = [None] * len(chosen) if entry.need.measures == (None,) else chosen["measure"]
    there = {
        RunGroup(*row)
        for row in zip(
            chosen["network"], measures, chosen["rounds"], chosen["dataset"], strict=True
        )
    }
    wanted = itertools.product(entry.networks, datasets, entry.need.rounds, entry.need.measures)
    return tuple(run for run in (RunGroup(n, m, r, d) for n, d, r, m in wanted) if run not in there)


def is_recorded(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> bool:
    """Whether there is any run to draw a figure from."""
    return bool(_of_kind(spec, entry)["dataset"].isin(chosen_datasets(spec, entry, options)).any())


def filters_of(
    runs: Runs,
    spec: pd.DataFrame,
    columns: Sequence[str],
    epochs: Sequence[int] | None = None,
    complete: Sequence[str] = (),
) -> pd.DataFrame:
    """The filters of the runs of `spec`, with their keys and `columns`: at these epochs (all by default), where none of `complete` is null.

    Errors: `LogError` naming the columns that were not recorded.
    """
    return runs.named(spec["run"]).read(
        "filters", list(dict.fromkeys([*FILTER_KEYS, *columns])), epochs, complete
    )


def common_epochs(filters: pd.DataFrame, spec: pd.DataFrame) -> list[int]:
    """The epochs of which a filters table has rows of all the runs of `spec`, ascending."""
    runs = filters.groupby("epoch")["run"].nunique()
    return [int(epoch) for epoch in runs.index[runs == len(spec)]]


def nearest_epochs(epochs: Sequence[int], schedule: int, fractions: Sequence[float]) -> list[int]:
    """Of `epochs` those nearest to the given fractions of a schedule, without repeats: 0, 1/4 and 1 of 160 are 0, 40 and 160."""
    known = np.asarray(epochs)
    return list(
        dict.fromkeys(
            int(known[np.argmin(np.abs(known - fraction * schedule))]) for fraction in fractions
        )
    )


def _of_kind(spec: pd.DataFrame, entry: Entry) -> pd.DataFrame:
    """The runs of the kind, networks, measures and rounds that a figure needs, on any data set."""
    need = entry.need
    of_kind = spec[
        (kinds_of(spec) == need.kind)
        & spec["network"].isin(need.networks)
        & spec["rounds"].fillna(0).isin(need.rounds)
    ]
    return of_kind if need.measures == (None,) else of_kind[of_kind["measure"].isin(need.measures)]


def _orders(entry: Entry, datasets: Sequence[str]) -> dict[str, Sequence[object]]:
    need = entry.need
    measures = {} if need.measures == (None,) else {"measure": need.measures}
    return {"network": need.networks, "dataset": datasets, "rounds": need.rounds, **measures}


def _held(spec: pd.DataFrame) -> str:
    if spec.empty:
        return "the recordings, which hold nothing"
    kinds = (
        spec.assign(kind=kinds_of(spec).map(KIND_WORDS))[["network", "dataset", "kind"]]
        .drop_duplicates()
        .itertuples(index=False)
    )
    return "the recordings, which hold " + listed(
        f"{network} on {dataset} ({kind})" for network, dataset, kind in kinds
    )


def _check_equal_but_for_seed(rows: pd.DataFrame) -> None:
    twice = rows[rows.duplicated("seed", keep=False)]
    if len(twice):
        raise FigureError(
            f"runs {listed(twice['run'])} share network, data set and seed; keep one of them in this folder"
        )
    _check_equal(rows, RECIPE, "runs to be averaged over seeds")


def _check_equal(rows: pd.DataFrame, facts: Sequence[str], what: str) -> None:
    for fact in (name for name in facts if name in rows.columns):
        if len(different(rows[fact])) > 1:
            each = "; ".join(
                f"{run}: {value}" for run, value in zip(rows["run"], rows[fact], strict=True)
            )
            raise FigureError(
                f"{what} differ in {fact} ({each}); keep runs that differ in folders of their own"
            )
