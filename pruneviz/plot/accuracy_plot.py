"""Accuracy, or any column of the epochs table, against the epochs trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pruneviz.console.words import counted
from pruneviz.log.arguments import as_tuple
from pruneviz.plot import style
from pruneviz.plot.canvas import (
    canvas,
    letters,
    row_heights,
    upper_and_lower,
    with_rows_below,
    with_table,
)
from pruneviz.plot.curve_table import (
    MOST_SINGLE,
    curves,
    epoch_columns,
    one_per_training,
    single_runs,
)
from pruneviz.plot.epoch_axes import EpochAxis, epoch_axis, short_name
from pruneviz.plot.legends import fitting
from pruneviz.plot.looks import (
    Key,
    Look,
    keys_of,
    legend_facts,
    looks_of,
    panels_of,
    varying,
)
from pruneviz.plot.panels import wrapped
from pruneviz.plot.source import Chosen, Source, runs_of

_DASHES: tuple[style.Line, ...] = (
    "-",
    (0, (3.5, 1.5)),
    (0, (1, 1)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (8, 2)),
)
_HEIGHTS, _BELOW = (2.0, 1.2), 1.0  # of panels and those below them, in proportion; inches
_CHOOSE = "choose the runs of one with runs={...}"
_MOST_TICKS = 64  # epochs; up to here every round has a tick


def accuracies(
    source: Source,
    y: str | Sequence[str] | None = None,
    *,
    by: str | Sequence[str] | None = None,
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
) -> pd.DataFrame:
    """The numbers that `pruneviz.plot.accuracy` draws.

    Args:
        source: As for `pruneviz.plot.accuracy`, as are all arguments.
        y: Columns to show.
        by: Facts that tell runs apart.
        epochs: Epochs to show.
        runs: Runs to show.

    Returns:
        One row per setting of runs and epoch: the facts that tell the runs apart (network and
        dataset always, unless `by` names others), epoch, seeds (runs averaged), for each column
        its mean over the runs and its standard deviation (`_sd`, null for one run), columns beside
        the first one before it; kept_fraction (mean) if it is recorded; of settings of two or three
        runs, the values of each (`_run1`, `_run2`, `_run3`); and pruned (whether a round pruned
        after this epoch).

    Raises:
        FigureError: If a column, a fact, an epoch or a run is not there; names what is.
    """
    chosen = runs_of(source, runs, one_unit=False)
    spec = chosen.spec if "unit" in as_tuple(by) else one_per_training(chosen.spec)
    return curves(chosen, spec, y, by, epochs)


@with_table(accuracies)
def accuracy(
    source: Source,
    y: str | Sequence[str] | None = None,
    *,
    by: str | Sequence[str] | None = None,
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
    ax: Axes | None = None,
) -> Any:
    """Draw accuracy against the epochs trained, or any other column of the epochs table.

    Runs that differ only in their seed are one line, their mean; two or three of them are thin
    lines beside it, more are a band of one standard deviation to both sides. The training
    counterpart has panels below, or dashed lines in given axes. Data sets have a panel each, and
    where several measures prune, networks and numbers of rounds as well; what else the runs differ
    in stands in the legend. Unpruned runs are a grey line beside the pruned runs of their network
    and data set. Epochs after which a round pruned are shaded. A training that was measured by
    filters and by single weights is drawn once, unless `by` holds "unit".

    Args:
        source: Recordings as `pruneviz.load` returns them, or an epochs table.
        y: Column of the epochs table, with its training counterpart (`train_acc` for `val_acc`)
            beside it where that is recorded; or a list of columns, the first of which is solid.
            Facts of your own that were given to `after_epoch` count. Default: `test_acc`,
            or the first other accuracy that all runs have.
        by: Facts of the runs, columns of `runs.spec`, that tell them apart; runs that are equal in
            them are averaged. Default: all in which they differ besides their seed.
        epochs: Epochs to show; negative ones count from the last. Default: all.
        runs: Names of the runs to show, or facts that they have, such as {"network": "mine"}.
            Default: all.
        ax: Axes to draw into. Default: a picture of its own.

    Returns:
        The picture, a matplotlib figure that a notebook shows; or `ax`. `accuracy.table` takes the
        same arguments without `ax` and returns the drawn numbers.

    Raises:
        FigureError: If a column, a fact, an epoch or a run is not there; names what is. If columns
            of several units are to share an axis, or several panels are to be drawn into `ax`.

    References:
        Lubana and Dick, ICLR 2021, Figures 1 and 4-12.

    Example:
        >>> runs = pv.load("data/mine")
        >>> pv.plot.accuracy(runs)
        >>> pv.plot.accuracy(runs, "loss/aux", runs={"seed": 0})
    """
    return draw_curves(accuracies(source, y, by=by, epochs=epochs, runs=runs), ax)


def draw_curves(table: pd.DataFrame, ax: Axes | None = None) -> Any:
    """Draw a table of `accuracies`.

    Raises:
        FigureError: If `ax` is given and there are several panels, or columns have several units.
    """
    axis = epoch_axis(table, epoch_columns(table))
    panels, told = panels_of(table, _panel_facts(table), ("network", "dataset"))
    facts = legend_facts(table, "epoch", told)
    looks = looks_of(table, facts)
    if len(looks) == 1:
        looks = {
            key: replace(look, style=replace(look.style, line="-")) for key, look in looks.items()
        }
    across = len(panels) if len(panels) <= 3 else 2
    rows = -(-len(panels) // across)
    size = (style.TEXT_WIDTH * (0.68 if across == 1 else 1), 0.65 + 2.1 * rows)
    names = [panel.title or "all runs" for panel in panels]
    below = ax is None and len(axis.columns) == 2
    shown = [replace(axis, columns=(name,)) for name in axis.columns] if below else [axis]
    places, grid = (with_rows_below(names, across), {}) if below else (names, {})
    if below:
        grid, size = row_heights(names, across, _HEIGHTS), (size[0], size[1] + _BELOW * rows)
    with canvas(ax, places, _CHOOSE, size=size, columns=across, **grid) as drawn:
        parts = upper_and_lower(drawn.axes, names, across) if below else (drawn.axes,)
        for part, each in zip(parts, shown, strict=True):
            for axes, panel in zip(part, panels, strict=True):
                _draw_panel(axes, panel.rows, each, looks, facts)
            for axes in part[::across]:
                axes.set_ylabel(epoch_axis(table, each.columns).label)
        for letter, axes, panel in zip(letters(len(panels)), parts[0], panels, strict=True):
            if drawn.given is None:
                title = f"{letter if len(panels) > 1 else ''}{panel.title}"
                axes.set_title(wrapped(title, size[0] / across))
        if below:
            for axes in parts[0]:
                axes.set_xlabel("")
                axes.tick_params(axis="x", labelbottom=False)
        handles, columns = _handles(table, shown[0], looks, size[0])
        drawn.legend(handles, columns=columns, room=2)
    return drawn.result


def _panel_facts(table: pd.DataFrame) -> list[str]:
    """Data sets; where measures are compared, networks and numbers of rounds as well."""
    compared = bool(varying(table, ["measure"]))
    return ["network", "dataset", "rounds"] if compared else ["dataset"]


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    axis: EpochAxis,
    looks: Mapping[Key, Look],
    facts: Sequence[str],
) -> None:
    _mark_rounds(axes, rows)
    keys = keys_of(rows, facts)
    for key, look in looks.items():
        curve = rows[[other == key for other in keys]]
        if len(curve):
            _draw_curve(axes, curve, axis, look)
    _scale(axes, rows, axis)


def _mark_rounds(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a line for one round, or a shaded span for several, with a tick each if they fit."""
    epochs = sorted(set(rows.loc[rows["pruned"], "epoch"]))
    if len(epochs) == 1:
        axes.axvline(epochs[0], color=style.GUIDE_COLOUR, linewidth=0.9, linestyle=":", zorder=0)
    elif epochs:
        axes.axvspan(
            epochs[0], epochs[-1], color=style.GUIDE_COLOUR, alpha=0.18, linewidth=0, zorder=0
        )
    if len(epochs) > 1 and has_ticks(rows):
        axes.vlines(
            epochs,
            0,
            0.03,
            transform=axes.get_xaxis_transform(),
            color=style.GUIDE_COLOUR,
            linewidth=0.7,
            zorder=0.5,
        )


def has_ticks(table: pd.DataFrame) -> bool:
    """Whether ticks one epoch apart are distinguishable."""
    return bool(table["epoch"].max() <= _MOST_TICKS)


def _draw_curve(axes: Axes, curve: pd.DataFrame, axis: EpochAxis, look: Look) -> None:
    """Draw the columns of a setting, the main one last.

    Dashes tell columns apart, or settings if there is one column.
    """
    colour = look.style.colour
    for place, name in reversed(list(enumerate(axis.columns))):
        known = curve[np.isfinite(curve[name])]
        mean, sd = axis.scale * known[name], axis.scale * known[f"{name}_sd"]
        single = single_runs(curve, name)
        for run in single:
            axes.plot(
                known["epoch"], axis.scale * known[run], color=colour, linewidth=0.5, alpha=0.45
            )
        if sd.notna().any() and not single:
            low, high = (mean - sd).clip(*axis.bounds), (mean + sd).clip(*axis.bounds)
            shade = 0.10 if place else 0.20
            axes.fill_between(known["epoch"], low, high, color=colour, alpha=shade, linewidth=0)
        dashes = _line(axis, look, place)
        (line,) = axes.plot(
            known["epoch"],
            mean,
            color=colour,
            linestyle=dashes,
            linewidth=0.8 if place else style.line_width(dashes),
        )
        if len(known) == 1:  # a line of one point would not be seen
            line.set(marker=look.style.marker or ".")


def _line(axis: EpochAxis, look: Look, place: int) -> style.Line:
    return look.style.line if len(axis.columns) == 1 else _DASHES[place % len(_DASHES)]


def _scale(axes: Axes, rows: pd.DataFrame, axis: EpochAxis) -> None:
    """Scale both axes; values over the limits that a table states, or over what is drawn."""
    ends = [f"{name}_{end}" for name in axis.columns for end in ("least", "most")]
    if set(ends) <= set(rows) and rows[ends].notna().any(axis=None):
        low, high = (axis.scale * rows[ends].agg(end).agg(end) for end in ("min", "max"))
        margin_up = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin_up, high + margin_up)
    first, last = rows["epoch"].min(), rows["epoch"].max()
    margin = 0.03 * (last - first) or 0.5
    axes.set_xlabel("epochs trained")
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=style.GUIDE_COLOUR, linewidth=0.3, alpha=0.6)
    axes.set_axisbelow(True)


def _handles(
    table: pd.DataFrame, axis: EpochAxis, looks: Mapping[Key, Look], width: float
) -> tuple[list[Artist], int | None]:
    """Legend entries, and how many columns they need.

    A few settings stand above what line styles mean, column by column.
    """
    lines: list[Artist] = [
        Line2D([], [], color=look.style.colour, ls=dashes, lw=width, label=look.label)
        for look in looks.values()
        if look.label
        for dashes in [_line(axis, look, 0)]
        for width in [style.line_width(dashes)]
    ]
    spread = _spread_handles(table, axis)
    if spread and not lines:
        spread = [*_mean_handles(table, looks), *spread]
    below = [*_column_handles(axis), *spread, *_round_handles(table)]
    blank = Patch(alpha=0, label=" ")
    columns = itertools.zip_longest(lines, below[: len(lines)], fillvalue=blank)
    paired = [handle for column in columns for handle in column]
    fits = fitting(width, [str(handle.get_label()) for handle in paired])
    if lines and len(below) <= len(lines) <= fits:
        return paired, len(lines)
    return [*lines, *below], None


def _column_handles(axis: EpochAxis) -> list[Artist]:
    if len(axis.columns) == 1:
        return []
    return [
        Line2D(
            [],
            [],
            color=style.NOTE_COLOUR,
            linestyle=_DASHES[place % len(_DASHES)],
            linewidth=0.8 if place else 1.2,
            label=short_name(name),
        )
        for place, name in enumerate(axis.columns)
    ]


def _mean_handles(table: pd.DataFrame, looks: Mapping[Key, Look]) -> list[Artist]:
    """The line of a single setting, which has no name, beside its spread."""
    most = counted(int(table["seeds"].max()), "run")
    colours = [look.style.colour for look in looks.values()]
    return [Line2D([], [], color=c, linewidth=1.2, label=f"mean of {most}") for c in colours]


def _spread_handles(table: pd.DataFrame, axis: EpochAxis) -> list[Artist]:
    """What stands beside a mean: thin lines of single runs, or a band."""
    found: list[Artist] = []
    several = table[table["seeds"] > 1]
    if any(single_runs(several, name) for name in axis.columns):
        colour = style.NOTE_COLOUR
        found.append(Line2D([], [], color=colour, lw=0.5, alpha=0.6, label="single runs"))
    if (several["seeds"] > MOST_SINGLE).any():
        label = "± 1 sd over runs"
        found.append(Patch(color=style.NOTE_COLOUR, alpha=0.20, linewidth=0, label=label))
    return found


def _round_handles(table: pd.DataFrame) -> list[Artist]:
    """The dotted line of one round, and the span of several, where panels have them."""
    pruned = table[table["pruned"]]
    if pruned.empty:
        return []
    counts = set(pruned["rounds"]) if "rounds" in pruned else {pruned["epoch"].nunique()}
    several = sorted(int(count) for count in counts - {1})
    found: list[Artist] = []
    if several:
        text = f"{several[0]} pruning rounds" if len(several) == 1 else "pruning rounds"
        found.append(Patch(color=style.GUIDE_COLOUR, alpha=0.3, linewidth=0, label=text))
    if 1 in counts:
        options: dict[str, Any] = {"color": style.GUIDE_COLOUR, "linewidth": 0.9, "linestyle": ":"}
        found.append(Line2D([], [], label="pruning round", **options))
    return found
