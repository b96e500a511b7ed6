"""Reliability during training, and correlations beside their corrected values, as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pruneviz.errors import FigureError
from pruneviz.plot import style
from pruneviz.plot.canvas import Canvas, canvas, letters
from pruneviz.plot.panels import wrapped
from pruneviz.plot.words import measure_title

_ACROSS = 3  # panels in a row
_HEIGHT = 2.2  # inches of a row
_MOST_BANDS = 3  # measures whose intervals are told apart
_WAYS: Mapping[str, tuple[str, str, str, style.Line]] = {
    "r": ("on the whole sample", style.LEFT_COLOUR, "o", "-"),
    "cross": ("x and y from different halves", style.REFERENCE_COLOUR, "", (0, (1, 1))),
    "corrected": ("corrected for attenuation", style.RIGHT_COLOUR, "s", (0, (5, 1.5))),
}


def draw_reliability(table: pd.DataFrame) -> Any:
    """Draw the reliability of the whole sample against the epochs, one line for each measure.

    Bands are the intervals of the table, where three measures or fewer are drawn. Where a
    reliability is null there is no point.

    Args:
        table: Table of `pruneviz.reliability` with epochs, and runs if there are several.

    Returns:
        A matplotlib figure, which a notebook shows; a panel for each run.

    Raises:
        FigureError: If the table has no epochs.

    Example:
        >>> draw_reliability(pv.reliability(pv.load("data/mine")))
    """
    looks = style.styles_of(table["measure"].unique())
    panels = _panels(table)
    with _canvas(panels) as drawn:
        for letter, axes, title in zip(letters(len(panels)), drawn.axes, panels, strict=True):
            for measure, look in looks.items():
                rows = panels[title]
                rows = rows[rows["measure"] == measure].sort_values("epoch")
                if len(looks) <= _MOST_BANDS:
                    ends = rows["epoch"], rows["whole_low"], rows["whole_high"]
                    axes.fill_between(*ends, color=look.colour, alpha=0.15, lw=0)
                _line(axes, rows, "whole", look.colour, look.marker, look.line)
            _finish(axes, f"{letter if len(panels) > 1 else ''}{title}")
            axes.set_ylim(-0.02, 1.02)
        drawn.axes[0].set_ylabel("reliability of the sample")
        drawn.legend(_handles(table, looks), room=2)
    return drawn.result


def draw_corrected(table: pd.DataFrame) -> Any:
    """Draw a correlation beside its value across half samples and its corrected value.

    A corrected value beyond 1 is a hollow marker at the edge; where it is null there is none.

    Args:
        table: Table of `pruneviz.corrected_correlation` with epochs, and runs if there are several.

    Returns:
        A matplotlib figure, which a notebook shows; a panel for each run.

    Raises:
        FigureError: If the table has no epochs.

    Example:
        >>> table = pv.corrected_correlation(pv.load("data/mine"), "theta_g", "theta_hg")
        >>> draw_corrected(table)
    """
    panels = _panels(table)
    with _canvas(panels) as drawn:
        for letter, axes, title in zip(letters(len(panels)), drawn.axes, panels, strict=True):
            rows = panels[title].sort_values("epoch")
            for column, (_, colour, marker, line) in _WAYS.items():
                within = rows.assign(**{column: rows[column].where(rows[column].abs() <= 1)})
                _line(axes, within, column, colour, marker, line)
            beyond = rows[rows["corrected"].abs() > 1]
            hollow: dict[str, Any] = {"marker": "s", "ls": "none", "mfc": "none", "clip_on": False}
            if len(beyond):  # a line of no points that is not clipped would disturb the layout
                ends = beyond["corrected"].clip(-1, 1)
                axes.plot(beyond["epoch"], ends, color=style.RIGHT_COLOUR, **hollow)
            _finish(axes, f"{letter if len(panels) > 1 else ''}{title}")
            axes.set_ylim(-1.05, 1.05)
            axes.axhline(0, color=style.GUIDE_COLOUR, linewidth=0.6)
        drawn.axes[0].set_ylabel("correlation of x and y")
        drawn.legend(
            [
                Line2D([], [], color=colour, marker=marker, ls=line, label=label)
                for label, colour, marker, line in _WAYS.values()
            ],
            room=2,
        )
    return drawn.result


def _handles(table: pd.DataFrame, looks: Mapping[str, style.Style]) -> list[Artist]:
    """Entries of the legend: the measures, and their bands where these are drawn."""
    found: list[Artist] = [
        Line2D([], [], color=x.colour, marker=x.marker, ls=x.line, label=measure_title(name))
        for name, x in looks.items()
    ]
    if len(looks) <= _MOST_BANDS and table["whole_low"].notna().any():
        found.append(Patch(color=style.NOTE_COLOUR, alpha=0.15, lw=0, label="interval"))
    return found


def _panels(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    if "epoch" not in table:
        raise FigureError(
            "the table has no epochs; make it of recorded runs, grouped by run and epoch"
        )
    return dict(_by_run(table))


def _by_run(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if "run" not in table:
        yield "all runs", table
        return
    for run, rows in table.groupby("run", observed=True, sort=False):
        yield str(run), rows


def _canvas(panels: dict[str, pd.DataFrame]) -> AbstractContextManager[Canvas]:
    rows = math.ceil(len(panels) / _ACROSS)
    width = style.TEXT_WIDTH * (1.0 if len(panels) > 1 else 0.7)
    across = min(_ACROSS, len(panels))
    size = (width, 0.5 + _HEIGHT * rows)
    return canvas(None, list(panels), "", size=size, columns=across, sharey=True)


def _line(
    axes: Axes, rows: pd.DataFrame, column: str, colour: str, marker: str, line: style.Line
) -> None:
    axes.plot(rows["epoch"], rows[column], color=colour, marker=marker, ls=line, linewidth=1.0)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(wrapped(title, style.TEXT_WIDTH / _ACROSS))
    axes.set_xlabel("epochs trained")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(axis="y", color=style.GUIDE_COLOUR, linewidth=0.3, alpha=0.6)
