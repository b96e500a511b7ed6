"""Matrices of numbers between -1 and 1 as coloured cells, readable in grey."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from pruneviz.plot.glyphs import literal
from pruneviz.plot.words import decimal

CELL = (0.34, 0.22)  # width and height in inches, with a number
NARROW = 0.15  # inches, width of a column without numbers, with an upright label

_SMALL = 7  # points
_NUMBER = (0.3, 0.12)  # inches that a number needs
_LINE = 1.25 / 72  # inches that a line of text needs, for each point of its size
_LETTER = 0.55  # width of a letter, as a fraction of that
_CHARACTER = 0.065  # inches of a label's character
_NEGATIVE, _ABSENT = "/////", "...."
_HATCHED, _GREY = "#FFFFFF", "#888888"
_SCALE = 3.0  # inches, the most that a scale beside several panels is long
_BAR = 0.55  # of the height of a picture, the least that the scale has
_WEIGHTS = np.array([0.2126, 0.7152, 0.0722])  # of linear red, green and blue in the luminance
_DARK = 0.18  # luminance below which white text is read better than black


@dataclass(frozen=True, repr=False)
class Cells:
    """A matrix with the names of its rows and columns.

    Attributes:
        rows: Names of the rows, from the top.
        columns: Names of the columns.
        values: Numbers from -1 to 1, NaN where there is none [row, column].
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray


def colours() -> Colormap:
    """Dark blue (-1), white (0), dark orange (1): opposite for every kind of colour blindness."""
    ends = ["#0B3C7D", "#6F9FCF", "#F7F7F7", "#EDA35F", "#9A4300"]
    return LinearSegmentedColormap.from_list("signed", ends)


def width_of(labels: Sequence[str]) -> float:
    """Room that the longest label takes, in inches."""
    return _CHARACTER * max(map(len, labels), default=0) + 0.1


def draw_cells(
    axes: Axes, cells: Cells, upright: bool, size: tuple[float, float] | None = None
) -> None:
    """Draw a matrix: numbers where they fit, else negative cells hatched.

    Args:
        axes: Where to draw.
        cells: The matrix.
        upright: Whether the names of columns stand upright, for long ones.
        size: Width and height of a cell in inches. Default: what the axes have room for.
    """
    rows, columns = cells.values.shape
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    _name(axes, cells, 1, 1, upright)  # labels take room from the cells
    width, height = size or _room(axes, rows, columns)
    axes.pcolormesh(
        np.ma.masked_invalid(cells.values),
        cmap=colours(),
        norm=Normalize(-1, 1),
        edgecolors="white",
        linewidth=0.5 if width > 0.1 else 0,
    )
    _hatch(axes, np.isnan(cells.values), _ABSENT, _GREY)
    if width >= _NUMBER[0] and height >= _NUMBER[1]:
        _write(axes, cells.values)
    else:
        _hatch(axes, cells.values < 0, _NEGATIVE, _HATCHED)
    line = _LINE * float(axes.xaxis.get_ticklabels()[0].get_fontsize())
    longest = line if upright else _LETTER * line * (max(map(len, cells.columns)) + 1.5)
    _name(axes, cells, math.ceil(longest / width), math.ceil(line / height), upright)


def _room(axes: Axes, rows: int, columns: int) -> tuple[float, float]:
    """Width and height of a cell in inches, in axes of any figure."""
    whole = axes.figure.figure
    engine = whole.get_layout_engine()
    if engine is not None:
        engine.execute(whole)
    box = axes.get_window_extent()
    return box.width / whole.dpi / columns, box.height / whole.dpi / rows


def _name(axes: Axes, cells: Cells, column_step: int, row_step: int, upright: bool) -> None:
    columns, rows = range(0, len(cells.columns), column_step), range(0, len(cells.rows), row_step)
    axes.set_xticks(
        [at + 0.5 for at in columns],
        [literal(cells.columns[at]) for at in columns],
        rotation=90 if upright else 0,
    )
    axes.set_yticks([at + 0.5 for at in rows], [literal(cells.rows[at]) for at in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _hatch(axes: Axes, which: np.ndarray, hatch: str, colour: str) -> None:
    if which.any():
        shown = np.ma.masked_where(~which, np.zeros(which.shape))
        blank = LinearSegmentedColormap.from_list("blank", [(0, 0, 0, 0)] * 2)
        mesh = axes.pcolor(shown, cmap=blank, linewidth=0, edgecolors=colour)
        mesh.set_hatch(hatch)


def _write(axes: Axes, values: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            colour = "white" if _luminance(value) < _DARK else "black"
            middle: dict[str, Any] = {"ha": "center", "va": "center"}
            text = decimal(value)
            axes.text(column + 0.5, row + 0.5, text, fontsize=_SMALL, color=colour, **middle)


def _luminance(value: float) -> float:
    red_green_blue = np.array(colours()((value + 1) / 2)[:3])
    return float(_WEIGHTS @ red_green_blue**2.2)


def scale_beside(figure: Figure | SubFigure, axes: Sequence[Axes], label: str) -> None:
    """Explain the colours beside some panels."""
    height = figure.bbox.height / figure.dpi if len(axes) > 1 else 0
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), colours()),
        ax=list(axes),
        aspect=20,
        fraction=0.05,
        shrink=min(1.0, _SCALE / height) if height else 1.0,
        anchor=(0, 1),
    )
    room = int(min(_SCALE, _BAR * figure.bbox.height / figure.dpi) / _CHARACTER)
    bar.set_label("\n".join(map(literal, textwrap.wrap(label, max(12, room)))))
    bar.set_ticks([-1, -0.5, 0, 0.5, 1])
    bar.outline.set_linewidth(0.5)


def absent_handles(matrices: Iterable[Cells]) -> list[Artist]:
    """The legend entry of cells without a number, if there are any."""
    if not any(np.isnan(cells.values).any() for cells in matrices):
        return []
    return [Patch(hatch=2 * _ABSENT, fill=False, edgecolor=_GREY, linewidth=0, label="no value")]
