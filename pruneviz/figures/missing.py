"""Messages about runs that a figure lacks: their names and the commands that record them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pruneviz.console.words import counted
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import (
    KIND_WORDS,
    RunGroup,
    chosen_spec,
    has_recorded_runs,
    kinds_of,
    missing_runs,
)
from pruneviz.figures.options import DrawOptions
from pruneviz.plans.planning import record_command
from pruneviz.plans.presets import PRESETS
from pruneviz.plot.words import dataset_title, listed, measure_title, network_title


def in_words(absent: Sequence[RunGroup]) -> str:
    """Missing runs as a caption names them: `VGG-13 pruned by Magnitude in 1 and 5 rounds`."""
    networks = list(dict.fromkeys(group.network for group in absent))
    if all(group.measure is None for group in absent):
        return listed(map(network_title, networks)) + _on_datasets(
            [group.dataset for group in absent]
        )
    return "; ".join(
        _pruned(network, [group for group in absent if group.network == network])
        for network in networks
    )


def told(entry: Entry, absent: Sequence[RunGroup]) -> str:
    """Missing runs as the command line prints them, with their kind."""
    return f"{in_words(absent)} ({KIND_WORDS[entry.need.kind]})"


def status(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> str:
    """Which runs of a figure are recorded and which are missing."""
    absent = missing_runs(spec, entry, options)
    if not has_recorded_runs(spec, entry, options):
        return f"not recorded: {told(entry, absent)}"
    chosen = chosen_spec(spec, entry, options)
    datasets = listed(map(dataset_title, dict.fromkeys(chosen["dataset"])))
    there = f"recorded on {datasets}, {counted(chosen['seed'].nunique(), 'seed')}"
    return f"{there}; lacks {told(entry, absent)}" if absent else there


def made_by_record(spec: pd.DataFrame) -> bool:
    """Whether `pruneviz record` made all runs, so that it may record further ones beside them."""
    return bool(len(spec)) and bool(spec["preset"].notna().all())


def recordable(spec: pd.DataFrame, figure: str) -> bool:
    """Whether the runs of a figure may stand beside these, by what their presets record."""
    used = [PRESETS[preset] for preset in spec["preset"] if preset in PRESETS]
    return not used or len(used) < len(spec) or any(figure in preset.figures for preset in used)


def held(spec: pd.DataFrame) -> str:
    """The runs of a folder in words: `mine (unpruned) and mine (pruned and trained to the end)`."""
    facts = pd.DataFrame({"network": spec["network"], "kind": kinds_of(spec).map(KIND_WORDS)})
    return listed(
        f"{'runs without a network name' if pd.isna(network) else network_title(network)} ({kind})"
        for network, kind in facts.drop_duplicates().itertuples(index=False)
    )


def commands(
    figure: str,
    entry: Entry,
    absent: Sequence[RunGroup],
    spec: pd.DataFrame,
    data: str,
    folder: str,
) -> list[str]:
    """Commands that record the missing runs of a figure.

    They use the preset with which the other runs in the folder were recorded; if it does not
    record those of the figure, another one and its own folder.

    Args:
        figure: Figure name.
        entry: The figure.
        absent: The missing runs.
        spec: Facts about the recorded runs.
        data: Path of the recordings, as it was given.
        folder: Name of that folder.

    Returns:
        One command if the preset records the right data sets by itself, else one per data set.
    """
    preset = _preset(spec, folder, figure)
    out = data if recordable(spec, figure) else f"data/{preset}"
    lacking = {group.network for group in absent}
    networks = [network for network in entry.networks if network in lacking]
    chosen = networks if len(networks) < len(entry.networks) else []
    datasets = list(dict.fromkeys(group.dataset for group in absent))
    return [
        record_command(preset, out, figures=[figure], networks=chosen, dataset=name)
        for name in _named(preset, entry, datasets)
    ]


def _pruned(network: str, absent: Sequence[RunGroup]) -> str:
    """Missing pruned runs of one network; measures that lack the same runs are named together."""
    lacks: dict[str, list[tuple[str | None, int]]] = {}
    for group in absent:
        lacks.setdefault(str(group.measure), []).append((group.dataset, group.rounds))
    together: dict[tuple[tuple[str | None, int], ...], list[str]] = {}
    for measure, places in lacks.items():
        together.setdefault(tuple(places), []).append(measure_title(measure))
    parts = [f"by {listed(titles)} {_where(places)}" for places, titles in together.items()]
    return f"{network_title(network)} pruned {', '.join(parts)}"


def _where(places: Sequence[tuple[str | None, int]]) -> str:
    rounds = list(dict.fromkeys(rounds for _, rounds in places))
    noun = "round" if rounds == [1] else "rounds"
    return f"in {listed(rounds)} {noun}" + _on_datasets([dataset for dataset, _ in places])


def _on_datasets(datasets: Sequence[str | None]) -> str:
    titles = dict.fromkeys(dataset_title(dataset) for dataset in datasets if dataset)
    return f" on {listed(titles)}" if titles else ""


def _named(preset: str, entry: Entry, datasets: Sequence[str | None]) -> list[str | None]:
    """Data sets that commands must name; [None] if the preset records the right ones."""
    recorded = PRESETS[preset].datasets
    if entry.need.kind != "pruned":
        recorded = recorded[-1:]
    if entry.need.dataset:
        recorded = (entry.need.dataset,)
    return [None] if set(datasets) <= {None, *recorded} else list(datasets)


def _preset(spec: pd.DataFrame, folder: str, figure: str) -> str:
    """The first that records a figure: the recordings', that of the folder's name, digits."""
    names = [*spec["preset"], folder, "digits"]
    return next(name for name in names if name in PRESETS and figure in PRESETS[name].figures)
