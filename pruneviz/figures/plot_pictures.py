"""Pictures of any recordings by `pruneviz.plot`, with the texts and files of a figure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pruneviz import plot
from pruneviz.analysis.settings import different
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
from pruneviz.figures.verdict_words import brief_of, claim_of, finding_of, verdicts_on_plot
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import is_accuracy
from pruneviz.plot import accuracy_plot, correlation_plot
from pruneviz.plot.curve_table import one_per_training
from pruneviz.plot.mean_masks import mask_ratio_of
from pruneviz.plot.row_kind import ROW_KINDS_BY_UNIT

_NO_OPTIONS = ("source", "runs", "ax")  # parameters of plot functions that choose no look


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
    noun = ROW_KINDS_BY_UNIT[_unit(runs.spec, arguments)].noun
    spec = _drawn_runs(kind, runs, numbers, arguments)
    verdicts = verdicts_on_plot(kind, runs, spec["run"], arguments)
    words = Caption(
        title=title_of(kind, network, arguments),
        drawn=drawn_words(kind, numbers, arguments, noun),
        found=f"{brief_of(verdicts)} {main_numbers(kind, numbers, arguments)}".strip(),
        claim=claim_of(verdicts),
        made=runs_in_words(spec, arguments),
    )
    alt = AltText(
        words.title, f"{words.drawn} {words.found}", ("neural-network pruning", kind, network)
    )
    return Composed(
        picture=_picture(kind, runs, numbers, arguments),
        numbers=numbers,
        tables={},
        words=words,
        alt=alt,
        details=_details(
            *(kind, name, words, numbers, spec, _in_force(kind, spec, numbers, arguments)),
            verdicts,
        ),
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


def _unit(spec: pd.DataFrame, arguments: Mapping[str, Any]) -> str:
    """What the rows are: the chosen unit, else filters, else the only one."""
    units = list(map(str, spec["unit"]))
    usual = "filter" if "filter" in units else units[0]
    return str(arguments.get("unit") or usual)


def _picture(kind: str, runs: Runs, numbers: pd.DataFrame, arguments: Mapping[str, Any]) -> Figure:
    """The picture, of numbers that are computed already where its function needs no more."""
    given = {name: value for name, value in arguments.items() if name in ("by", "method")}
    if kind == "correlation":
        return correlation_plot.draw_curves(numbers, **given)
    if kind == "accuracy":
        return accuracy_plot.draw_curves(numbers)
    return getattr(plot, KINDS[kind].function)(runs, **arguments)


def _drawn_runs(
    kind: str, runs: Runs, numbers: pd.DataFrame, arguments: Mapping[str, Any]
) -> pd.DataFrame:
    """Facts about the drawn runs: those that the numbers name, or that they are means of."""
    spec = runs.spec
    if kind == "accuracy":
        spec = spec if "unit" in numbers else one_per_training(spec)
    else:
        spec = spec[spec["unit"] == _unit(spec, arguments)]
    if "run" in numbers and "seeds" not in numbers:
        return spec[spec["run"].isin(set(numbers["run"].astype(str)))]
    if len(spec) == 1:
        return spec
    if KINDS[kind].trial:
        return spec[[_is_held(kind, runs.named([run]), arguments) for run in spec["run"]]]
    facts = [str(name) for name in numbers if name in spec and name not in ("run", "seed")]
    held = set(_keys(numbers, facts))
    return spec[[key in held for key in _keys(spec, facts)]]


def _keys(table: pd.DataFrame, facts: Sequence[str]) -> list[tuple[str, ...]]:
    """Facts of each row as text; whole numbers are alike as integers and floats."""
    columns = [[str(_whole(plain(value))) for value in table[name]] for name in facts]
    return list(zip(*columns, strict=True)) if columns else [()] * len(table)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_force(
    kind: str, spec: pd.DataFrame, numbers: pd.DataFrame, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments of the plot function: given ones, defaults, and what the defaults stood for."""
    parameters = inspect.signature(getattr(plot, KINDS[kind].function)).parameters
    known = {name: found.default for name, found in parameters.items() if name not in _NO_OPTIONS}
    found = {**known, **arguments}
    if kind == "correlation":
        found |= _masks_in_force(spec, numbers, found)
    of_table = {"correlation": ("x",), "masks": ("score", "ratio")}.get(kind, ())
    if "unit" in found:
        found["unit"] = _unit(spec, arguments)
    for name in of_table:
        if found[name] is None:
            values = different(numbers[name])
            found[name] = values[0] if len(values) == 1 else values or None
    if kind == "heatmap":
        found["measures"] = list(dict.fromkeys([*numbers["x"], *numbers["y"]]))
        found["over"] = found["over"] or ("measure" if found["against"] is None else "epoch")
    return found


def _masks_in_force(
    spec: pd.DataFrame, numbers: pd.DataFrame, found: Mapping[str, Any]
) -> dict[str, Any]:
    scores = different(numbers["mask_score"]) if "mask_score" in numbers else []
    if not scores:
        return {"mask_score": None, "mask_ratio": None}
    ratio = found["mask_ratio"]
    score = scores[0] if len(scores) == 1 else scores
    return {"mask_score": score, "mask_ratio": mask_ratio_of(spec) if ratio is None else ratio}


def _details(
    kind: str,
    name: str,
    words: Caption,
    numbers: pd.DataFrame,
    spec: pd.DataFrame,
    arguments: Mapping[str, Any],
    verdicts: pd.DataFrame,
) -> dict[str, Any]:
    shared, runs = facts_of(spec)
    finding = f"{finding_of(verdicts)} {words.found}".strip()
    text = [line for part in (words.title, words.drawn, words.claim) for line in cut(part, 99)]
    text += cut(finding, 99)
    return {
        "schema": SCHEMA,
        "name": name,
        "title": words.title,
        "kind": kind,
        "description": words.drawn,
        "claim": words.claim or None,
        "finding": finding,
        "verdicts": records(verdicts),
        "missing": None,
        "values": records(value_rows(kind, numbers)),
        "tables": {},
        "options": {"drawing": plain(arguments), "recording": shared},
        "runs": runs,
        "alt": f"{words.drawn} {words.found}",
        "text": [*text, "Options in force", *recording_lines(spec)],
    }
