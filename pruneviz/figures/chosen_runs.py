"""Which recorded runs a figure is drawn from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pruneviz.analysis.settings import different, kinds_of, results_of, settings_of
from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.options import DrawOptions
from pruneviz.log.vocabulary import CNN_ROW_KINDS
from pruneviz.plans.needs import FIGURE_NEEDS
from pruneviz.plot.groups import with_groups
from pruneviz.plot.words import listed

# Runs that are equal in these facts, and in their setting if there are several, differ only in
# their seed.
SETTING = "run_setting"  # column of chosen runs that tells them apart in words
GROUP = ["network", "dataset", "measure", "rounds"]
# Panels from left to right; other data sets follow in alphabetical order.
DATASET_ORDER = ("cifar10", "cifar100")
# Title of runs that name no data set, as runs of a custom training loop may.
UNNAMED_DATASET = "an unnamed data set"
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
    """Runs that differ only in their seed; `dataset` is None if any data set will do."""

    network: str
    measure: str | None
    rounds: int
    dataset: str | None


def chosen_spec(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """Choose the runs of a figure.

    Args:
        spec: Facts about all runs (`runs.spec`).
        entry: The figure.
        options: Drawing options.

    Returns:
        Rows of `spec`, ordered by network, data set, rounds, measure, setting and seed.
        Combinations without a run are left out. Where runs of one panel differ in more than their
        measure and seed, such as in their batch-norm mode, the column `SETTING` tells them apart in
        words.

    Raises:
        FigureError: If no run is left, or if two runs share all of these.
    """
    datasets = chosen_datasets(spec, entry, options)
    chosen = _of_kind(spec, entry)
    chosen = chosen[chosen["dataset"].isin(datasets)]
    if chosen.empty:
        raise FigureError(_nothing_chosen(spec, entry, datasets))
    chosen = _with_settings(chosen)
    for _, rows in chosen.groupby([*GROUP, *_setting_in(chosen)], observed=True, dropna=False):
        _check_seeds(rows)
    orders = _orders(entry, datasets)
    orders |= {name: list(different(chosen[name])) for name in _setting_in(chosen)}
    places = {name: chosen[name].map(list(order).index) for name, order in orders.items()}
    keys = chosen.assign(**places).sort_values(
        ["network", "dataset", "rounds", "measure", *_setting_in(chosen), "seed", "run"]
    )
    return chosen.loc[keys.index].reset_index(drop=True)


def chosen_datasets(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> tuple[str, ...]:
    """Choose the data sets for a figure, in panel order.

    These are the figure's own data set or the requested one. Otherwise an accuracy curve shows all
    recorded data sets, and any other figure CIFAR-100 or the only recorded one.

    Returns:
        Data set names; empty if nothing is recorded.

    Raises:
        FigureError: If several others are recorded and none was requested.
    """
    if entry.need.dataset is not None:
        return (entry.need.dataset,)
    if options.dataset is not None:
        return (options.dataset,)
    recorded = sorted(map(str, different(_of_kind(spec, entry)["dataset"])))
    recorded = [name for name in recorded if name != UNNAMED_DATASET] or recorded
    if entry.need.kind == "pruned":
        return tuple(sorted(recorded, key=_panel_place))
    if entry.dataset in recorded:
        return (entry.dataset,)
    several = [name for name in recorded if name not in _OWN_DATASETS] or recorded
    if len(several) > 1:
        raise FigureError(
            f"{listed(entry.networks)} is recorded on {listed(several)}; choose one with the "
            "option dataset (--dataset)"
        )
    return tuple(several)


def missing_runs(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> tuple[RunGroup, ...]:
    """Combinations that a figure shows but that have no finished run, in figure order."""
    datasets: tuple[str | None, ...] = chosen_datasets(spec, entry, options) or (None,)
    chosen = _of_kind(spec, entry)
    measures = [None] * len(chosen) if entry.need.measures == (None,) else chosen["measure"]
    rows = zip(chosen["network"], measures, chosen["rounds"], chosen["dataset"], strict=True)
    recorded = {RunGroup(*row) for row in rows}
    need = entry.need
    shown = [
        RunGroup(network, measure, rounds, dataset)
        for network, dataset, rounds, measure in itertools.product(
            need.networks, datasets, need.rounds, need.measures
        )
    ]
    return tuple(group for group in shown if group not in recorded)


def has_recorded_runs(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> bool:
    """Whether there is any run to draw a figure from."""
    datasets = chosen_datasets(spec, entry, options)
    return bool(_of_kind(spec, entry)["dataset"].isin(datasets).any())


def _of_kind(spec: pd.DataFrame, entry: Entry) -> pd.DataFrame:
    """Runs of the kind, networks, measures and rounds that a figure needs, on any data set."""
    need = entry.need
    of_kind = spec[
        (kinds_of(spec) == need.kind)
        & spec["network"].isin(need.networks)
        & spec["rounds"].fillna(0).isin(need.rounds)
    ]
    of_kind = _of_one_unit(of_kind)
    of_kind = of_kind.assign(dataset=_named_datasets(of_kind))
    return of_kind if need.measures == (None,) else of_kind[of_kind["measure"].isin(need.measures)]


def _of_one_unit(spec: pd.DataFrame) -> pd.DataFrame:
    """The runs of filters (or single weights); if there are none, those of another unit.

    Raises:
        FigureError: If they have rows of several other units.
    """
    plain = spec[spec["unit"].isin(CNN_ROW_KINDS)]
    others = list(map(str, different(spec["unit"])))
    if len(plain) or len(others) < 2:
        return plain if len(plain) else spec
    raise FigureError(
        f"these runs have rows of {listed(others)}; choose one kind first, such as with "
        f"runs.select(unit={others[0]!r})"
    )


def _named_datasets(spec: pd.DataFrame) -> pd.Series:
    named = spec["dataset"].notna()
    if named.all():
        return spec["dataset"]
    return spec["dataset"].astype(object).where(named, UNNAMED_DATASET)


def _panel_place(dataset: str) -> tuple[object, ...]:
    """Sort key that puts the data sets of `DATASET_ORDER` first, in that order."""
    return (*(dataset != known for known in DATASET_ORDER), dataset)


def _orders(entry: Entry, datasets: Sequence[str]) -> dict[str, Sequence[object]]:
    need = entry.need
    measures = {} if need.measures == (None,) else {"measure": need.measures}
    return {"network": need.networks, "dataset": datasets, "rounds": need.rounds, **measures}


def _nothing_chosen(spec: pd.DataFrame, entry: Entry, datasets: Sequence[str]) -> str:
    where = f" on {listed(datasets)}" if datasets else ""
    what = f"finished run of {listed(entry.networks)}{where} ({KIND_WORDS[entry.need.kind]})"
    others = list(dict.fromkeys(spec.loc[kinds_of(spec) == entry.need.kind, "network"].dropna()))
    instead = [name for name in others if name not in entry.networks]
    hint = f", or draw another network with networks={instead[:3]}" if instead else ""
    return f"no {what} is among {_held(spec)}; record one{hint}"


def _held(spec: pd.DataFrame) -> str:
    if spec.empty:
        return "the recordings, which hold nothing"
    facts = spec.assign(dataset=_named_datasets(spec), kind=kinds_of(spec).map(KIND_WORDS))
    rows = facts[["network", "dataset", "kind"]].drop_duplicates().itertuples(index=False)
    return "the recordings, which hold " + listed(
        f"{network} on {dataset} ({kind})" for network, dataset, kind in rows
    )


def _with_settings(chosen: pd.DataFrame) -> pd.DataFrame:
    """Tell runs of one panel apart that differ in more than their measure and seed."""
    facts = settings_of(chosen.drop(columns="measure"), results_of(chosen))
    others = [name for name in facts if name not in GROUP]
    if not others:
        return chosen
    return with_groups(chosen, others)[0].rename(columns={"group": SETTING})


def _setting_in(spec: pd.DataFrame) -> list[str]:
    return [SETTING] if SETTING in spec else []


def _check_seeds(rows: pd.DataFrame) -> None:
    twice = rows[rows.duplicated("seed", keep=False)]
    if len(twice):
        raise FigureError(
            f"runs {listed(twice['run'])} share network, data set and seed; keep one of them in "
            "this folder"
        )
