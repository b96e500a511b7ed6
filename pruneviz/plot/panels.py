"""Words around panels: what they show, how many seeds, and what their axes are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pruneviz.analysis.settings import different
from pruneviz.errors import FigureError
from pruneviz.plot.canvas import SCREEN_DPI, Canvas
from pruneviz.plot.glyphs import drawable, literal
from pruneviz.plot.words import network_title

_MARGIN = 0.08  # inches
MOST = 24  # panels of a picture
_WORD = re.compile(r"(?<!\\)\$.*?(?<!\\)\$\S*|\S+")  # a symbol between dollars is one word
_SYMBOL = 5  # characters that a symbol is as wide as
_CHARACTER, _POINTS = 0.075, 8  # inches of a bold character of a title, and its size


def check_number(panels: Sequence[str]) -> None:
    """Check that a picture has few enough panels to be looked at.

    Raises:
        FigureError: If there are too many; names some, and says how to have fewer.
    """
    if len(panels) > MOST:
        raise FigureError(
            f"this picture would have {len(panels)} panels, at most {MOST} can be looked at: "
            f"{'; '.join(panels[:3])}; and others; choose fewer with runs= and epochs=, or name in "
            "by= the facts that tell runs apart"
        )


def network_of(table: pd.DataFrame) -> str:
    """The title of the network of a drawn table; nothing if it has none or several."""
    known = different(table["network"])
    return network_title(str(known[0])) if len(known) == 1 else ""


def leave_margins(drawn: Canvas) -> None:
    """Lay a picture out for the screen, with margins for the other widths of text in files.

    Text is up to 4 % wider at one resolution than at another, which cuts long names off.
    """
    if drawn.given is None:
        figure = cast(Figure, drawn.figure)
        figure.set_dpi(SCREEN_DPI)
        cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=_MARGIN)


def write_title(axes: Axes, title: str, inches: float | None = None) -> None:
    """Write a title in as many lines as its panel is narrow.

    Args:
        axes: The panel.
        title: The title, drawn as it stands.
        inches: Width of the panel. Default: that of given axes.
    """
    width = inches or axes.get_window_extent().width / axes.figure.figure.dpi
    axes.set_title(wrapped(title, width * _POINTS / float(axes.title.get_fontsize())))


def wrapped(title: str, inches: float) -> str:
    """A title in as many lines as a width is narrow, drawn as it stands."""
    return "\n".join(
        map(literal, textwrap.wrap(drawable(title), max(12, int(inches / _CHARACTER))))
    )


def wrapped_label(label: str, characters: int) -> str:
    """The label of an axis in lines no longer than its panel; words and symbols stay whole."""
    lines: list[list[str]] = [[]]
    for word in _WORD.findall(label):
        if lines[-1] and _width([*lines[-1], word]) > characters:
            lines.append([])
        lines[-1].append(word)
    return "\n".join(map(" ".join, lines))


def _width(words: Sequence[str]) -> int:
    return sum(_SYMBOL if word.startswith("$") else len(word) for word in words) + len(words) - 1


def seeds_in_words(table: pd.DataFrame) -> str:
    """`mean of 3 runs`, from a column `seeds`; nothing for a single one."""
    seeds = table.loc[table["seeds"] > 0, "seeds"]
    least, most = int(seeds.min() if len(seeds) else 0), int(seeds.max() if len(seeds) else 0)
    if most <= 1:
        return ""
    return f"mean of {most} runs" if least == most else f"mean of {least} to {most} runs"


def label_edges(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label and number the axes of panels at the left and lower edge of their grid.

    Panels must share both scales. A panel above an empty place counts as one at the edge.
    """
    places = [_place(axes) for axes in panels]
    for axes, (row, column) in zip(panels, places, strict=True):
        below = len(panels) > 1 and (row + 1, column) in places
        axes.set_xlabel("" if below else x)
        axes.tick_params(axis="x", labelbottom=not below)
        if len(panels) == 1 or column == 0:
            axes.set_ylabel(y)


def _place(axes: Axes) -> tuple[int, int]:
    """Row and column of axes in their grid."""
    place = axes.get_subplotspec()
    return (place.rowspan.start, place.colspan.start) if place else (0, 0)
