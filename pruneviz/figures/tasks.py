"""Pictures to draw from a folder, each with what it lacks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pruneviz.errors import FigureError, PrunevizError
from pruneviz.figures.catalogue import FIGURES, Entry, file_stem, find
from pruneviz.figures.options import DrawOptions

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.figures.chosen_runs import RunGroup
    from pruneviz.figures.own import OwnPicture
    from pruneviz.figures.plot_kinds import Arguments, PlotOptions
    from pruneviz.figures.workers import Work
    from pruneviz.log.runs import Runs

# pandas and matplotlib are imported where they are used, so that --help is fast.


@dataclass(frozen=True)
class Place:
    """Folders and formats.

    Attributes:
        data: Folder with the recordings, as it was given.
        out: Folder for the figures.
        formats: Picture formats.
    """

    data: Path
    out: Path
    formats: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One picture to draw.

    Attributes:
        name: As messages name it, such as "figure 3".
        stem: Name of its files without extension.
        notes: Lines to print before.
        lacks: Lines about what is missing; not empty if the picture is incomplete.
        work: Draws it; None if there is nothing to draw from.
        optional: Whether the picture is left out, rather than missed, if its runs do not allow it.
    """

    name: str
    stem: str
    notes: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    work: Work | None = None
    optional: bool = False


def all_tasks(runs: Runs, place: Place, options: DrawOptions) -> list[Task]:
    """All pictures that a folder allows: figures of the paper, then those of other runs.

    Figures of which no run is recorded are named only in a folder that `pruneviz record` filled,
    with a preset that records their runs.
    """
    from pruneviz.figures.chosen_runs import chosen_spec, has_recorded_runs
    from pruneviz.figures.missing import made_by_record, recordable
    from pruneviz.figures.own import ALIKE, own_pictures

    spec, complete = runs.spec, made_by_record(runs.spec) or not len(runs.spec)
    tasks, apart = [], []
    for figure in (name for name in FIGURES if recordable(spec, name)):
        entry = find(figure)
        if entry.need.dataset is not None and entry.need.dataset not in set(spec["dataset"]):
            continue
        try:
            recorded = has_recorded_runs(spec, entry, options)
            if recorded:
                chosen_spec(spec, entry, options)
        except FigureError as error:
            kind = ALIKE[entry.kind]
            apart += [(network, kind) for network in entry.networks]
            tasks.append(
                Task(f"figure {figure}", file_stem(figure), (_told_apart(figure, kind, error),))
            )
            continue
        if recorded or complete:
            tasks.append(figure_task(figure, runs, place, options))
    pictures = own_pictures(spec, place.data.resolve().name, apart)
    return [*tasks, *(plot_task(picture, runs, place, optional=True) for picture in pictures)]


def figure_task(figure: str, runs: Runs, place: Place, options: DrawOptions) -> Task:
    """A figure of the paper."""
    from pruneviz.figures.chosen_runs import has_recorded_runs, missing_runs

    entry, name, stem = find(figure), f"figure {figure}", file_stem(figure)
    try:
        absent = missing_runs(runs.spec, entry, options)
        drawable = has_recorded_runs(runs.spec, entry, options)
    except PrunevizError as error:
        return Task(name, stem, lacks=(f"{name} is not drawn: {error}",))
    lacks = _lacks(figure, absent, runs.spec, place, options) if absent else ()
    work = partial(_save_figure, figure, runs, place, options)
    return Task(name, stem, lacks=lacks, work=work if drawable else None)


def plot_task(picture: OwnPicture, runs: Runs, place: Place, optional: bool = False) -> Task:
    """A picture of any runs."""
    work = partial(_save_plot, picture, runs.named(picture.runs), place, optional)
    return Task(picture.stem, picture.stem, work=work, optional=optional)


def kind_tasks(
    kind: str,
    runs: Runs,
    place: Place,
    arguments: tuple[Arguments, ...],
    asked: PlotOptions,
    dataset: str | None,
) -> list[Task]:
    """Pictures of one kind, of the chosen networks and runs."""
    from pruneviz.figures.own import pictures_of_kind, selected

    spec = selected(runs.spec, asked.network or (), asked.runs or (), dataset)
    pictures = pictures_of_kind(kind, spec, place.data.resolve().name, arguments)
    return [plot_task(picture, runs, place) for picture in pictures]


def _lacks(
    figure: str,
    absent: Sequence[RunGroup],
    spec: pd.DataFrame,
    place: Place,
    options: DrawOptions,
) -> tuple[str, ...]:
    """What a figure lacks, and what to do about it; never to record among runs of other origin."""
    from pruneviz.figures.chosen_runs import has_recorded_runs
    from pruneviz.figures.missing import commands, held, made_by_record, told
    from pruneviz.figures.own import ALIKE

    entry = find(figure)
    drawable = has_recorded_runs(spec, entry, options)
    first = f"figure {figure} lacks {told(entry, absent)}"
    if made_by_record(spec) or not len(spec):
        record = commands(figure, entry, absent, spec, str(place.data), place.data.resolve().name)
        lines = (first, f"  record with: {' && '.join(record)}")
        return lines if drawable else (*lines, *_elsewhere(figure, entry, place, options))
    if drawable:
        return (first,)
    draw = f"pruneviz figures --kind {ALIKE[entry.kind]} --data {shlex.quote(str(place.data))}"
    return f"{first}; {place.data} holds {held(spec)}", f"  draw what is there with: {draw}"


def _elsewhere(figure: str, entry: Entry, place: Place, options: DrawOptions) -> list[str]:
    """How to draw a figure from a folder beside that has its runs, if there is one."""
    from pruneviz.figures.chosen_runs import chosen_spec, has_recorded_runs
    from pruneviz.log.found_runs import folders_beside
    from pruneviz.log.runs import finished

    for folder in folders_beside(place.data):
        try:
            spec = finished(folder).spec
            if has_recorded_runs(spec, entry, options):
                chosen_spec(spec, entry, options)
                named = shlex.quote(folder)
                command = ["pruneviz", "figures", figure, "--data", folder]
                if options.dataset:
                    command += ["--dataset", options.dataset]
                return [f"  or draw it from {named}: {shlex.join(command)}"]
        except PrunevizError:  # unfinished, damaged, or of several kinds: not to be advised
            continue
    return []


def _told_apart(figure: str, kind: str, error: FigureError) -> str:
    return f"figure {figure} is left to {kind} pictures, which tell its runs apart: {error}"


def _save_figure(figure: str, runs: Runs, place: Place, options: DrawOptions) -> list[Path]:
    """Draw and write a figure of the paper; only the process that draws loads matplotlib."""
    from pruneviz.figures import draw

    return draw.save_figure(figure, runs, place.out, options=options, formats=list(place.formats))


def _save_plot(picture: OwnPicture, runs: Runs, place: Place, some: bool) -> list[Path]:
    """Draw and write a picture of any runs."""
    from pruneviz.figures.plot_pictures import save_plot

    return save_plot(picture, runs, place.out / picture.stem, place.formats, some=some)
