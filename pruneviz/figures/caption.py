"""The caption of a figure: what is drawn, the computed values, the paper's claim beside them, the options in force and the runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pandas as pd

from pruneviz.figures.catalogue import Entry, network_title
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import Picture
from pruneviz.figures.words import counted, different, listed
from pruneviz.schema import BN_MODES

WIDTH = 100  # characters

# Facts of the recordings that the paper leaves open or that scale its protocol down, as a caption names them.
RECORDING_FACTS: Mapping[str, str] = {
    "preset": "preset",
    "seed": "seeds",
    "epochs": "epochs of the schedule",
    "width": "width of the network (1: as in the paper)",
    "train_images": "training images",
    "bn": "batch norm while measuring",
    "temperatures": "logits temperatures while measuring (theta_g at the first)",
    "lag": "lag of sigma_delta (epochs)",
    "sample_size": "measurement sample (images)",
}
DRAWING_CHOICES: Mapping[str, str] = {
    "method": "correlation coefficient",
    "loss_preservation": "form of loss preservation",
    "mask_score": "measure of the masks",
    "mask_ratio": "fraction of filters that the masks prune",
    "seed": "seed of the points",
    "scale": "scale of the axes",
}


def caption(figure: str, entry: Entry, picture: Picture, table: pd.DataFrame, spec: pd.DataFrame, options: DrawOptions) -> str:
    """The text of a figure's caption, wrapped, with a line break at its end.

    `table` holds the numbers drawn and `spec` the rows of `runs.spec` of the runs that they come from.
    """
    absent = [network_title(name) for name in entry.networks if name not in set(spec["network"])]
    parts = [
        _wrapped(f"Figure {figure}. {entry.title}."),
        _wrapped(picture.drawn(table, options) + (f" Not recorded, so not drawn: {listed(absent)}." if absent else "")),
        _wrapped(_values_heading(table)) + "\n" + "\n".join(picture.values(table, options)),
        _wrapped(f"The paper (Lubana and Dick, ICLR 2021) claims: {entry.claim}."),
        _wrapped(f"These recordings: {picture.finding(table, options)}"),
        "Options in force\n" + "\n".join(_recording_lines(spec) + _drawing_lines(picture, options)),
        f"{counted(len(spec), 'run').capitalize()}\n" + _wrapped(", ".join(spec["run"]), indent="  "),
    ]
    return "\n\n".join(parts) + "\n"


def _values_heading(table: pd.DataFrame) -> str:
    several = "mean over seeds ± standard deviation between them, in brackets the 95 % interval of the mean (Student's t)"
    single = "of a single seed, in brackets the 95 % interval over its filters (Fisher), too narrow where few large values decide"
    parts = [text for text, holds in ((several, table["seeds"].max() > 1), (single, table["seeds"].min() == 1)) if holds]
    return f"Computed values: {'; or '.join(parts)}" if parts else "Computed values"


def _recording_lines(spec: pd.DataFrame) -> list[str]:
    return [f"  {label}: {_fact(spec, name)}" for name, label in RECORDING_FACTS.items() if name in spec.columns]


def _fact(spec: pd.DataFrame, name: str) -> str:
    """One fact of the runs; where networks differ in it, network by network."""
    if name == "seed":
        return ", ".join(str(int(seed)) for seed in sorted(different(spec[name]))) or "not recorded"  # type: ignore[call-overload, type-var]
    if len(different(spec[name])) < 2:
        return _shown(name, different(spec[name]))
    networks = spec.groupby("network", sort=False, observed=True)[name]
    return "; ".join(f"{network_title(str(network))} {_shown(name, different(values))}" for network, values in networks)


def _shown(name: str, values: list[object]) -> str:
    if not values:
        return "not recorded"
    value = values[0]
    if name == "bn":
        return f"{value} ({BN_MODES.get(str(value), 'unknown')})"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _drawing_lines(picture: Picture, options: DrawOptions) -> list[str]:
    shown = {name: getattr(options, name) for name in picture.OPTIONS}
    return [f"  {DRAWING_CHOICES[name]}: {'the lowest' if value is None else value}" for name, value in shown.items()]


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
