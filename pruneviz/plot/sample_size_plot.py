"""Agreement of samples of several sizes with the answer on all images, as a picture."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pruneviz.plot import style
from pruneviz.plot.canvas import canvas, letters
from pruneviz.plot.glyphs import literal
from pruneviz.plot.words import measure_title

_PANELS = {
    "spearman": "Spearman ρ with all images",
    "shared": "pruned filters in common",
}
_SIZE = (style.TEXT_WIDTH, 2.75)  # inches
_MOST_TICKS = 7


def draw_sample_sizes(table: pd.DataFrame) -> Any:
    """Draw a table of `pruneviz.sample_sizes`.

    A line is the mean over draws of a measure; its band reaches from the lowest to the highest. A
    vertical line is the sample of the recording, a dotted line what random masks share.

    Args:
        table: Rows of one run and epoch.

    Returns:
        A matplotlib figure, which a notebook shows.
    """
    measures = list(dict.fromkeys(table["measure"]))
    looks = style.styles_of(measures)
    with canvas(None, list(_PANELS), "", size=_SIZE) as drawn:
        for letter, axes, column in zip(letters(2), drawn.axes, _PANELS, strict=True):
            for measure in measures:
                _draw_line(axes, table[table["measure"] == measure], column, looks[measure])
            _mark(axes, table, column)
            heading = f"{literal(_of_what(table))}\n" if column == next(iter(_PANELS)) else ""
            axes.set_title(f"{heading}{letter}{_PANELS[column]}")
            axes.set_xlabel("images in the sample")
        drawn.legend(_handles(table, looks), room=2)
    return drawn.result


def _of_what(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    return f"{first['run']}, epoch {first['epoch']}"


def _draw_line(axes: Axes, rows: pd.DataFrame, column: str, look: style.Style) -> None:
    found = rows.groupby("images")[column].agg(["mean", "min", "max"])
    axes.fill_between(found.index, found["min"], found["max"], color=look.colour, alpha=0.15, lw=0)
    options: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": look.line}
    axes.plot(found.index, found["mean"], markersize=3, linewidth=1.0, **options)


def _mark(axes: Axes, table: pd.DataFrame, column: str) -> None:
    sizes = sorted(table["images"].unique())
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.0f}"))
    axes.tick_params(axis="x", labelrotation=45)
    axes.set_ylim(min(0.0, float(table[column].min())) - 0.02, 1.02)
    axes.grid(axis="y", color=style.GUIDE_COLOUR, linewidth=0.3, alpha=0.6)
    recorded = table["recorded_images"].iloc[0]
    if pd.notna(recorded):
        axes.axvline(recorded, color=style.NOTE_COLOUR, linewidth=0.7)
    if column == "shared":
        axes.axhline(table["chance"].mean(), color=style.NOTE_COLOUR, linestyle=":", linewidth=1)


def _ticks(sizes: list[int]) -> list[int]:
    """Sizes at least half a doubling apart, thinned to a few, the largest among them."""
    chosen: list[int] = []
    for size in reversed(sizes):
        if not chosen or chosen[-1] / size >= 2**0.5:
            chosen.append(size)
    step = -(-len(chosen) // _MOST_TICKS)
    return sorted(chosen[::step])


def _handles(table: pd.DataFrame, looks: dict[str, style.Style]) -> list[Artist]:
    lines: list[Artist] = [
        Line2D([], [], color=x.colour, marker=x.marker, linestyle=x.line, label=measure_title(name))
        for name, x in looks.items()
    ]
    note: dict[str, Any] = {"color": style.NOTE_COLOUR, "linewidth": 1}
    lines.append(Line2D([], [], linestyle=":", label="random masks (b)", **note))
    if table["recorded_images"].notna().any():
        lines.append(Line2D([], [], label="sample of the recording", **note))
    return lines
