"""Names of layers in pictures: cut to what tells them apart, and below an axis those that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from pruneviz.console.shown_text import short
from pruneviz.plot.glyphs import literal
from pruneviz.plot.legends import shortened

_LONGEST = 24  # characters


def layer_title(name: str) -> str:
    """The name of a layer, or `layer 3` where it is a number alone, as in `nn.Sequential`."""
    shown = short(name)
    return shown if any(map(str.isalpha, name)) else f"layer {shown}"


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten layer names to their distinguishing part.

    Leading parts that all names share are cut, and everything after the first unique part:
    `features.conv1` and `features.block1.pointwise` become `conv1` and `block1`. Numbers alone, as
    of `features.0` and `features.3`, become `layer 0` and `layer 3`.
    """
    parts = [short(name).split(".") for name in names]
    shared = _shared(parts)
    return [layer_title(".".join(name[shared : _telling(name, parts, shared)])) for name in parts]


def name_layers(axes: Axes, layers: Sequence[str]) -> float:
    """Name layers at places 0, 1, ... of the horizontal axis: upright, or some if there are many.

    The axes must have the width that they will be drawn with, about.

    Returns:
        The height of the names, in inches.
    """
    names = list(map(literal, shortened(short_names(layers), _LONGEST)))
    axes.set_xticks(range(len(layers)), names)
    room = axes.get_window_extent().width / len(layers)
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    width, height = max(box.width for box in boxes), max(box.height for box in boxes)
    if width > 0.9 * room:
        step = math.ceil(1.1 * height / room)
        axes.set_xticks(range(0, len(layers), step), names[::step], rotation=90)
        height = width
    return float(height / axes.figure.dpi)


def _shared(parts: Sequence[list[str]]) -> int:
    """Number of leading parts that all names share; at least one part of each name is left."""
    for place, found in enumerate(zip(*parts, strict=False)):
        if len(set(found)) > 1:
            return place
    return min(map(len, parts)) - 1


def _telling(name: list[str], all_parts: Sequence[list[str]], shared: int) -> int:
    """Number of leading parts that make a name unique; all parts if none do."""
    for length in range(shared + 1, len(name)):
        if sum(other[:length] == name[:length] for other in all_parts) == 1:
            return length
    return len(name)
