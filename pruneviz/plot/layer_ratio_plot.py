"""Bars per layer: what pruning took from each, or any column or measure summed up over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.plot import style
from pruneviz.plot.canvas import Canvas, canvas, letters, with_table
from pruneviz.plot.glyphs import literal
from pruneviz.plot.layer_axes import (
    DASHED,
    Scale,
    YAxis,
    check_scale,
    layer_axis,
    scale_values,
    targets_of,
)
from pruneviz.plot.layer_names import name_layers
from pruneviz.plot.layer_table import check_aggregate, layer_values, pruned_shares
from pruneviz.plot.legends import fitting, legend
from pruneviz.plot.looks import Key, Look, Panel, keys_of, legend_facts, looks_of, panels_of
from pruneviz.plot.panels import wrapped
from pruneviz.plot.source import Chosen, Source, asked_epoch, runs_of
from pruneviz.plot.words import listed, percent

_GROUP = 0.84  # width of the bars of a layer, as a fraction of its room
_ZERO = 2.4  # points: height of the stroke of a value of zero
_CASING, _CORE = 3.0, 0.4  # points of an error bar with white around it; its dark share
_MOST_CASING = 0.35 * 72  # points of an inch of a bar that the white may cover
_LOW = 3.0  # per cent: bars so low would vanish below white edges and hatches
_SMALL = 7.0  # points: the smallest text
_MOST_BARS = 400  # in a panel; more are points joined by a line
_ROOM = 0.09  # inches beside the axes and their labels
_NAMES = 0.5  # inches of names of layers that a panel has room for
_AROUND = 3.6  # room of a patch and the gap after its label, in font sizes
_COLUMNS = 4  # of the legend, if they fit
_CHOOSE = "choose the runs of one with runs={...}"


def ratios(
    source: Source,
    y: AnyMeasure | None = None,
    *,
    by: str | Sequence[str] | None = None,
    epoch: int | None = None,
    aggregate: str = "mean",
    runs: Chosen = None,
    unit: str | None = None,
    scale: Scale = "linear",
) -> pd.DataFrame:
    """The numbers that `pruneviz.plot.layer_ratios` draws.

    Args:
        source: As for `pruneviz.plot.layer_ratios`, as are all arguments.
        y: Column or measure to aggregate.
        by: Facts that tell runs apart.
        epoch: Epoch to show.
        aggregate: What to make of the values in a layer.
        runs: Runs to show.
        unit: What the rows are.
        scale: Scale of the axis; the numbers do not depend on it.

    Returns:
        One row per setting of runs and layer: the facts that tell the runs apart, layer_index,
        layer, filters and seeds (runs averaged). Without `y`, the columns of
        `pruneviz.analysis.pruned_fractions.pruned_fractions`, of which `ratio` is drawn for layers
        whose `coupled_to` is null; `filters` is of the unpruned layer. With `y`: value (mean over
        the runs) and value_sd (null for one run), quantity, aggregate and epoch; `filters` is the
        number of values in the layer, the least of all runs.

    Raises:
        FigureError: If a name, a fact, an epoch or a run is not there; names what is. If nothing is
            pruned and `y` is not given.
        AnalysisError: If runs to be averaged differ in their layers.
    """
    check_scale(scale)
    check_aggregate(aggregate, y)
    epoch = asked_epoch(epoch)
    if y is not None:
        chosen = runs_of(source, runs, unit)
        return layer_values(chosen, chosen.spec, y, by, epoch, aggregate)
    chosen = runs_of(source, runs, unit, one_unit=False)
    return pruned_shares(chosen, chosen.spec, by, epoch)


@with_table(ratios)
def layer_ratios(
    source: Source,
    y: AnyMeasure | None = None,
    *,
    by: str | Sequence[str] | None = None,
    epoch: int | None = None,
    aggregate: str = "mean",
    runs: Chosen = None,
    unit: str | None = None,
    scale: Scale = "linear",
    ax: Axes | None = None,
) -> Any:
    """Draw bars per layer: the pruned share, or a column or measure aggregated over the layer.

    Runs that differ only in their seed are one bar, their mean, with an error bar of one standard
    deviation. Networks, data sets and numbers of rounds have a panel each; what else the runs
    differ in stands in the legend. Beside pruned runs, the value of unpruned ones of their network
    and data set is a grey line. Very many bars are points joined by lines instead.

    Args:
        source: Recordings as `pruneviz.load` returns them, or one table: filters or rounds.
        y: Column of the filters table or pruning measure (as for `pruneviz.score`), of filters that
            are not pruned. Default: the pruned share of the layer, from the rounds of the runs or,
            without rounds, from the column `kept`. Layers that are coupled to an earlier one, whose
            filters they lose, are in the table and not drawn.
        by: Facts of the runs, columns of `runs.spec`, that tell them apart; runs that are equal in
            them are averaged. Default: all in which they differ besides their seed.
        epoch: Epoch to show; a negative one counts from the last. Default: after the last round; of
            a column or measure, the last epoch that all runs have.
        aggregate: With `y`: "mean", "median", "sum", "min", "max", "std" or "count".
        runs: Names of the runs to show, or facts that they have, such as {"network": "mine"}.
            Default: all.
        unit: What the rows are, such as "filter". Needed only if the runs have several.
        scale: Scale of the axis: "linear", "log", or "symlog" for both signs. With `y` only.
        ax: Axes to draw into. Default: a picture of its own.

    Returns:
        The picture, a matplotlib figure that a notebook shows; or `ax`. `layer_ratios.table` takes
        the same arguments without `ax` and returns the drawn numbers.

    Raises:
        FigureError: If a name, a fact, an epoch or a run is not there; names what is. If nothing is
            pruned and `y` is not given, a logarithm is asked of values that have none, or several
            panels are to be drawn into `ax`.
        AnalysisError: If runs to be averaged differ in their layers.

    References:
        Lubana and Dick, ICLR 2021, Figures 16 and 17.

    Example:
        >>> runs = pv.load("data/mine")
        >>> pv.plot.layer_ratios(runs)
        >>> pv.plot.layer_ratios(runs, "theta_norm2", aggregate="sum", epoch=0, scale="log")
    """
    numbers = ratios(
        source, y, by=by, epoch=epoch, aggregate=aggregate, runs=runs, unit=unit, scale=scale
    )
    units = set(runs_of(source, runs, unit, one_unit=False).spec["unit"])
    return draw_layers(numbers, scale, str(units.pop()) if len(units) == 1 else "filter", ax)


def draw_layers(
    table: pd.DataFrame,
    scale: Scale = "linear",
    unit: str = "filter",
    ax: Axes | None = None,
    one_of_several: bool = False,
) -> Any:
    """Draw a table of `ratios`.

    Args:
        table: The numbers.
        scale: Scale of the axis of values.
        unit: What the rows are, such as "filter".
        ax: Axes to draw into. Default: a picture of its own.
        one_of_several: Whether a single panel is laid out and lettered as one of several.

    Raises:
        FigureError: If `ax` is given and there are several panels, or the scale does not fit.
    """
    axis = layer_axis(table, scale, unit)
    shown = table[table["coupled_to"].isna()] if axis.is_share else table
    shown = shown.replace([np.inf, -np.inf], np.nan)  # no bar is infinitely high
    panels, told = panels_of(shown, ("network", "dataset", "rounds"), ("network", "rounds"))
    facts = legend_facts(shown, "layer_index", told)
    looks = looks_of(shown, facts)
    orders = [layers_of(panel.rows) for panel in panels]
    same = all(order == orders[0] for order in orders)
    most = max(len(order) for order in orders) * len(looks)
    axis = replace(axis, has_points=most > _MOST_BARS)
    height = 1.1 + 1.35 * len(panels) + (0.0 if same else 0.25 * (len(panels) - 1))
    with canvas(
        ax,
        [panel.title or "all runs" for panel in panels],
        _CHOOSE,
        size=(style.TEXT_WIDTH, height),
        columns=1,
        sharex=same,
        sharey=axis.is_share,
    ) as drawn:
        for axes, panel, order in zip(drawn.axes, panels, orders, strict=True):
            _draw_panel(axes, panel.rows, order, axis, looks, facts)
            if drawn.given is None:
                _name_absent(axes, panel.rows, looks, facts)
        named = list(zip(drawn.axes, orders, strict=True))[-1 if same else 0 :]
        heights = [name_layers(axes, order) for axes, order in named]
        lettered = one_of_several or len(panels) > 1
        _write(drawn, panels, axis, _handles(shown, axis, looks), lettered)
        if drawn.given is None and not axis.is_share:  # numbers grow wider at a low resolution
            cast(Figure, drawn.figure).set_layout_engine("constrained", w_pad=_ROOM)
        if drawn.given is None:
            height += sum(max(0.0, each - _NAMES) for each in heights)
            cast(Figure, drawn.figure).set_figheight(height)
    return drawn.result


def layers_of(rows: pd.DataFrame) -> list[str]:
    """Layers of a drawn table in depth order."""
    return list(dict.fromkeys(rows.sort_values("layer_index", kind="stable")["layer"]))


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    layers: Sequence[str],
    axis: YAxis,
    looks: Mapping[Key, Look],
    facts: Sequence[str],
) -> None:
    keys = keys_of(rows, facts)
    barred = [key for key, look in looks.items() if not look.is_reference] or list(looks)
    width = _GROUP / len(barred)
    for key, look in looks.items():
        mine = rows[[other == key for other in keys]]
        x = np.array([layers.index(layer) for layer in mine["layer"]], dtype=float)
        if key not in barred:
            _draw_reference(axes, x, mine, axis)
        elif axis.has_points:
            _draw_points(axes, x, mine, axis, look)
        else:
            offset = (barred.index(key) - (len(barred) - 1) / 2) * width
            _draw_bars(axes, x + offset, width, mine, axis, look)
    _draw_guides(axes, len(layers))
    scale_values(axes, rows, axis)


def _name_absent(
    axes: Axes, rows: pd.DataFrame, looks: Mapping[Key, Look], facts: Sequence[str]
) -> None:
    """Say which settings of the legend are not recorded in a panel: no bar is no zero."""
    held = set(keys_of(rows, facts))
    absent = [look.label for key, look in looks.items() if key not in held]
    if absent:
        text = literal(f"not recorded: {listed(absent)}")
        axes.set_title(text, loc="right", fontsize=_SMALL, fontweight="normal")


def _draw_bars(
    axes: Axes, x: np.ndarray, width: float, rows: pd.DataFrame, axis: YAxis, look: Look
) -> None:
    values, spread = (axis.factor * rows[name] for name in (axis.column, f"{axis.column}_sd"))
    bars = axes.bar(
        x,
        values,
        width,
        color=look.style.colour,
        hatch=look.style.hatch if look.label else "",
        edgecolor="white",
        linewidth=0.2,
    )
    if axis.is_share:
        for bar in bars:
            if bar.get_height() < _LOW:
                bar.set(hatch="", linewidth=0)
    _mark_zeros(axes, x[(values == 0).to_numpy()], width, look)
    if spread.notna().any():
        inches = axes.bbox.width / axes.figure.figure.dpi * width / max(1, len(x))
        casing = min(_CASING, _MOST_CASING * inches)
        for colour, thick in (("white", casing), (style.NOTE_COLOUR, _CORE * casing)):
            options: dict[str, Any] = {"ecolor": colour, "elinewidth": thick, "zorder": 2.5}
            axes.errorbar(x, values, spread, fmt="none", **options)


def _mark_zeros(axes: Axes, x: np.ndarray, width: float, look: Look) -> None:
    """Draw values of zero as a stroke on the axis, unlike values that are not there."""
    if len(x):
        axes.hlines(
            np.zeros(len(x)),
            x - 0.42 * width,
            x + 0.42 * width,
            color=look.style.colour,
            linewidth=_ZERO,
            clip_on=False,
            zorder=4,
        )


def _draw_points(axes: Axes, x: np.ndarray, rows: pd.DataFrame, axis: YAxis, look: Look) -> None:
    order = np.argsort(x)
    axes.plot(
        x[order],
        axis.factor * rows[axis.column].to_numpy()[order],
        color=look.style.colour,
        marker=look.style.marker,
        markersize=2.5,
        linewidth=0.6,
    )


def _draw_reference(axes: Axes, x: np.ndarray, rows: pd.DataFrame, axis: YAxis) -> None:
    values = axis.factor * rows[axis.column]
    half = _GROUP / 2
    axes.hlines(values, x - half, x + half, color=style.REFERENCE_COLOUR, linewidth=1.2, zorder=3)


def _draw_guides(axes: Axes, layers: int) -> None:
    """Draw stripes that separate layers."""
    for place in range(1, layers, 2):
        axes.axvspan(
            place - 0.5, place + 0.5, color=style.GUIDE_COLOUR, alpha=0.15, linewidth=0, zorder=0
        )
    axes.set_xlim(-0.5, layers - 0.5)


def _handles(table: pd.DataFrame, axis: YAxis, looks: Mapping[Key, Look]) -> list[Artist]:
    only_grey = all(look.is_reference for look in looks.values())
    handles: list[Artist] = [
        _handle(look, axis.has_points, look.is_reference and not only_grey)
        for look in looks.values()
        if look.label
    ]
    if axis.is_share and not axis.has_points and table[axis.column].eq(0).any():
        handles.append(Line2D([], [], color=style.NOTE_COLOUR, linewidth=_ZERO, label="0 %"))
    if not axis.has_points and table[f"{axis.column}_sd"].notna().any():
        bar: dict[str, Any] = {
            "marker": "|",
            "markersize": 8,
            "markeredgewidth": _CORE * _CASING,
            "color": style.NOTE_COLOUR,
        }
        handles.append(Line2D([], [], linestyle="none", label="± 1 sd over runs", **bar))
    targets = targets_of(table) if axis.is_share else []
    if targets:
        text = listed(percent(target, digits=0) for target in targets)
        handles.append(
            Line2D(
                [],
                [],
                color=style.NOTE_COLOUR,
                linestyle=DASHED,
                linewidth=0.8,
                label=f"target, {text} of all",
            )
        )
    return handles


def _handle(look: Look, is_point: bool, is_line: bool) -> Artist:
    if is_line:
        return Line2D([], [], color=style.REFERENCE_COLOUR, linewidth=1.2, label=look.label)
    if is_point:
        return Line2D(
            [],
            [],
            color=look.style.colour,
            marker=look.style.marker,
            linewidth=0.6,
            label=look.label,
        )
    return Patch(
        facecolor=look.style.colour,
        hatch=look.style.hatch,
        edgecolor="white",
        linewidth=0.2,
        label=look.label,
    )


def _write(
    drawn: Canvas,
    panels: Sequence[Panel],
    axis: YAxis,
    handles: Sequence[Artist],
    lettered: bool,
) -> None:
    """Titles, labels of the axes, and the legend."""
    drawn.axes[-1].set_xlabel("layer, from input to output")
    if drawn.given is not None:
        drawn.given.set_ylabel(axis.label)
        drawn.legend(handles)
        return
    figure = cast(Figure, drawn.figure)
    for letter, axes, panel in zip(letters(len(panels)), drawn.axes, panels, strict=True):
        title = f"{letter if lettered else ''}{panel.title}"
        axes.set_title(wrapped(title, style.TEXT_WIDTH))
    if len(panels) > 1:
        figure.supylabel(axis.label, fontsize=8)
    else:
        drawn.axes[0].set_ylabel(axis.label.replace(" of the layer", "\nof the layer"))
    fits = fitting(style.TEXT_WIDTH, [str(handle.get_label()) for handle in handles], _AROUND)
    columns = min(_COLUMNS, fits)
    legend(figure, handles, columns=columns, room=2, handlelength=1.6, columnspacing=1.2)
