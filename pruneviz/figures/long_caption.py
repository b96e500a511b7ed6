"""The long form of a caption: description, computed values, claim, options in force and runs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.settings import different
from pruneviz.console.words import counted
from pruneviz.figures.caption import WIDTH
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import COMPANIONS, PICTURES, Picture
from pruneviz.log.arguments import is_number
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.vocabulary import BN_MODES
from pruneviz.plot.words import dataset_title, measure_title, named, network_title

# Facts of the recordings that the paper leaves open or that scale its protocol down.
RECORDING_FACTS: Mapping[str, str] = {
    "preset": "preset",
    "seed": "seeds",
    "epochs": "epochs of the schedule",
    "width": "width of the network (1: as in the paper)",
    "train_images": "training images",
    "bn": "batch norm while measuring",
    "temperatures": "logits temperatures while measuring (theta_g at the first)",
    "lag": "lag of the changes sigma_delta and theta_delta (epochs)",
    "precision": "floating-point precision of training",
    "device_name": "hardware",
    "threads": "CPU threads a run (sums in another order give other numbers)",
    "sample_size": "measurement sample (images)",
}
# Facts without a label appear elsewhere in a caption.
PRUNING_FACTS: Mapping[str, str] = {
    **{option.name: option.metadata["caption"] for option in fields(PruningOptions)},
    "augment": "training images augmented",
}
# A fact that differs between runs is shown by the first key that explains the difference.
GROUPINGS: Mapping[str, Callable[[Any], str]] = {
    "network": network_title,
    "dataset": dataset_title,
    "rounds": lambda rounds: f"in {counted(int(rounds), 'round')}",
    "measure": measure_title,
}
# Kinds whose values are correlations, which carry intervals.
CORRELATIONS = ("scatter", "correlation_curve")
_EXPLAINED = re.compile(r" \([^)]*\)")  # an explanation in brackets
# Facts in a short caption, under short labels.
_MAIN_FACTS: Mapping[str, str] = {
    "preset": "preset",
    "seed": "seeds",
    "epochs": "epochs",
    "width": "width",
    "train_images": "training images",
    "sample_size": "sample",
    "bn": "batch norm",
}
DRAWING_CHOICES: Mapping[str, str] = {
    "method": "correlation coefficient",
    "loss_preservation": "form of loss preservation",
    "mask_score": "measure of the masks",
    "mask_ratio": "fraction that the masks prune",
    "seed": "seed of the points",
    "scale": "scale of the axes",
    "inset": "deciding points on linear axes",
}


def long_caption(
    heading: str,
    entry: Entry,
    table: pd.DataFrame,
    beside: Mapping[str, pd.DataFrame],
    spec: pd.DataFrame,
    options: DrawOptions,
    finding: str,
    absent: str = "",
) -> str:
    """Everything about a figure as text; `pruneviz.figures.caption` gives the short form.

    Args:
        heading: First words, such as "Figure 3".
        entry: What the figure shows.
        table: The drawn numbers.
        beside: Further tables for this kind of picture, by name.
        spec: Rows of `runs.spec` for the drawn runs.
        options: Drawing options.
        finding: The verdicts on the claim, in words.
        absent: What is not recorded, as a sentence.

    Returns:
        Text wrapped at `WIDTH`, with a final line break.
    """
    picture = PICTURES[entry.kind]
    values = [_wrapped(_values_heading(entry, table, spec)), *picture.values(table, options)]
    parts = [
        _wrapped(f"{heading}. {entry.title}."),
        _wrapped(f"{picture.drawn(table, options)} {absent}"),
        "\n".join(values),
    ]
    if beside:
        parts.append("\n".join(COMPANIONS[entry.kind].values(beside, options)))
    in_force = ["Options in force", *recording_lines(spec), *_drawing_lines(picture, options)]
    names = _wrapped(", ".join(spec["run"]), indent="  ")
    parts += [
        _wrapped(f"The paper (Lubana and Dick, ICLR 2021) claims: {entry.claim}."),
        _wrapped(f"These recordings: {finding}"),
        "\n".join(in_force),
        f"{counted(len(spec), 'run').capitalize()}\n{names}",
    ]
    return "\n\n".join(parts) + "\n"


def made_from(spec: pd.DataFrame, kind: str, options: DrawOptions) -> str:
    """The runs and main options of a figure in a sentence, for its short caption."""
    return runs_in_words(spec, {name: getattr(options, name) for name in PICTURES[kind].OPTIONS})


def runs_in_words(spec: pd.DataFrame, drawing: Mapping[str, Any]) -> str:
    """Runs, their main facts and drawing options in a sentence.

    Args:
        spec: Rows of `runs.spec` for the drawn runs.
        drawing: Drawing options; None is not told.
    """
    facts = [
        f"{label} {_EXPLAINED.sub('', fact_in_words(spec, name))}"
        for name, label in _MAIN_FACTS.items()
        if name in spec.columns and len(different(spec[name]))
    ]
    options = [
        f"{name.replace('_', ' ')} {_listed(value)}"
        for name, value in drawing.items()
        if value is not None
    ]
    return f"{counted(len(spec), 'run').capitalize()}: {', '.join([*facts, *options])}."


def _listed(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _values_heading(entry: Entry, table: pd.DataFrame, spec: pd.DataFrame) -> str:
    several = "mean over seeds ± standard deviation between them"
    single = "of a single seed"
    if entry.kind in CORRELATIONS:
        several += ", in brackets the 95 % interval of the mean (Student's t)"
        single += ", in brackets the 95 % interval by resampling its layers"
    parts = []
    if table["seeds"].max() > 1:
        parts.append(several)
    if table["seeds"].min() == 1:
        parts.append(single)
    return f"Computed values: {'; or '.join(parts)}" if parts else "Computed values"


def recording_lines(spec: pd.DataFrame) -> list[str]:
    """Facts of the recordings that the paper leaves open, a line each."""
    facts = dict(RECORDING_FACTS)
    if spec["rounds"].gt(0).any():
        facts.update(PRUNING_FACTS)
    shown = {name: label for name, label in facts.items() if label and name in spec.columns}
    return [f"  {label}: {fact_in_words(spec, name)}" for name, label in shown.items()]


def fact_in_words(spec: pd.DataFrame, name: str) -> str:
    """One fact of the runs; if it differs, by the fact that explains the difference.

    Args:
        spec: Rows of `runs.spec` for the drawn runs.
        name: A fact of `RECORDING_FACTS` or `PRUNING_FACTS`.
    """
    values = different(spec[name])
    if name == "seed":
        return ", ".join(str(int(seed)) for seed in sorted(values)) or "not recorded"  # type: ignore[call-overload, type-var]
    if len(values) < 2:
        return _shown(name, values)
    for key, title in GROUPINGS.items():
        groups = spec.groupby(key, sort=False, observed=True)[name]
        by_group = [(title(value), different(rows)) for value, rows in groups]
        if by_group and all(len(found) < 2 for _, found in by_group):
            return "; ".join(f"{group} {_shown(name, found)}" for group, found in by_group)
    return " or ".join(_shown(name, [value]) for value in values)


def _shown(name: str, values: list[object]) -> str:
    if not values:
        return "not recorded"
    value = values[0]
    if name == "bn":
        return f"{value} ({BN_MODES.get(str(value), 'unknown')})"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" if is_number(item) else named(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else named(value)


def _drawing_lines(picture: Picture, options: DrawOptions) -> list[str]:
    shown = {name: getattr(options, name) for name in picture.OPTIONS}
    return [
        f"  {DRAWING_CHOICES[name]}: {'the lowest' if value is None else value}"
        for name, value in shown.items()
    ]


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
