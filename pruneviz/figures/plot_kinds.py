"""Kinds of pictures that any recordings allow, and the options of the command that each takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pruneviz.console.words import counted
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.vocabulary import MASK_RATIO, MASK_SCORES


@dataclass(frozen=True)
class PlotOptions:
    """Options of the command for pictures of a kind; None leaves the plot function's default.

    Their help is in the metadata.
    """

    x: list[str] | None = field(
        default=None, metadata={"help": "Horizontal quantity: a column, or a pruning measure."}
    )
    y: list[str] | None = field(
        default=None,
        metadata={"help": "Vertical quantity; in accuracy pictures columns of the epochs table."},
    )
    hue: str | None = field(
        default=None,
        metadata={"help": "Colour of points: depth, layer, a column, or a fact such as network."},
    )
    by: list[str] | None = field(
        default=None, metadata={"help": "Facts that tell runs apart, such as bn or measure."}
    )
    epochs: list[int] | None = field(
        default=None, metadata={"help": "Epochs to show; --epochs=-1 is the last one."}
    )
    runs: list[str] | None = field(default=None, metadata={"help": "Names of the runs to show."})
    network: list[str] | None = field(
        default=None, metadata={"help": "Networks to show. Default: a picture of each."}
    )
    unit: str | None = field(
        default=None, metadata={"help": "What rows are, such as filter or head."}
    )
    measures: list[str] | None = field(default=None, metadata={"help": "Measures in a heat map."})
    over: str | None = field(
        default=None, metadata={"help": "Columns of a heat map: measure, epoch or layer."}
    )
    against: str | None = field(
        default=None, metadata={"help": "Measure that a heat map compares the others with."}
    )
    filters: list[str] | None = field(
        default=None,
        metadata={
            "help": "Filters in a trajectory, each as LAYER:N; single weights as LAYER:N:WEIGHT. "
            "Default: quantiles of the layers."
        },
    )
    layers: list[str] | None = field(
        default=None, metadata={"help": "Layers in a trajectory, or in a picture of masks."}
    )
    aggregate: str | None = field(
        default=None, metadata={"help": "With --y in layer pictures, what a bar is of its filters."}
    )
    order: str | None = field(
        default=None, metadata={"help": "Order of filters in a picture of masks: kept or filter."}
    )
    method: str | None = field(
        default=None,
        metadata={"help": "Correlation coefficient. Default: pearson; in heat maps spearman."},
    )
    mask_score: str | None = field(
        default=None,
        metadata={
            "help": "Pruning measure of the masks in correlation pictures and pictures of masks. "
            f"Default: {MASK_SCORES['filter']}; for single weights {MASK_SCORES['weight']}; with "
            "--kind the one whose masks the runs logged."
        },
    )
    mask_ratio: float | None = field(
        default=None,
        metadata={
            "help": f"Fraction of filters that these masks prune. Default: {MASK_RATIO}; with "
            "--kind that of the runs."
        },
    )
    seed: int | None = field(
        default=None, metadata={"help": "Seed shown in scatter plots. Default: the lowest."}
    )
    scale: str | None = field(
        default=None,
        metadata={
            "help": "Axes of scatter plots: symlog (logarithmic on both sides of zero) or linear; "
            "of layers and trajectories also log. Default of scatter plots: symlog."
        },
    )
    inset: bool = field(
        default=False,
        metadata={
            "help": "In scatter plots, also show the points that decide Pearson's coefficient on "
            "linear axes."
        },
    )


# What options of one word may be; a test holds them to the plot functions, which are slow to load.
ALIKE_KINDS = ("scatter", "correlation", "layers", "accuracy")  # drawn without --kind
AGGREGATES = ("mean", "median", "sum", "min", "max", "std", "count")
DIRECTIONS = ("measure", "epoch", "layer")
ORDERS = ("kept", "filter")
SCALES = ("symlog", "linear", "log")
_FILTER = re.compile(r"(.+?):(\d+)(?::(\d+))?")
# Fields that choose runs, so that every kind takes them.
_CHOOSING = ("runs", "network")


@dataclass(frozen=True)
class PlotKind:
    """A kind of picture.

    Attributes:
        function: Name of the function in `pruneviz.plot`.
        takes: Its parameter for each field of `PlotOptions` that it takes.
        usual: Arguments that are used where they are not given.
        first: Arguments to take instead, where none of them is given and the runs hold what they
            name; the first such ones count.
        trial: Arguments with which that is found out soon, for all runs or a single one; none if
            the numbers tell all runs that are drawn apart by their facts.
        required: Fields that must be given.
    """

    function: str
    takes: Mapping[str, str]
    usual: Mapping[str, Any] = field(default_factory=dict)
    first: tuple[Mapping[str, Any], ...] = ()
    trial: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()


def _same(*names: str, **renamed: str) -> Mapping[str, str]:
    return {**{name: name for name in names}, **renamed}


KINDS: Mapping[str, PlotKind] = {
    "scatter": PlotKind(
        "scatter",
        _same("x", "y", "hue", "epochs", "unit", "method", "seed", "scale", "inset"),
        {"x": "theta_g", "y": "theta_hg"},
        trial={"epochs": -1},
    ),
    "correlation": PlotKind(
        "correlation",
        _same("x", "y", "by", "epochs", "unit", "method", "mask_score", "mask_ratio"),
        {"y": "loss_preservation"},
        (
            {"x": "sigma_change", "y": "loss_preservation"},
            {"x": "theta_change", "y": "loss_preservation"},
        ),
        {"epochs": -1, "mask_score": None},
    ),
    "layers": PlotKind(
        "layer_ratios", _same("y", "by", "aggregate", "unit", "scale", epochs="epoch")
    ),
    "accuracy": PlotKind("accuracy", _same("y", "by", "epochs")),
    "heatmap": PlotKind(
        "heatmap", _same("measures", "over", "against", "epochs", "unit", "by", "method")
    ),
    "trajectory": PlotKind(
        "trajectory",
        _same("y", "filters", "layers", "epochs", "unit", "by", "scale"),
        required=("y",),
    ),
    "masks": PlotKind(
        "masks",
        _same("layers", "epochs", "unit", "by", "order", mask_score="score", mask_ratio="ratio"),
    ),
}


Arguments = Mapping[str, Any]


def arguments_of(kind: str, options: PlotOptions) -> tuple[Arguments, ...]:
    """The arguments of a kind's plot function; several to try one after the other.

    Args:
        kind: Name in `KINDS`.
        options: The options as given.

    Raises:
        FigureError: If the kind is unknown, does not take an option that was given, or lacks one
            that it needs.
    """
    if kind not in KINDS:
        raise FigureError(unknown_name("kind of picture", kind, list(KINDS)))
    found, given = KINDS[kind], given_options(options)
    refused = [name for name in given if name not in (*found.takes, *_CHOOSING)]
    if refused:
        taken = ", ".join(map(flag, (*found.takes, *_CHOOSING)))
        raise FigureError(
            f"--kind {kind} does not take {' and '.join(map(flag, refused))}; it takes {taken}"
        )
    lacking = [flag(name) for name in found.required if name not in given]
    if lacking:
        raise FigureError(f"--kind {kind} needs {' and '.join(lacking)}, such as --y theta_g")
    own = {
        parameter: _plain(parameter, given[name])
        for name, parameter in found.takes.items()
        if name in given
    }
    found_arguments = tuple({**first, **own} for first in usual_arguments(kind, own))
    return _with_masks(found_arguments) if kind == "correlation" else found_arguments


def _with_masks(choices: tuple[Arguments, ...]) -> tuple[Arguments, ...]:
    """Of several choices, those in which the options of masks that were given do something."""
    found = tuple(
        arguments
        for arguments in choices
        if "mask_ratio" not in arguments
        or "mask_score" in arguments
        or isinstance(arguments.get("x"), str)
    )
    if not found:
        raise FigureError(
            "--mask-ratio is for masks, and a picture of several measures has masks only with "
            "--mask-score; add it, or name one measure with --x"
        )
    return found


def usual_arguments(kind: str, own: Arguments) -> tuple[Arguments, ...]:
    """The arguments of a kind that are used where they are not given, to try in this order.

    Args:
        kind: Name in `KINDS`.
        own: The arguments that are given.
    """
    found = KINDS[kind]
    named = any(set(first) & set(own) for first in found.first)
    return (found.usual,) if named else (*found.first, found.usual)


def given_options(options: PlotOptions) -> dict[str, Any]:
    """The options that were given, by the name of their field."""
    values = {option.name: getattr(options, option.name) for option in fields(options)}
    return {
        name: value
        for name, value in values.items()
        if value not in (None, []) and value is not False
    }


def flag(name: str) -> str:
    """The option of the command for a field of `PlotOptions`."""
    return f"--{name.replace('_', '-')}"


def _plain(parameter: str, value: Any) -> Any:
    """A list of one item as the item; a single epoch where one is taken; filters as keys."""
    if parameter == "filters":
        return [_filter(text) for text in value]
    if isinstance(value, list) and len(value) == 1 and parameter != "measures":
        return value[0]
    if parameter == "epoch" and isinstance(value, list):
        raise FigureError(
            f"--kind layers shows one epoch, and --epochs names {counted(len(value), 'epoch')}"
        )
    return value


def _filter(text: str) -> tuple[str | int, ...]:
    """Layer and number of a filter, and of a weight in it, from LAYER:N or LAYER:N:WEIGHT."""
    found = _FILTER.fullmatch(text)
    if found is None:
        raise FigureError(
            f"--filters {text} is no filter; expected LAYER:N, such as conv1:3, or for single "
            "weights LAYER:N:WEIGHT"
        )
    layer, *numbers = found.groups()
    return (layer, *(int(number) for number in numbers if number))
