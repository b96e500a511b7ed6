"""Pictures of any recordings by `pruneviz.plot`, with the texts and files of a figure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pruneviz import plot
from pruneviz.errors import FigureError
from pruneviz.figures.alt_text import AltText
from pruneviz.figures.caption import Caption, cut
from pruneviz.figures.composed import Composed, save_composed
from pruneviz.figures.details import SCHEMA, facts_of, plain, records
from pruneviz.figures.drawn_words import drawn_words
from pruneviz.figures.long_caption import recording_lines, runs_in_words
from pruneviz.figures.own import OwnPicture
from pruneviz.figures.plot_kinds import KINDS
from pruneviz.figures.plot_texts import main_numbers, title_of, value_rows
from pruneviz.log.runs import Runs
from pruneviz.plot.epoch_axes import is_accuracy
from pruneviz.plot.row_kind import ROW_KINDS_BY_UNIT


def compose_plot(
    kind: str, runs: Runs, network: str, arguments: Mapping[str, Any], name: str
) -> Composed:
    """Draw a picture of a kind, with its numbers and texts.

    Args:
        kind: Name in `pruneviz.figures.plot_kinds.KINDS`.
        runs: The runs to draw.
        network: Title of what is shown.
        arguments: Arguments of the plot function, besides the runs.
        name: Name of the files, without extension.

    Raises:
        PrunevizError: As the plot function raises.
    """
    function = getattr(plot, KINDS[kind].function)
    of_table = inspect.signature(function.table).parameters
    numbers = function.table(runs, **{k: v for k, v in arguments.items() if k in of_table})
    words = Caption(
        title=title_of(kind, network, arguments),
        drawn=drawn_words(kind, numbers, arguments, _noun(runs.spec, arguments)),
        found=main_numbers(kind, numbers, arguments),
        made=runs_in_words(_spec(runs, numbers), arguments),
    )
    alt = AltText(
        words.title, f"{words.drawn} {words.found}", ("neural-network pruning", kind, network)
    )
    return Composed(
        picture=function(runs, **arguments),
        numbers=numbers,
        tables={},
        words=words,
        alt=alt,
        details=_details(kind, name, words, numbers, _spec(runs, numbers), arguments),
    )


def save_plot(
    picture: OwnPicture, runs: Runs, stem: Path, formats: Sequence[str], *, some: bool = False
) -> list[Path]:
    """Draw a picture of any runs and write its files.

    Args:
        picture: What to draw.
        runs: Its runs.
        stem: Path of the files without extension.
        formats: Picture formats.
        some: Whether an accuracy picture may leave out runs without accuracies.

    Returns:
        Paths of the files, as `save_composed` returns them.

    Raises:
        PrunevizError: As the plot function raises, or if a file cannot be written.
    """
    if some and picture.kind == "accuracy":
        runs = _with_accuracies(runs)
    arguments = _first_held(picture, runs)
    composed = compose_plot(picture.kind, runs, picture.network, arguments, stem.name)
    return save_composed(composed, stem, formats)


def _first_held(picture: OwnPicture, runs: Runs) -> Mapping[str, Any]:
    """The first arguments whose quantities the runs hold; the last ones if none are."""
    *others, last = picture.arguments
    held = (arguments for arguments in others if _is_held(picture.kind, runs, arguments))
    return next(held, last)


def _is_held(kind: str, runs: Runs, arguments: Mapping[str, Any]) -> bool:
    found = KINDS[kind]
    named = {name: value for name, value in arguments.items() if name in ("x", "y", "unit")}
    try:
        getattr(plot, found.function).table(runs, **named, **found.trial)
    except FigureError:
        return False
    return True


def _with_accuracies(runs: Runs) -> Runs:
    """The runs that hold some accuracy; all if none does."""
    epochs = runs.epochs
    columns = [name for name in map(str, epochs) if is_accuracy(name)]
    known = set(epochs.loc[epochs[columns].notna().any(axis="columns"), "run"].astype(str))
    return runs.named(known) if known else runs


def _noun(spec: pd.DataFrame, arguments: Mapping[str, Any]) -> str:
    """What the rows are: those of the chosen unit, else filters, else the only kind."""
    units = list(map(str, spec["unit"]))
    usual = "filter" if "filter" in units else units[0]
    return ROW_KINDS_BY_UNIT[str(arguments.get("unit") or usual)].noun


def _spec(runs: Runs, numbers: pd.DataFrame) -> pd.DataFrame:
    """Facts about the drawn runs: those in the numbers, or all where these name none."""
    if "run" not in numbers or "seeds" in numbers:  # points stand for the means over runs, too
        return runs.spec
    return runs.spec[runs.spec["run"].isin(set(numbers["run"].astype(str)))]


def _details(
    kind: str,
    name: str,
    words: Caption,
    numbers: pd.DataFrame,
    spec: pd.DataFrame,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    shared, runs = facts_of(spec)
    text = [*cut(words.title, 9), *cut(words.drawn, 99), *cut(words.found, 99)]
    return {
        "schema": SCHEMA,
        "name": name,
        "title": words.title,
        "kind": kind,
        "description": words.drawn,
        "claim": None,
        "finding": words.found,
        "missing": None,
        "values": records(value_rows(kind, numbers)),
        "tables": {},
        "options": {"drawing": plain(arguments), "recording": shared},
        "runs": runs,
        "alt": f"{words.drawn} {words.found}",
        "text": [*text, "Options in force", *recording_lines(spec)],
    }
