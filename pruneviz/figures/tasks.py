"""Pictures to draw from a folder, each with what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pruneviz.errors import PrunevizError
from pruneviz.figures.catalogue import file_stem, find
from pruneviz.figures.options import DrawOptions

if TYPE_CHECKING:
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
        lacks: Lines about what is missing; not empty if the picture is incomplete.
        work: Draws it; None if there is nothing to draw from.
    """

    name: str
    stem: str
    lacks: tuple[str, ...] = ()
    work: Work | None = None


def figure_task(figure: str, runs: Runs, place: Place, options: DrawOptions) -> Task:
    """A figure of the paper."""
    from pruneviz.figures.chosen_runs import has_recorded_runs, missing_runs
    from pruneviz.figures.missing import commands, told

    entry, name, data = find(figure), f"figure {figure}", place.data
    try:
        absent = missing_runs(runs.spec, entry, options)
        drawable = has_recorded_runs(runs.spec, entry, options)
    except PrunevizError as error:
        return Task(name, file_stem(figure), (f"{name} is not drawn: {error}",))
    lacks: tuple[str, ...] = ()
    if absent:
        record = commands(figure, entry, absent, runs.spec, str(data), data.resolve().name)
        lacks = (f"{name} lacks {told(entry, absent)}", f"  record with: {' && '.join(record)}")
    work = partial(_save_figure, figure, runs, place, options)
    return Task(name, file_stem(figure), lacks, work if drawable else None)


def _save_figure(figure: str, runs: Runs, place: Place, options: DrawOptions) -> list[Path]:
    """Draw and write a figure of the paper; only the process that draws loads matplotlib."""
    from pruneviz.figures import draw

    return draw.save_figure(figure, runs, place.out, options=options, formats=list(place.formats))
