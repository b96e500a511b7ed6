"""Scatter plots: one quantity of every filter against another, `pruneviz.plot.scatter`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.console.words import counted
from pruneviz.errors import FigureError
from pruneviz.log.vocabulary import CorrelationMethod, with_companion
from pruneviz.plot import style
from pruneviz.plot.canvas import canvas, letters, with_table
from pruneviz.plot.colouring import Colouring, colouring
from pruneviz.plot.glyphs import literal
from pruneviz.plot.legends import shortened
from pruneviz.plot.points import AxisScale, points
from pruneviz.plot.quantities import axis_label, name_of
from pruneviz.plot.row_kind import RowKind, row_kind_in
from pruneviz.plot.signed_log import SignedLog, off_ends, spans_decades
from pruneviz.plot.source import Chosen, Source
from pruneviz.plot.words import SHORT, SYMBOLS, decimal, mean_and_sd, scientific

_ROW = 2.55  # height of a row of panels, in inches
_TITLE_LINE = 0.15
_ONE_PANEL = (3.6, 3.2)
_ACROSS = 3  # panels in a row
_MOST_PANELS = 60
_CHARACTERS = 54  # of a title that reaches over a whole row
# Least distance of two tick labels, as a fraction of the axis, or for a single panel in inches.
_GAPS = (0.27, 0.13)
_LABEL = (0.36, 0.22)


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
    ax: Axes | None = None,
) -> Any:
    """Draw one quantity of every filter against another.

    There is a panel for each epoch and for each setting in which the runs differ, besides their
    seed. The points of a panel are those of one run; the correlation above it is the mean over all
    runs of the setting, with its standard deviation. Pruned filters are not drawn, unless hue is
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
    )
    return draw_points(
        table,
        x=_named(x, "x"),
        y=_named(y, "y"),
        hue=None if hue is None else _named(hue, "hue"),
        method=method,
        scale=scale,
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
        ax: Axes for a plot of one panel.

    Returns:
        The given axes, or a figure.
    """
    row_kind = row_kind_in(table)
    colours = colouring(table, hue, "" if hue is None else axis_label(hue, row_kind))
    panels, columns = _panels(table)
    size = _ONE_PANEL
    if len(panels) > 1:
        height = _ROW + (_TITLE_LINE if any(panel.titled for panel in panels) else 0.0)
        size = (style.TEXT_WIDTH, height * math.ceil(len(panels) / columns))
    size = (size[0] + colours.room, size[1])
    choose = "choose one with epochs and runs, or let settings share one with hue"
    names = [panel.name for panel in panels]
    with canvas(ax, names, choose, size=size, columns=columns) as drawn:
        shown = [panel for panel in panels if panel.name or len(panels) == 1]
        for letter, axes, panel in zip(letters(len(shown)), drawn.axes, shown, strict=True):
            _draw_panel(axes, panel.rows, colours, (x, y), scale, _gaps(axes, len(shown)))
            title = _title(panel, letter if len(shown) > 1 else "", columns, len(names) > columns)
            # A colour bar leaves room for the words of the last panel of a single row.
            symbols = SYMBOLS if ax is None and colours.norm and len(names) == columns else SHORT
            lines = _heading(panel.rows, row_kind, method, symbols)
            _write_heading(axes, title, lines, ax is not None)
        _label_axes(drawn.axes, axis_label(x, row_kind), axis_label(y, row_kind))
        colours.explain(drawn.figure, drawn.axes)
        drawn.legend(colours.handles, room=0)
    return drawn.result


@dataclass(frozen=True, repr=False)
class _Panel:
    """What one panel shows; without a name it is an empty place.

    Attributes:
        name: Setting and epoch.
        rows: The points.
        group: Setting of the runs, if there are several.
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
    columns = min(_ACROSS, len(by_group) if most == 1 else most)
    found: list[_Panel] = []
    for group, epochs in by_group:
        for place, (_, rows) in enumerate(epochs):
            name = ", ".join(filter(None, [group, when(rows.iloc[0])]))
            titled = bool(group) and (most == 1 or place == 0)
            found.append(_Panel(name, rows, group, titled, most == 1))
        if most > 1:
            found += [_Panel("", table[:0])] * (-len(found) % columns)
    if len(found) > _MOST_PANELS:
        raise FigureError(
            f"this plot has {len(found)} panels, for {len(by_group)} settings of the runs and up "
            f"to {most} epochs, and {_MOST_PANELS} are the most; choose fewer with runs and epochs"
        )
    return found, columns


def when(facts: pd.Series) -> str:
    """The epoch of a panel in words; nothing for a table without epochs."""
    if not facts["schedule"]:
        return ""
    return f"epoch {facts['epoch']} of {facts['schedule']}" if facts["epoch"] else "initialisation"


def counts(facts: pd.Series, row_kind: RowKind) -> str:
    """How many rows and runs a correlation is over."""
    rows, runs = facts[row_kind.counted], facts["seeds"]
    text = "no pair of values" if pd.isna(rows) else counted(int(rows), row_kind.noun)
    if pd.isna(runs) or not runs or (runs < 2 and pd.isna(facts["seed"])):
        return text
    return f"{text}, {counted(int(runs), 'run' if pd.isna(facts['seed']) else 'seed')}"


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
    _scale_axis(axes, "x", rows[x].to_numpy(dtype="float64"), scale, gaps[0])
    _scale_axis(axes, "y", rows[y].to_numpy(dtype="float64"), scale, gaps[1])


def _scale_axis(
    axes: Axes, which: Literal["x", "y"], values: np.ndarray, scale: AxisScale, gap: float
) -> None:
    """Scale, ticks and, where the axis has it, a line at zero."""
    axis, guide = (axes.xaxis, axes.axvline) if which == "x" else (axes.yaxis, axes.axhline)
    logarithmic = scale == "symlog" and spans_decades(values)
    if logarithmic or (values.size and values.min() <= 0 <= values.max()):
        guide(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    if logarithmic:
        SignedLog.fit(values).apply(axes, which, gap)
        return
    most = max(2, round(0.8 / gap))
    axis.set_major_locator(FixedLocator(linear_ticks(*axis.get_view_interval(), most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: scientific(value)))


def _gaps(axes: Axes, panels: int) -> tuple[float, float]:
    """Least distance of two tick labels on both axes, as a fraction of the axis."""
    if panels > 1:
        return _GAPS
    inches = np.asarray(axes.get_window_extent().size) / axes.figure.dpi
    across, up = np.clip(np.array(_LABEL) / inches, 0.05, 0.45)
    return float(across), float(up)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values inside an axis, at most `most`, none at its ends."""
    for bins in range(most + 2, 1, -1):
        locator = MaxNLocator(nbins=bins, steps=[1, 2, 5, 10])
        ticks = np.asarray(locator.tick_values(low, high))
        inside = ticks[off_ends((ticks - low) / (high - low))]
        if 0 < len(inside) <= most:
            return list(inside.tolist())
    return []


def _heading(
    rows: pd.DataFrame,
    row_kind: RowKind,
    method: CorrelationMethod,
    symbols: Mapping[str, str],
) -> list[str]:
    """The correlations of a panel, or their range if its points are of several settings."""
    settings = rows.drop_duplicates("run")
    if len(settings) == 1:
        facts = settings.iloc[0]
        lines = [
            f"{symbols[name]} {mean_and_sd(facts[name], facts[f'{name}_sd'])}"
            for name in with_companion(method)[:2]
        ]
        return [*lines, counts(facts, row_kind)]
    lines = [
        f"{symbols[name]} {decimal(settings[name].min())} to {decimal(settings[name].max())}"
        for name in with_companion(method)[:2]
    ]
    return [*lines, f"{counted(int(settings[row_kind.counted].sum()), row_kind.noun)}"]


def _title(panel: _Panel, letter: str, columns: int, rows: bool) -> str:
    """Setting and epoch of a panel; a setting with several epochs is named once, over its row."""
    epoch = when(panel.rows.iloc[0])
    if rows:  # beside several rows, the colour bar leaves less room
        epoch = epoch.partition(" of ")[0]
    if not panel.titled:
        return f"{letter}{epoch}"
    if panel.alone:
        (group,) = shortened([panel.group], 2 * _CHARACTERS // columns)
        lines = textwrap.wrap(f"{letter}{group}", _CHARACTERS // columns)
        return "\n".join(map(literal, [*lines, *filter(None, [epoch])]))
    (group,) = shortened([panel.group], _CHARACTERS)
    return f"{literal(group)}\n{letter}{epoch}"


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


def _write_heading(axes: Axes, title: str, lines: list[str], given: bool) -> None:
    """Write the title and correlations above a panel, where they hide no points."""
    if given:
        *correlations, rows = lines
        text = [title, ", ".join(correlations), rows]
        axes.set_title("\n".join(filter(None, text)), loc="left", fontsize="small")
        return
    axes.set_title(title or " ", pad=33)
    box = axes.annotate(
        "\n".join(lines),
        (0, 1),
        (0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7.5,
        color=style.NOTE_COLOUR,
        ha="left",
        va="bottom",
        linespacing=1.15,
    )
    # The title above keeps its room; the text may reach over the gap between two panels.
    box.set_in_layout(False)
