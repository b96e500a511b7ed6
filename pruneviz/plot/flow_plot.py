"""What training did to filters against what gradient flow predicts: `pruneviz.plot.flow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pruneviz.analysis.gradient_flow import SAMPLE
from pruneviz.errors import FigureError
from pruneviz.log.flow_columns import PREDICTIONS
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.canvas import canvas, letters, with_table
from pruneviz.plot.colouring import colouring
from pruneviz.plot.flow_numbers import By, flow_numbers
from pruneviz.plot.glyphs import literal
from pruneviz.plot.layer_names import name_layers
from pruneviz.plot.legends import shortened
from pruneviz.plot.signed_log import SignedLog, spans_decades
from pruneviz.plot.source import Chosen
from pruneviz.plot.words import decimal

_ROW, _ONE_PANEL = 2.45, (3.6, 3.2)  # inches
_MOST_PANELS, _MOST_LINES, _ACROSS = 60, 7, 3
_CHARACTERS = 26  # of a title over one of three panels
_GAPS = {"x": 0.3, "y": 0.13}  # least distance of two tick labels, as a fraction of the axis


@with_table(flow_numbers)
def flow(
    source: Runs | pd.DataFrame,
    prediction: str = "momentum",
    *,
    by: By = "filter",
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
    ax: Axes | None = None,
) -> Any:
    """Draw the changes of filters in training against their predictions.

    By filter there is a panel for each run and epoch: a point is a filter, with the sums over the
    metered steps of the epoch; the dashed line is the identity. Above it stand the slope of the
    least-squares line, its R² and the share that the identity explains. By layer there are two
    panels for each run, with the slope and R² of every layer, and a line for each epoch.
    `flow.table` takes the same arguments, without `ax`, and returns the numbers.

    Args:
        source: Recordings with flow, as `pruneviz.load` returns them, or the table of a
            `pruneviz.FlowMeter`.
        prediction: "flow", "gradient", "momentum", "update", "sample", "curvature" or
            "displacement", as for `pruneviz.flow_table`. Without momentum of the optimiser,
            "momentum" is "gradient".
        by: "filter" or "layer".
        epochs: Epochs to show; negative numbers count from the last one. Default: the first, the
            middle one and the last.
        runs: Runs to show: their names, or facts that they have, such as {"network": "mine"}.
        ax: Axes for a plot of one panel. Default: a figure of its own.

    Returns:
        The given axes, or a matplotlib figure, which a notebook shows.

    Raises:
        FigureError: If what is asked for is not there; names what is. If axes are given for several
            panels; names these.

    References:
        Lubana and Dick, ICLR 2021.

    Example:
        >>> runs = pv.load("data/mine")
        >>> pv.plot.flow(runs)
        >>> pv.plot.flow(runs, by="layer")
    """
    table = flow_numbers(source, prediction, by=by, epochs=epochs, runs=runs)
    draw = _draw_layers if by == "layer" else _draw_filters
    return draw(table, prediction, ax)


def _draw_filters(table: pd.DataFrame, prediction: str, ax: Axes | None) -> Any:
    groups = list(table.groupby(["run", "epoch"], sort=False))
    several = len(set(table["run"])) > 1
    names = [f"{run}, epoch {epoch}" for (run, epoch), _ in groups]
    _check_count(len(names), _MOST_PANELS, "panels")
    columns = min(_ACROSS, len(names))
    rows = -(-len(names) // columns)
    size = _ONE_PANEL if len(names) == 1 else (style.TEXT_WIDTH, rows * _ROW)
    what, unit = _changing(prediction)
    colours = colouring(table, "depth", "")
    choose = "choose one with epochs and runs"
    with canvas(ax, names, choose, size=size, columns=columns) as drawn:
        panels = zip(letters(len(names)), drawn.axes, groups, strict=True)
        for place, (letter, axes, ((run, epoch), points)) in enumerate(panels):
            ends = points[["predicted", "change"]].to_numpy("float64").ravel()
            axis = SignedLog.fit(ends)
            axes.axline(
                (0, 0), (1, 1), color=style.NOTE_COLOUR, linewidth=0.7, linestyle=(0, (4, 2))
            )
            mixed = points.sample(frac=1, random_state=0).assign(clear=True)
            colours.draw(axes, mixed, "predicted", "change")
            axis.apply(axes, "x", _GAPS["x"])
            axis.apply(axes, "y", _GAPS["y"])
            title = f"{letter if len(names) > 1 else ''}epoch {epoch}"
            if several:
                (short,) = shortened([str(run)], _CHARACTERS)
                title = f"{literal(short)}\n{title}"
            _write_heading(axes, title, _fit_in_words(points.iloc[0]))
            if place % columns == 0:
                axes.set_ylabel(f"change of {what} ({unit})")
            if place + columns >= len(names):
                axes.set_xlabel(f"predicted ({unit})")
        colours.explain(drawn.figure, drawn.axes)
    return drawn.result


def _draw_layers(table: pd.DataFrame, prediction: str, ax: Axes | None) -> Any:
    runs = list(table.groupby("run", sort=False))
    _check_count(table["epoch"].nunique(), _MOST_LINES, "epochs")
    _check_count(2 * len(runs), _MOST_PANELS, "panels")
    names = [f"{value} of {run}" for run, _ in runs for value in ("slope", "R²")]
    size = (style.TEXT_WIDTH, 2.6 * len(runs))
    with canvas(ax, names, "by='layer' has two for every run", size=size, columns=2) as drawn:
        handles: list[Artist] = []
        for place, (run, rows) in enumerate(runs):
            pair = drawn.axes[2 * place : 2 * place + 2]
            handles = _draw_run(pair, rows, prediction)
            if len(runs) > 1:
                pair[0].set_title(literal(str(run)), loc="left")
        for axes in drawn.axes[-2:]:
            axes.set_xlabel("layer, from input to output")
        drawn.legend(handles)
    return drawn.result


def _draw_run(pair: tuple[Axes, ...], rows: pd.DataFrame, prediction: str) -> list[Artist]:
    """Slope and R² of one run by layer, a line for each epoch."""
    layers = rows.drop_duplicates("layer").sort_values("depth")["layer"]
    looks = style.styles_of([f"epoch {epoch}" for epoch in sorted(set(rows["epoch"]))])
    handles: list[Artist] = []
    for axes, value in zip(pair, ("slope", "r2"), strict=True):
        handles = []
        for epoch, at in rows.sort_values("depth").groupby("epoch"):
            look = looks[f"epoch {epoch}"]
            handles += axes.plot(
                at["depth"] - 1,
                at[value],
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                markersize=3.5,
                linewidth=0.9,
                label=f"epoch {epoch}",
            )
        name_layers(axes, list(layers))
        axes.axhline(1, color=style.GUIDE_COLOUR, linewidth=0.6, zorder=0)
    slopes = rows["slope"].to_numpy("float64")
    if spans_decades(slopes[np.isfinite(slopes)]) and np.nanmax(np.abs(slopes)) > 10:
        SignedLog.fit(np.append(slopes, 1.0)).apply(pair[0], "y", 0.12)
    else:
        pair[0].yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    pair[0].set_ylabel(f"slope of change on {prediction}")
    pair[1].set(ylim=(-0.03, 1.05), yticks=np.linspace(0, 1, 6), ylabel="R²")
    return handles


def _write_heading(axes: Axes, title: str, lines: str) -> None:
    """The title of a panel, and below it two lines in the size of notes."""
    axes.set_title(title, loc="left", pad=25)
    axes.annotate(
        lines,
        (0, 1),
        (0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7.5,
        color=style.NOTE_COLOUR,
        va="bottom",
        linespacing=1.15,
    )


def _fit_in_words(fit: pd.Series) -> str:
    if pd.isna(fit["slope"]):
        return f"no line through {int(fit['n'])} points"
    explained = float(fit["explained"])
    share = "nothing" if explained <= 0 else decimal(explained)
    return f"slope {_number(fit['slope'])}, R² {decimal(fit['r2'])}\ny = x explains {share}"


def _number(value: float) -> str:
    return decimal(value) if abs(value) < 100 else f"{value:.1e}".replace("e+0", "e")


def _changing(prediction: str) -> tuple[str, str]:
    """What changes, as TeX, and its unit."""
    of = PREDICTIONS["gradient" if prediction == SAMPLE else prediction]
    return of.of, of.unit


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise FigureError(
            f"{count} {what} are too many for one picture, which has at most {most}; choose some "
            "with epochs and runs"
        )
