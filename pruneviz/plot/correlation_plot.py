"""Correlations during training, beside mask distances: `pruneviz.plot.correlation`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.settings import different
from pruneviz.console.words import counted
from pruneviz.log.vocabulary import CorrelationMethod
from pruneviz.plot import style
from pruneviz.plot.canvas import (
    Canvas,
    canvas,
    in_row,
    letters,
    row_heights,
    upper_and_lower,
    with_rows_below,
    with_table,
)
from pruneviz.plot.correlation_lines import Lines, best_of, lines_of
from pruneviz.plot.correlation_table import correlation_table
from pruneviz.plot.glyphs import drawable, literal
from pruneviz.plot.legends import FEW
from pruneviz.plot.mask_panels import (
    draw_masks,
    has_masks,
    mask_handles,
    masks_label,
    scale_below,
    scale_beside,
)
from pruneviz.plot.mean_masks import AUTO
from pruneviz.plot.panels import network_of, wrapped_label
from pruneviz.plot.quantities import symbol_of
from pruneviz.plot.row_kind import RowKind, row_kind_in
from pruneviz.plot.source import Chosen, Source
from pruneviz.plot.words import SYMBOLS

_FIRST_ROW, _ROW = 2.5, 2.3  # inches
_ONE_PANEL = (0.6, 2.9)  # share of the text width; inches, with a legend of 3 rows
_SINGLE_ENTRIES = 3
_ONE_PANEL_OF_MANY = (0.8, 2.8)
MOST_BANDS_OF_LINES = 3  # lines whose bands are told apart
_CHARACTERS = 54  # of all titles in a row
_LABEL = 34  # characters of a name in the label of an axis
_RIGHT_AXIS = 0.9  # inches that the second axis takes with its label
_BAND = 0.18  # opacity
_BELOW = 1.2  # inches of a row of mask distances
_HEIGHTS = (1.5, 1.0)  # of correlations and of the mask distances below them
_LINE = 30  # characters of a line beside a panel of correlations
_UNRELATED: Mapping[str, Any] = MappingProxyType(
    {"color": style.GUIDE_COLOUR, "alpha": 0.25, "linewidth": 0}
)


@with_table(correlation_table)
def correlation(
    source: Source,
    x: AnyMeasure | Sequence[AnyMeasure] | None = None,
    y: AnyMeasure | None = None,
    *,
    by: str | None = None,
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
    unit: str | None = None,
    method: CorrelationMethod = "pearson",
    mask_score: AnyMeasure | None = AUTO,
    mask_ratio: float | None = None,
    ax: Axes | None = None,
) -> Any:
    """Draw how well one quantity of the filters goes with another, epoch by epoch.

    There is a panel for each setting in which the runs differ, besides their seed and what `by`
    names. A line is a mean over runs; its band reaches one standard deviation to both sides, at
    most to -1 and 1, or, for a single run, over the 95 % interval. A dashed line in a panel below
    shows how far pruning masks of consecutive epochs differ, a dotted one how far random masks
    would; its axis is logarithmic beyond a strip at zero if the distances differ by a factor of
    ten. Pruned filters do not count. Runs that hold no values of x and y are left out.
    `correlation.table` takes the same arguments, without `ax`, and returns the numbers.

    Args:
        source: Recordings as `pruneviz.load` returns them, or a filters table with epochs.
        x: Column, pruning measure, or function of a filters table. A list of them gives a line
            each, with the measure "random" and the range of unrelated values beside. Default: all
            measures that the runs hold, of which the eight with the largest mean size of the
            correlation are drawn.
        y: The quantity that x is correlated with, such as "loss_preservation", or "delta_loss" to
            see how well measures predict what the removal of a filter does to the loss.
        by: What the lines of a panel differ in: "run", "layer", a fact of the runs such as
            "network", or a column. Default: the settings have a panel each.
        epochs: Epochs to show; negative numbers count from the last one. Default: all.
        runs: Runs to show: their names, or facts that they have, such as {"network": "mine"}.
        unit: What the rows are, such as "weight" or "head". Default: filters, else the only kind.
        method: Correlation coefficient: "pearson", "spearman", "kendall" or "symlog".
        mask_score: Pruning measure of the masks, or None for none. Default: the measure whose masks
            the log compares, else bn_scale for filters and magnitude for other units and for
            networks without batch norm; none if x is a list, or if there are no two epochs to
            compare.
        mask_ratio: Fraction that the masks prune. Default: that of the log, else 0.2.
        ax: Axes for a plot of one panel. Mask distances then have a second axis on its right, with
            the same zero. Default: a figure of its own.

    Returns:
        The given axes, or a matplotlib figure, which a notebook shows.

    Raises:
        FigureError: If what is asked for is not there; names what is. If axes are given for several
            panels; names these.
        AnalysisError: If mask_ratio is outside [0, 1].

    References:
        Lubana and Dick, ICLR 2021, Figure 2. You et al., ICLR 2020 (mask distance).

    Example:
        >>> runs = pv.load("data/cifar-mini-batch")
        >>> pv.plot.correlation(runs, "sigma_change", "loss_preservation")
        >>> pv.plot.correlation(runs, y="loss_preservation", runs={"network": "vgg13"})
    """
    table = correlation_table(
        source,
        x,
        y,
        by=by,
        epochs=epochs,
        runs=runs,
        unit=unit,
        method=method,
        mask_score=mask_score,
        mask_ratio=mask_ratio,
    )
    shown = best_of(table, method) if x is None else table
    return draw_curves(shown, by=by, method=method, ax=ax, lines_in_all=table["x"].nunique())


def draw_curves(
    table: pd.DataFrame,
    *,
    by: str | None = None,
    method: CorrelationMethod = "pearson",
    ax: Axes | None = None,
    lines_in_all: int = 0,
) -> Any:
    """Draw a table of `correlation.table`.

    Args:
        table: The table.
        by: What the lines of a panel differ in.
        method: Correlation coefficient of the table.
        ax: Axes for a plot of one panel.
        lines_in_all: How many lines there are, with those that the table lacks.

    Returns:
        The given axes, or a figure.
    """
    lines = lines_of(table, by)
    panels = [(network_of(table), table)]
    if "group" in table:
        panels = [(str(name), rows) for name, rows in table.groupby("group", sort=False)]
    masks, across = has_masks(table), in_row(len(panels))
    names = [name or "all runs" for name, _ in panels]
    places, grid = names, {}
    if masks and ax is None:
        places, grid = with_rows_below(names, across), row_heights(names, across, _HEIGHTS)
    choose = "choose one with runs, or let the lines of one panel differ in a fact with by"
    size = _size(len(panels), lines, masks)
    with canvas(ax, places, choose, size=size, columns=across, **grid) as drawn:
        above, below = _rows_of(drawn, names, across, masks)
        for place, (name, panel) in enumerate(panels):
            axes, letter = above[place], letters(len(panels))[place]
            _draw_unrelated(axes, panel)
            _draw_lines(axes, panel, lines, method)
            if masks:
                draw_masks(below[place], panel, lines, ax is None)
            title = f"{letter if len(panels) > 1 else ''}{name}"
            _finish(axes, panel, textwrap.wrap(drawable(title), _CHARACTERS // across))
        _share_axes(above, _limits(table, method, len(lines.looks)), lines.left)
        _name_axes(above[::across], table, method, lines)
        _finish_masks(above, below, across, table, lines, ax is None)
        if lines.ramp:
            lines.ramp.explain(drawn.figure, drawn.axes)
        columns = (2 if len(panels) > 1 else 1) if lines.single else None
        room = _SINGLE_ENTRIES if columns == 1 else 1
        handles = _handles(table, lines, lines_in_all - len(lines.looks))
        handles += mask_handles(lines, ax is None) if masks else []
        drawn.legend(
            handles, columns=columns, room=room, **_legend_place(drawn.given, handles, masks)
        )
    return drawn.result


def _rows_of(
    drawn: Canvas, names: Sequence[str], across: int, masks: bool
) -> tuple[Sequence[Axes], Sequence[Axes]]:
    """Axes of correlations, and those of the mask distances below or beside them."""
    if not masks:
        return drawn.axes, ()
    if drawn.given is not None:
        return drawn.axes, [drawn.given.twinx()]
    return upper_and_lower(drawn.axes, names, across)


def _legend_place(given: Axes | None, handles: Sequence[Artist], masks: bool) -> dict[str, Any]:
    """Options of the legend; beside given axes a long one stands clear of the second axis."""
    if given is None or not masks or len(handles) <= FEW:
        return {"columnspacing": 1.2}
    clear = ScaledTranslation(_RIGHT_AXIS, 0, given.figure.dpi_scale_trans)
    place = {"bbox_to_anchor": (1.0, 1.0), "bbox_transform": given.transAxes + clear}
    return {"loc": "upper left", "borderaxespad": 0.0, **place}


def _size(panels: int, lines: Lines, masks: bool) -> tuple[float, float]:
    rows = math.ceil(panels / in_row(panels))
    below = _BELOW * rows if masks else 0.0
    if panels > 1:
        return style.TEXT_WIDTH, _FIRST_ROW + _ROW * (rows - 1) + below
    share, height = _ONE_PANEL if lines.single else _ONE_PANEL_OF_MANY
    return share * style.TEXT_WIDTH, height + below


def _draw_unrelated(axes: Axes, panel: pd.DataFrame) -> None:
    """Zero and, where measures are judged, the range of correlations of unrelated values."""
    axes.axhline(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    if "unrelated" in panel:
        widest = panel.groupby("epoch")["unrelated"].max().dropna()
        if len(widest) == 1:
            axes.axhspan(-widest.iloc[0], widest.iloc[0], zorder=0, **_UNRELATED)
        axes.fill_between(widest.index, -widest, widest, zorder=0, **_UNRELATED)


def _draw_lines(axes: Axes, panel: pd.DataFrame, lines: Lines, method: str) -> None:
    if panel[method].isna().all():
        why = "undefined: one of the two is constant,\nor fewer than three rows have both"
        axes.text(0.5, 0.75, why, transform=axes.transAxes, ha="center", va="center")
    for look, rows in lines.of(panel):
        measured = rows.dropna(subset=[method])
        low, high = measured["band_low"].clip(-1, 1), measured["band_high"].clip(-1, 1)
        if len(lines.looks) <= MOST_BANDS_OF_LINES and len(measured) == 1:
            axes.vlines(measured["epoch"], low, high, color=look.colour, alpha=0.4, linewidth=4)
        elif len(lines.looks) <= MOST_BANDS_OF_LINES:
            axes.fill_between(
                measured["epoch"], low, high, color=look.colour, alpha=_BAND, linewidth=0
            )
        axes.plot(
            measured["epoch"],
            measured[method],
            color=look.colour,
            marker=look.marker,
            linestyle=look.dashes,
            label=look.label,
        )


def _finish(axes: Axes, panel: pd.DataFrame, title: Sequence[str]) -> None:
    if title:
        axes.set_title("\n".join(map(literal, title)))
    axes.set_xlabel("epochs trained")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    last = panel["epoch"].max()
    if panel["epoch"].min() == last:
        axes.set_xlim(last - 0.5, last + 0.5)
        axes.set_xticks([last])
        return
    axes.set_xlim(np.array([-0.04, 1.04]) * last if last else (-0.5, 0.5))


def _limits(table: pd.DataFrame, method: str, lines: int) -> tuple[float, float]:
    """Limits that include zero and all that is drawn, with room for markers; 0.5 apart or more."""
    # Correlations that a log holds, such as those of single weights, have no bands.
    bands = ["band_low", "band_high"] if lines <= MOST_BANDS_OF_LINES else []
    ends = table[[method, *bands]].to_numpy("float64")
    low, high = np.nanmin([0.0, *ends.ravel()]), np.nanmax([0.0, *ends.ravel()])
    missing = max(0.0, 0.5 - (high - low)) / 2
    return max(-1.05, low - missing - 0.04), min(1.05, high + missing + 0.04)


def _share_axes(panels: Sequence[Axes], limits: tuple[float, float], colour: str) -> None:
    """Give all panels equal limits and ticks in one colour, without tick labels."""
    for axes in panels:
        axes.set_ylim(limits)
        # The automatic locator would pick other ticks, of other widths, after the layout.
        axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", colors=colour, labelleft=False)


def _name_axes(panels: Sequence[Axes], table: pd.DataFrame, method: str, lines: Lines) -> None:
    """Label panels, the first of each row, on their left."""
    left = _left_name(table, row_kind_in(table), method)
    for axes in panels:
        axes.set_ylabel(left, color=lines.left)
        axes.tick_params(axis="y", labelleft=True)


def _finish_masks(
    above: Sequence[Axes],
    below: Sequence[Axes],
    across: int,
    table: pd.DataFrame,
    lines: Lines,
    own: bool,
) -> None:
    """Scale and label axes of mask distances: panels below, or a second axis of given axes."""
    if not below:
        return
    if own:
        scale_below(below, table)
        for upper, lower in zip(above, below, strict=True):
            _move_epochs(upper, lower)
    else:
        scale_beside(above[0], below[0], table)
    for axes in below[::across]:
        axes.set_ylabel(masks_label(table), color=lines.right)
        axes.tick_params(axis="y", labelleft=own)
    for axes in below:
        axes.tick_params(axis="y", which="both", colors=lines.right)


def _move_epochs(upper: Axes, lower: Axes) -> None:
    """Label the epochs of two panels below the lower one."""
    lower.set_xlim(upper.get_xlim())
    lower.set_xlabel(upper.get_xlabel())
    lower.xaxis.set_major_locator(FixedLocator(upper.get_xticks().tolist()))
    upper.set_xlabel("")
    upper.tick_params(axis="x", labelbottom=False)


def _left_name(table: pd.DataFrame, row_kind: RowKind, method: str) -> str:
    xs, y = different(table["x"]), _in_words(str(table["y"].iloc[0]), row_kind)
    first = f"correlation of {_in_words(str(xs[0]), row_kind)} with" if len(xs) == 1 else ""
    label = [first or "correlation with", f"{y} ({SYMBOLS[method]})"]
    return "\n".join(wrapped_label(line, _LINE) for line in label)


def _in_words(name: str, row_kind: RowKind) -> str:
    """A quantity in the label of an axis."""
    if name == row_kind.change:
        return row_kind.change_symbol
    if name.startswith("loss_preservation"):
        return "loss preservation"
    return symbol_of(name, row_kind, _LABEL)


def _handles(table: pd.DataFrame, lines: Lines, left: int) -> list[Artist]:
    """Entries of the legend: lines, their bands, and the range of unrelated values."""
    found: list[Artist] = []
    if lines.ramp is None:
        found += [
            Line2D([], [], color=look.colour, marker=look.marker, ls=look.dashes, label=look.label)
            for look in lines.looks.values()
        ]
    if left > 0 and lines.column == "x":
        label = f"({counted(left, 'weaker measure')} in the table)"
        found.append(Line2D([], [], linestyle="none", label=label))
    if "unrelated" in table:
        found.append(Patch(label="unrelated values: 95 %", **_UNRELATED))
    if len(lines.looks) <= MOST_BANDS_OF_LINES and table["band_low"].notna().any():
        found.append(Patch(color=lines.left, alpha=_BAND, lw=0, label=_band(table["seeds"])))
    return found


def _band(seeds: pd.Series) -> str:
    """What a band reaches over, in the legend."""
    known = ["± 1 sd over seeds"] * bool((seeds > 1).any())
    return " or ".join([*known, *["95 % interval of the run"] * bool((seeds == 1).any())])
