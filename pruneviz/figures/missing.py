"""What to say about the runs that a figure lacks: which they are, and the commands that record them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pruneviz.figures.catalogue import Entry, network_title
from pruneviz.figures.chosen_runs import (
    KIND_WORDS,
    RunGroup,
    chosen_spec,
    is_recorded,
    missing_runs,
)
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import counted, dataset_title, listed, measure_title
from pruneviz.plans.planning import record_command
from pruneviz.plans.presets import PRESETS


def in_words(absent: Sequence[RunGroup]) -> str:
    """The missing runs as a caption names them: `VGG-13 pruned by Magnitude and Proposed in 1 and 5 rounds on CIFAR-10`."""
    networks = list(dict.fromkeys(run.network for run in absent))
    if all(run.measure is None for run in absent):
        datasets = dict.fromkeys(dataset_title(run.dataset) for run in absent if run.dataset)
        return listed(map(network_title, networks)) + (
            f" on {listed(datasets)}" if datasets else ""
        )
    return "; ".join(
        _pruned(network, [run for run in absent if run.network == network]) for network in networks
    )


def told(entry: Entry, absent: Sequence[RunGroup]) -> str:
    """The missing runs of a figure as a command names them, with what kind of runs they are."""
    return f"{in_words(absent)} ({KIND_WORDS[entry.need.kind]})"


def _pruned(network: str, absent: Sequence[RunGroup]) -> str:
    """The missing pruned runs of one network; measures that lack the same rounds are named together."""
    measures = dict.fromkeys(run.measure for run in absent)
    lacks = {
        measure: tuple((run.dataset, run.rounds) for run in absent if run.measure == measure)
        for measure in measures
    }
    alike = [
        (where, [measure for measure in measures if lacks[measure] == where])
        for where in dict.fromkeys(lacks.values())
    ]
    parts = [
        f"by {listed(measure_title(str(measure)) for measure in names)} {_where(where)}"
        for where, names in alike
    ]
    return f"{network_title(network)} pruned {', '.join(parts)}"


def _where(places: Sequence[tuple[str | None, int]]) -> str:
    rounds = dict.fromkeys(rounds for _, rounds in places)
    datasets = dict.fromkeys(dataset_title(dataset) for dataset, _ in places if dataset)
    return f"in {listed(rounds)} round{'' if list(rounds) == [1] else 's'}" + (
        f" on {listed(datasets)}" if datasets else ""
    )


def status(spec: pd.DataFrame, entry: Entry, options: DrawOptions) -> str:
    """What the recordings hold of a figure, and what they lack."""
    absent = missing_runs(spec, entry, options)
    if not is_recorded(spec, entry, options):
        return f"not recorded: {told(entry, absent)}"
    chosen = chosen_spec(spec, entry, options)
    held = f"recorded on {listed(map(dataset_title, dict.fromkeys(chosen['dataset'])))}, {counted(chosen['seed'].nunique(), 'seed')}"
    return f"{held}; lacks {told(entry, absent)}" if absent else held


def commands(
    figure: str,
    entry: Entry,
    absent: Sequence[RunGroup],
    spec: pd.DataFrame,
    data: str,
    folder: str,
) -> list[str]:
    """The commands that record the missing runs of a figure as the runs beside them were recorded.

    Args: `spec`, the facts of those other runs; `data`, the folder as it was given, and `folder`, its name.
    Returns one command where the preset's own data sets are missing, else one for each data set.
    """
    preset = _preset(spec, folder)
    networks = [
        network for network in entry.networks if any(run.network == network for run in absent)
    ]
    chosen = networks if len(networks) < len(entry.networks) else []
    datasets = dict.fromkeys(run.dataset for run in absent)
    return [
        record_command(preset, data, figures=[figure], networks=chosen, dataset=name)
        for name in _named(preset, entry, list(datasets))
    ]


def _named(preset: str, entry: Entry, datasets: Sequence[str | None]) -> list[str | None]:
    """The data sets that commands must name; [None] where the preset records the right ones by itself."""
    own = PRESETS[preset].datasets if entry.need.kind == "pruned" else PRESETS[preset].datasets[-1:]
    by_itself = {None, *((entry.need.dataset,) if entry.need.dataset else own)}
    return [None] if set(datasets) <= by_itself else list(datasets)


def _preset(spec: pd.DataFrame, folder: str) -> str:
    """The preset that the recordings were made with, else the one that their folder is named after, else the small one."""
    used = [preset for preset in spec["preset"] if preset in PRESETS]
    return used[0] if used else folder if folder in PRESETS else "digits"
