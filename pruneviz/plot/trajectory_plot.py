"""A quantity of filters over epochs, one by one or as quantiles of layers: `pv.plot.trajectory`."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.console.words import counted
from pruneviz.errors import FigureError, unknown_name
from pruneviz.plot import style
from pruneviz.plot.canvas import Canvas, canvas, with_table
from pruneviz.plot.glyphs import literal
from pruneviz.plot.layer_names import layer_title
from pruneviz.plot.legends import shortened
from pruneviz.plot.panels import (
    MOST,
    check_number,
    label_edges,
    leave_margins,
    wrapped,
    write_title,
)
from pruneviz.plot.quantities import axis_label
from pruneviz.plot.recorded import Wanted, check_groups
from pruneviz.plot.row_kind import ROW_KINDS_BY_UNIT
from pruneviz.plot.signed_log import SignedLog
from pruneviz.plot.source import Chosen, Source, runs_of
from pruneviz.plot.trajectories import QUANTILES, Filters, trajectory_table

Scale = Literal["linear", "log", "symlog"]

_CHOOSE = "choose one with runs= and layers=, or take runs together with by=[]"
MOST_BANDS = MOST  # panels with the bands of a layer; more layers are lines in one panel
_SMALL, _LARGE = (1.85, 1.2), (3.4, 2.4)  # inches of a panel
_WIDE = 100.0  # a larger factor between values is drawn on a logarithmic axis
_CHARACTER, _TITLE = 0.062, 7.5  # inches and points of a character of a layer's name
_MARKERS = 5  # of a line
_COLOUR, _PRUNED = style.LEFT_COLOUR, style.RIGHT_COLOUR
_BANDS = (("p05", "p95", 0.16, "5 to 95 %"), ("p25", "p75", 0.36, "25 to 75 %"))
_END: Mapping[str, Any] = {"marker": "x", "linestyle": "", "markersize": 5, "markeredgewidth": 1.4}


@with_table(trajectory_table)
def trajectory(
    source: Source,
    y: AnyMeasure,
    *,
    filters: Filters = None,
    layers: str | Sequence[str] | None = None,
    epochs: Wanted = None,
    runs: Chosen = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
    scale: Scale | None = None,
    ax: Axes | None = None,
) -> Any:
    """Draw how a column or measure of filters develops over the epochs.

    Layers are drawn as the median of their filters with bands of 25 to 75 and 5 to 95 %, in a panel
    each. More than 24 panels, and several layers in given axes, become one line per layer, its
    median, coloured by depth. Filters of runs that differ only in their seed count together; other
    runs get panels of their own. Chosen filters are a line each, of the run with the lowest seed.
    A filter that is pruned ends in a cross; a layer whose filters are, does when all of them are
    gone, and has a tick at its foot at each epoch that finds fewer of them.

    Args:
        source: Recordings, or a filters table with an epoch; see `pruneviz.load`.
        y: Column or pruning measure.
        filters: Single filters as pairs of layer and filter, such as [("conv1", 0), ("conv1", 3)],
            or a table with these columns; or the name of a layer, for its bands. Default: bands of
            all layers.
        layers: Names of layers, or patterns such as "stage1.*". Default: all.
        epochs: Epochs to draw; negative numbers count from the last one. Default: all that have
            values.
        runs: Names of runs, or facts such as {"seed": 0}. Default: all.
        unit: Kind of rows, such as "filter" or "head", if the runs have several.
        by: Facts that tell runs apart. Default: all in which they differ, except the seed.
        scale: "linear", "log" or "symlog" (logarithmic in both directions). Default: linear, unless
            the values span more than two decades.
        ax: Axes to draw into, for a single panel. Default: a picture of its own.

    Returns:
        The picture, or `ax`. `pv.plot.trajectory.table(...)` returns the numbers, see
        `trajectory_table`.

    Raises:
        FigureError: If an argument is unknown, y has no values, or `ax` is given and there are
            several panels; lists what is there.

    Example:
        >>> runs = pv.load("data/cifar-mini")
        >>> pv.plot.trajectory(runs, "bn_scale", runs={"network": "vgg13"})
        >>> pv.plot.trajectory(runs, "theta_g", filters=[("features.conv1", 0)], unit="filter")
    """
    if scale is not None and scale not in get_args(Scale):
        raise FigureError(unknown_name("scale", str(scale), get_args(Scale)))
    check_groups(runs_of(source, runs, unit), by)
    table = trajectory_table(
        source, y, filters=filters, layers=layers, epochs=epochs, runs=runs, unit=unit, by=by
    )
    return draw(table, scale, ax)


def draw(table: pd.DataFrame, scale: Scale | None = None, ax: Axes | None = None) -> Any:
    """Draw a table of `trajectory_table`."""
    if "filter" in table:
        return _draw_filters(table, scale, ax)
    layers = len(table[["group", "layer"]].drop_duplicates())
    if layers > MOST_BANDS or (ax is not None and layers > 1):
        return _draw_medians(table, scale, ax)
    return _draw_bands(table, scale, ax)


def _draw_filters(table: pd.DataFrame, scale: Scale | None, ax: Axes | None) -> Any:
    """A panel per group of runs, a line per filter."""
    panels = {str(group): rows for group, rows in table.groupby("group", sort=False)}
    names = pd.Series([_filter_name(row) for row in table.to_dict("records")], table.index)
    looks = style.styles_of(names)
    with _canvas(ax, list(panels), _LARGE, 2) as drawn:
        leave_margins(drawn)
        for axes, panel in zip(drawn.axes, panels.values(), strict=True):
            several = panel["seeds"].max() > 1
            note = f"one of {panel['seeds'].max()} runs" if several else ""
            _entitle(axes, panel, note, ax)
            for name, rows in panel.groupby(names.loc[panel.index], sort=False):
                _draw_filter(axes, rows, looks[str(name)])
        _finish(drawn, table, table["value"], scale)
        lines = [
            Line2D([], [], color=look.colour, ls=look.line, marker=look.marker, label=name)
            for name, look in looks.items()
        ]
        drawn.legend([*lines, *_end_handles(bool(table["pruned"].any()), "pruned")])
    return drawn.result


def _draw_filter(axes: Axes, rows: pd.DataFrame, look: style.Style) -> None:
    held = rows[rows["value"].notna()]
    every = max(1, len(held) // _MARKERS)
    axes.plot(
        held["epoch"],
        held["value"],
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=every,
    )
    _mark_end(axes, held["epoch"], held["value"], rows[rows["pruned"]], look.colour)


def _draw_bands(table: pd.DataFrame, scale: Scale | None, ax: Axes | None) -> Any:
    """A panel per layer, with bands of its filters."""
    panels = list(table.groupby(["group", "layer"], sort=False))
    size, across = (_LARGE, 2) if len(panels) <= 2 else (_SMALL, 4)
    names = shortened(
        [layer_title(name) for name in table["layer"].unique()], int(size[0] / _CHARACTER)
    )
    titles = dict(zip(table["layer"].unique(), names, strict=True))
    with _canvas(ax, [f"{group} {layer}" for (group, layer), _ in panels], size, across) as drawn:
        leave_margins(drawn)
        for axes, (_, panel) in zip(drawn.axes, panels, strict=True):
            group, layer = str(panel["group"].iloc[0]), literal(titles[panel["layer"].iloc[0]])
            lines = [*([wrapped(group, size[0])] if group else []), layer]
            axes.set_title("\n".join(lines), fontsize=_TITLE if ax is None else None)
            _draw_layer(axes, panel)
        _finish(drawn, table, table[list(QUANTILES)], scale)
        drawn.legend(_band_handles(table))
    return drawn.result


def _draw_layer(axes: Axes, rows: pd.DataFrame) -> None:
    held = rows[rows["p50"].notna()]
    for low, high, opacity, _ in _BANDS:
        shade: dict[str, Any] = {"color": _COLOUR, "alpha": opacity}
        if len(held) == 1:
            axes.vlines(held["epoch"], held[low], held[high], linewidth=6, **shade)
        else:
            axes.fill_between(held["epoch"], held[low], held[high], linewidth=0, **shade)
    _draw_median(axes, rows, _COLOUR)
    fewer = rows.loc[rows["pruned"].diff() > 0, "epoch"]
    axes.vlines(
        fewer, 0, 0.06, transform=axes.get_xaxis_transform(), color=_PRUNED, linewidth=1.0, zorder=3
    )


def _draw_median(axes: Axes, rows: pd.DataFrame, colour: Any, width: float = 1.2) -> None:
    held = rows[rows["p50"].notna()]
    marker = "o" if len(held) == 1 else ""
    axes.plot(held["epoch"], held["p50"], color=colour, linewidth=width, marker=marker)
    _mark_end(axes, held["epoch"], held["p50"], rows[_is_gone(rows)], colour)


def _draw_medians(table: pd.DataFrame, scale: Scale | None, ax: Axes | None) -> Any:
    """A panel per group of runs, a line per layer."""
    panels = {str(group): rows for group, rows in table.groupby("group", sort=False)}
    norm = Normalize(1, max(2, int(table["depth"].max())))
    colours = style.depth_colours()
    with _canvas(ax, list(panels), _LARGE, 2) as drawn:
        leave_margins(drawn)
        for axes, panel in zip(drawn.axes, panels.values(), strict=True):
            _entitle(axes, panel, f"median of {panel['layer'].nunique()} layers", ax)
            for _, rows in panel.groupby("depth"):
                _draw_median(axes, rows, colours(norm(int(rows["depth"].iloc[0]))), 0.9)
        _finish(drawn, table, table["p50"], scale)
        bar = drawn.figure.colorbar(ScalarMappable(norm, colours), ax=list(drawn.axes), aspect=25)
        bar.set_label("layer depth")
        bar.locator = MaxNLocator(5, integer=True)
        bar.outline.set_linewidth(0.4)
        drawn.legend(_end_handles(bool(_is_gone(table).any()), "all filters pruned"))
    return drawn.result


def _canvas(
    ax: Axes | None, names: Sequence[str], size: tuple[float, float], across: int
) -> AbstractContextManager[Canvas]:
    check_number(names)
    across = min(across, len(names))
    width, height = size
    whole = (0.6 + across * width, 0.55 + math.ceil(len(names) / across) * height)
    return canvas(ax, names, _CHOOSE, size=whole, columns=across, sharey=True)


def _entitle(axes: Axes, panel: pd.DataFrame, note: str, ax: Axes | None) -> None:
    group = str(panel["group"].iloc[0])
    write_title(axes, ", ".join(filter(None, [group, note])), None if ax else _LARGE[0])


def _filter_name(row: dict[Hashable, Any]) -> str:
    weight = f", {row['weight']:.0f}" if "weight" in row else ""
    return f"{layer_title(row['layer'])}[{row['filter']}{weight}]"


def _mark_end(
    axes: Axes, epochs: pd.Series, values: pd.Series, gone: pd.DataFrame, colour: Any
) -> None:
    """A cross where a line ends because what it shows is pruned."""
    if len(epochs) and len(gone) and gone["epoch"].max() > epochs.iloc[-1]:
        axes.plot(epochs.iloc[-1:], values.iloc[-1:], color=colour, zorder=4, **_END)


def _end_handles(shown: bool, label: str) -> list[Artist]:
    return [Line2D([], [], color=style.NOTE_COLOUR, label=label, **_END)] if shown else []


def _band_handles(table: pd.DataFrame) -> list[Artist]:
    seeds = int(table["seeds"].max())
    together = f" of the filters of {seeds} runs" if seeds > 1 else " of the filters"
    handles: list[Artist] = [Line2D([], [], color=_COLOUR, label=f"median{together}")]
    handles += [
        Patch(color=_COLOUR, alpha=opacity, linewidth=0, label=label)
        for _, _, opacity, label in reversed(_BANDS)
    ]
    if table["pruned"].any():
        tick: dict[str, Any] = {
            "marker": "|",
            "linestyle": "",
            "markersize": 6,
            "markeredgewidth": 1.0,
        }
        handles.append(Line2D([], [], color=_PRUNED, label="filters pruned", **tick))
    if table["infinite"].any():
        label = f"{counted(int(table['infinite'].sum()), 'infinite value')} left out"
        handles.append(Line2D([], [], linestyle="", label=label))
    return [*handles, *_end_handles(bool(_is_gone(table).any()), "all filters pruned")]


def _is_gone(rows: pd.DataFrame) -> pd.Series:
    """Whether all filters of a layer are pruned."""
    return rows["p50"].isna() & (rows["pruned"] > 0)


def _finish(
    drawn: Canvas, table: pd.DataFrame, values: pd.DataFrame | pd.Series, scale: Scale | None
) -> None:
    """Scales, limits and labels of all panels."""
    numbers = values.to_numpy(dtype="float64").ravel()
    numbers = numbers[np.isfinite(numbers)]
    chosen = scale or _scale_for(numbers)
    _check_log(numbers, chosen)
    first, last = int(table["epoch"].min()), int(table["epoch"].max())
    margin = 0.03 * (last - first) or 0.5
    row_kind = ROW_KINDS_BY_UNIT["weight" if "weight" in table else "filter"]
    for axes in drawn.axes:
        _scale(axes, numbers, chosen)
        axes.set_xlim(first - margin, last + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=style.GUIDE_COLOUR, linewidth=0.3, alpha=0.6)
    label_edges(drawn.axes, "epochs trained", axis_label(str(table["y"].iloc[0]), row_kind))


def _scale(axes: Axes, values: np.ndarray, scale: Scale) -> None:
    if scale == "symlog":
        SignedLog.fit(values).apply(axes, "y", gap=0.16)
    elif scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _scale_for(values: np.ndarray) -> Scale:
    sizes = np.abs(values[values != 0])
    if not len(sizes) or sizes.max() < _WIDE * np.quantile(sizes, 0.1):
        return "linear"
    return "log" if values.min() > 0 else "symlog"


def _check_log(values: np.ndarray, scale: Scale) -> None:
    if scale == "log" and len(values) and values.min() <= 0:
        raise FigureError(
            f"scale='log' was asked for, and a value is {values.min():g}; choose 'symlog' or "
            "'linear'"
        )
