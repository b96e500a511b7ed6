"""Scatter plots: one quantity of every filter against another, `pruneviz.plot.scatter`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.errors import FigureError
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
from pruneviz.plot.colouring import Colouring, colouring
from pruneviz.plot.deciding import draw_deciding
from pruneviz.plot.groups import name_in
from pruneviz.plot.panels import network_of
from pruneviz.plot.points import KEPT, AxisScale, clear_points, clear_words, points
from pruneviz.plot.quantities import axis_label, name_of
from pruneviz.plot.row_kind import RowKind, row_kind_in
from pruneviz.plot.rows import kept_in
from pruneviz.plot.scatter_axes import GAPS, fit_labels, label_gaps, scale_axis
from pruneviz.plot.scatter_heading import heading, panel_title, when, write_heading
from pruneviz.plot.source import Chosen, Source
from pruneviz.plot.words import SHORT, SYMBOLS

_ROW = 2.55  # height of a row of panels, in inches
_TITLE_LINE = 0.15
_ONE_PANEL = (3.6, 3.2)
_MOST_PANELS = 60
_BELOW = 1.35  # height of a row of deciding points, in inches
_HEIGHTS = (1.5, 0.9)  # of panels and of those below them, in proportion
_INSET = (0.56, 0.07, 0.41, 0.38)  # place of the deciding points in given axes
_NARROW = 7.0  # points: labels of ticks beside each other in panels of a row


@with_table(points)
def scatter(
    source: Source,
    x: AnyMeasure,
    y: AnyMeasure,
    *,
    hue: AnyMeasure | None = "depth",
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
    unit: str | None = None,
    method: CorrelationMethod = "pearson",
    seed: int | None = None,
    scale: AxisScale = "symlog",
    inset: bool = False,
    ax: Axes | None = None,
) -> Any:
    """Draw one quantity of every filter against another.

    There is a panel for each epoch and for each setting in which the runs differ, besides their
    seed. The points of a panel are those of one run; above it stand the correlation of that run and
    the mean over all runs of the setting, with its standard deviation. Points that are not clear of
    the noise of the sample are hollow, where standard errors are recorded (of theta_hg with
    errors="full"; else theta_g alone decides). Logarithmic axes are
    linear in a strip around zero, which is shaded. Pruned filters are not drawn, unless hue is
    "kept", and never count in the correlation. Runs that hold no values of x and y are left out.
    `scatter.table` takes the same arguments, without `ax`, and returns the numbers.

    Args:
        source: Recordings as `pruneviz.load` returns them, or a filters table, such as that of
            `pruneviz.measure`.
        x: Horizontal quantity: a column, a pruning measure, or a function of a filters table.
        y: Vertical quantity.
        hue: Colour of the points: "depth" or "layer"; a column such as "kept", a measure or a
            function; "run" or a fact of the runs such as "network", which then share a panel; or
            None.
        epochs: Epochs to show; negative numbers count from the last one. Default: the first, that
            after a quarter of the training, and the last.
        runs: Runs to show: their names, or facts that they have, such as {"network": "mine"}.
        unit: What the rows are, such as "weight" or "head". Default: filters, else the only kind.
        method: Correlation coefficient: "pearson", "spearman", "kendall" or "symlog".
        seed: Seed of the run whose points are shown. Default: the lowest.
        scale: "symlog" (logarithmic on both sides of zero; linear for values of one sign within two
            decades) or "linear".
        inset: Show the few points that decide Pearson's coefficient on linear axes: in a panel
            below, or in given axes in a corner.
        ax: Axes for a plot of one panel. Default: a figure of its own.

    Returns:
        The given axes, or a matplotlib figure, which a notebook shows.

    Raises:
        FigureError: If what is asked for is not there; names what is. If axes are given for several
            panels; names these.

    References:
        Lubana and Dick, ICLR 2021, Figures 3 and 13-15.

    Example:
        >>> runs = pv.load("data/cifar-mini-batch")
        >>> pv.plot.scatter(runs, "theta_g", "theta_hg", runs={"network": "vgg13"})
        >>> pv.plot.scatter(runs, "magnitude", "loss_preservation", epochs=-1, hue="network")
    """
    table = points(
        source,
        x,
        y,
        hue=hue,
        epochs=epochs,
        runs=runs,
        unit=unit,
        method=method,
        seed=seed,
        scale=scale,
        inset=inset,
    )
    return draw_points(
        table,
        x=_named(x, "x"),
        y=_named(y, "y"),
        hue=None if hue is None else _named(hue, "hue"),
        method=method,
        scale=scale,
        inset=inset,
        ax=ax,
    )


def draw_points(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str | None = "depth",
    method: CorrelationMethod = "pearson",
    scale: AxisScale = "symlog",
    inset: bool = False,
    ax: Axes | None = None,
) -> Any:
    """Draw a table of `scatter.table`.

    Args:
        table: The table.
        x: Column on the horizontal axis.
        y: Column on the vertical axis.
        hue: Column that colours the points, "layer", or None.
        method: Correlation coefficient of the table.
        scale: "symlog" or "linear".
        inset: Whether to show the points that decide Pearson's coefficient on linear axes.
        ax: Axes for a plot of one panel.

    Returns:
        The given axes, or a figure.
    """
    row_kind = row_kind_in(table)
    table = table.assign(clear=clear_points(table, x, y), clear_in=_along(table, x, y))
    title = "" if hue is None else axis_label(hue, row_kind)
    colours = colouring(table, hue and name_in(table, hue), title)
    panels, columns = _panels(table)
    names = [panel.name for panel in panels]
    below = inset and ax is None
    if len(names) == 1:
        names = [names[0] or "all points"]
    places = with_rows_below(names, columns) if below else names
    grid = row_heights(names, columns, _HEIGHTS) if below else {}
    choose = "choose one with epochs and runs, or let settings share one with hue"
    size = _size(panels, columns, colours.room, below)
    with canvas(ax, places, choose, size=size, columns=columns, **grid) as drawn:
        shown = [panel for panel in panels if panel.name or len(panels) == 1]
        upper, lower = _rows_of(drawn, names, columns, inset)
        for place, panel in enumerate(shown):
            axes, gaps = upper[place], label_gaps(upper[place], len(shown))
            _draw_panel(axes, panel.rows, colours, (x, y), scale, gaps)
            letter = letters(len(shown))[place] if len(shown) > 1 else ""
            title = _title(panel, letter, columns, len(names) > columns)
            # Panels of a row are too narrow for the names of coefficients.
            symbols = SHORT if len(shown) > 1 or ax is not None else SYMBOLS
            lines = heading(panel.rows, row_kind, method, symbols)
            write_heading(axes, title, lines, ax is not None)
            if inset:
                _draw_inset(lower[place], panel.rows, colours, (x, y), row_kind, gaps)
        _label_axes(drawn.axes, axis_label(x, row_kind), axis_label(y, row_kind))
        colours.explain(drawn.figure, drawn.axes)
        if ax is None:
            cast(Figure, drawn.figure).draw_without_rendering()  # gives panels their widths
        for each in [*upper, *lower]:
            fit_labels(each, _NARROW if len(shown) > 1 else None)
        drawn.legend([*colours.handles, *_noise_handles(table)], room=0)
    return drawn.result


def _size(panels: Sequence[_Panel], columns: int, room: float, below: bool) -> tuple[float, float]:
    width, height = _ONE_PANEL
    rows = math.ceil(len(panels) / columns)
    if len(panels) > 1:
        row = _ROW + (_TITLE_LINE if any(panel.titled for panel in panels) else 0.0)
        width, height = style.TEXT_WIDTH, row * rows
    return width + room, height + (_BELOW * rows if below else 0.0)


def _rows_of(
    drawn: Canvas, names: Sequence[str], columns: int, inset: bool
) -> tuple[Sequence[Axes], Sequence[Axes]]:
    """Panels, and those of the points that decide below them or inside given axes."""
    if not inset:
        return drawn.axes, ()
    if drawn.given is not None:
        return drawn.axes, [drawn.given.inset_axes(_INSET)]
    return upper_and_lower(drawn.axes, names, columns)


def _draw_inset(
    axes: Axes,
    rows: pd.DataFrame,
    colours: Colouring,
    names: tuple[str, str],
    row_kind: RowKind,
    gaps: tuple[float, float],
) -> None:
    kept = rows[kept_in(rows)] if KEPT in rows else rows
    draw_deciding(axes, kept, colours, names, row_kind)
    x, y = (rows[name].to_numpy(dtype="float64") for name in names)
    scale_axis(axes, "x", x, "linear", max(gaps[0], GAPS[0]))
    scale_axis(axes, "y", y, "linear", max(gaps[1], GAPS[1]))


def _along(table: pd.DataFrame, x: str, y: str) -> str:
    """The axis along which hollow points are within noise, if the errors of one are known alone."""
    axes = {f" in {x}": " along the horizontal axis", f" in {y}": " along the vertical axis"}
    return axes.get(clear_words(table, x, y), "")


def _noise_handles(table: pd.DataFrame) -> list[Artist]:
    """Entry of the legend for hollow points, where there are some."""
    if table["clear"].fillna(True).all():
        return []
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color=style.NOTE_COLOUR,
            fillstyle="none",
            markeredgewidth=0.6,
            label=f"within noise{table['clear_in'].iloc[0]}",
        )
    ]


@dataclass(frozen=True, repr=False)
class _Panel:
    """What one panel shows; without a name it is an empty place.

    Attributes:
        name: Setting and epoch.
        rows: The points.
        group: Setting of the runs, if there are several, else their network.
        titled: Whether its title names the setting.
        alone: Whether the setting has no other panel.
    """

    name: str
    rows: pd.DataFrame
    group: str = ""
    titled: bool = False
    alone: bool = False


def _panels(table: pd.DataFrame) -> tuple[list[_Panel], int]:
    """Panels row by row, and the number of columns: a setting fills whole rows of epochs."""
    groups = table.groupby("group", sort=False) if "group" in table else [("", table)]
    by_group = [(str(group), list(rows.groupby("epoch"))) for group, rows in groups]
    most = max(len(epochs) for _, epochs in by_group)
    columns = in_row(len(by_group) if most == 1 else most)
    network = network_of(table) if len(by_group) == 1 else ""
    found: list[_Panel] = []
    for group, epochs in by_group:
        title = group or network
        for place, (_, rows) in enumerate(epochs):
            name = ", ".join(filter(None, [group, when(rows.iloc[0])]))
            titled = bool(title) and (most == 1 or place == 0)
            found.append(_Panel(name, rows, title, titled, most == 1))
        if most > 1:
            found += [_Panel("", table[:0])] * (-len(found) % columns)
    if len(found) > _MOST_PANELS:
        raise FigureError(
            f"this plot has {len(found)} panels, for {len(by_group)} settings of the runs and up "
            f"to {most} epochs, and {_MOST_PANELS} are the most; choose fewer with runs and epochs"
        )
    return found, columns


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    colours: Colouring,
    names: tuple[str, str],
    scale: AxisScale,
    gaps: tuple[float, float],
) -> None:
    x, y = names
    # In random order; otherwise the deepest layers, drawn last, would hide the others.
    colours.draw(axes, rows.sample(frac=1, random_state=0), x, y)
    scale_axis(axes, "x", rows[x].to_numpy(dtype="float64"), scale, gaps[0])
    scale_axis(axes, "y", rows[y].to_numpy(dtype="float64"), scale, gaps[1])


def _title(panel: _Panel, letter: str, columns: int, rows: bool) -> str:
    epoch = when(panel.rows.iloc[0])
    if rows:  # beside several rows, the colour bar leaves less room
        epoch = epoch.partition(" of ")[0]
    return panel_title(
        panel.group, epoch, letter, alone=panel.alone, titled=panel.titled, columns=columns
    )


def _label_axes(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label the lowest panel of every column and the first of every row."""
    places = [axes.get_subplotspec() for axes in panels]
    for axes, place in zip(panels, places, strict=True):
        below = [
            other
            for other in places
            if place and other
            if other.colspan.start == place.colspan.start
            if other.rowspan.start > place.rowspan.start
        ]
        if len(panels) == 1 or not below:
            axes.set_xlabel(x)
        if len(panels) == 1 or (place and place.is_first_col()):
            axes.set_ylabel(y)


def _named(what: AnyMeasure, place: str) -> str:
    """The name of a quantity in the table."""
    return what if isinstance(what, str) else name_of(what, place)
