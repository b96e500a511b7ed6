"""Correlation between all measures, at an epoch, over epochs or by layer: `pv.plot.heatmap`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pruneviz.analysis.coefficients import COEFFICIENTS
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.matrix import correlation_matrix
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.over_runs import mean_over_runs
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod
from pruneviz.plot.canvas import canvas, with_table
from pruneviz.plot.cells import (
    CELL,
    NARROW,
    Cells,
    absent_handles,
    draw_cells,
    scale_beside,
    width_of,
)
from pruneviz.plot.layer_names import layer_title
from pruneviz.plot.legends import shortened
from pruneviz.plot.panels import check_number, leave_margins, seeds_in_words, write_title
from pruneviz.plot.quantities import with_name
from pruneviz.plot.recorded import (
    Wanted,
    check_groups,
    check_held,
    depths_of,
    epochs_of_group,
    groups_of,
    known_quantity,
    measured_epochs,
    measures_to_compare,
    values_of,
)
from pruneviz.plot.source import Chosen, Source, asked_epochs, runs_of
from pruneviz.plot.words import SYMBOLS, measure_title

Over = Literal["measure", "epoch", "layer"]

_CHOOSE = "choose one with runs= and epochs=, or average with by=[]"
_WIDEST = 10.0  # inches of a picture with several panels
_SMALLEST = (1.1, 1.4)  # height and width of a panel in inches: what the scale and a title need
_SCALE = 0.8  # inches beside the panels
_WIDE = 6.0  # inches of a panel with narrow cells
_LONGEST = 40  # characters below a column
_MOST_NUMBERS = 24  # columns; more have narrow cells without numbers


def heatmap_table(
    source: Source,
    measures: Sequence[AnyMeasure] | None = None,
    *,
    over: Over | None = None,
    against: AnyMeasure | None = None,
    epochs: Wanted = None,
    runs: Chosen = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
    method: CorrelationMethod = "spearman",
) -> pd.DataFrame:
    """The numbers of `pv.plot.heatmap`, from the same arguments.

    Returns:
        One row per group of runs, epoch, layer (if `over` is "layer") and pair of measures: group,
        epoch, depth, layer, x, y, method, seeds (runs that have a correlation), n (fewest
        filters correlated in a run), r (mean over runs) and sd (between runs). Both orders of a
        pair, and each measure with itself, if `over` is "measure".

    Raises:
        FigureError: If an argument is unknown, or a measure has no values; lists what is there.
        AnalysisError: If there are fewer than two measures.
    """
    over = _checked_direction(over, against)
    if method not in COEFFICIENTS:
        raise FigureError(unknown_name("correlation method", method, COEFFICIENTS))
    if isinstance(measures, str):
        raise FigureError(f"measures={measures!r} is one name; give a list of at least two")
    epochs, whole = asked_epochs(epochs), runs_of(source, runs, unit)
    if measures is not None:
        measures = [with_name(each, f"x{place}") for place, each in enumerate(measures, 1)]
    known = measured_epochs(whole)
    wanted = (None if over == "epoch" else -1) if epochs is None else epochs
    check_held(whole, [*(measures or ()), *([] if against is None else [against])])
    parts = []
    for label, group in groups_of(whole, by):
        at = epochs_of_group(measured_epochs(group), known, wanted)
        if at:
            chosen = _chosen(group, measures, against, at)
            found = _of_group(group, chosen, over, against is not None, at, method)
            parts.append(found.assign(method=method, group=label))
    columns = ["group", "epoch", *_places(over), "x", "y", "method", "seeds", "n", "r", "sd"]
    return pd.concat(parts, ignore_index=True)[columns]


def _checked_direction(over: Over | None, against: AnyMeasure | None) -> Over:
    """What the columns of the picture are."""
    if over is None:
        return "measure" if against is None else "epoch"
    if over not in get_args(Over):
        raise FigureError(unknown_name("direction over", str(over), get_args(Over)))
    if over == "measure" and against is not None:
        raise FigureError(
            "against= compares one measure with all others over epochs or layers; choose "
            "over='epoch' or over='layer', or leave against out"
        )
    return over


def _chosen(
    group: Runs,
    measures: Sequence[AnyMeasure] | None,
    against: AnyMeasure | None,
    epochs: Sequence[int],
) -> list[AnyMeasure]:
    """What to correlate; the measure to compare with, if any, first."""
    named = list(measures_to_compare(group, epochs[-1]) if measures is None else measures)
    return [against, *(what for what in named if what != against)] if against else named


def _of_group(
    group: Runs,
    chosen: Sequence[AnyMeasure],
    over: Over,
    against_first: bool,
    epochs: Sequence[int],
    method: CorrelationMethod,
) -> pd.DataFrame:
    """Correlations of runs that differ in their seed, averaged."""
    values = values_of(group, chosen, epochs)
    depths = depths_of(values)
    values = values.assign(depth=values["layer"].map(depths).astype("int64"))
    names = [known_quantity(group, what).name for what in chosen]
    within = ["epoch", *_places(over)]
    if over == "measure":
        found = correlation_matrix(values, names, by=["run", *within], method=method)
    else:
        pairs = [(names[0], y) for y in names[1:]] if against_first else combinations(names, 2)
        found = _correlated(values, list(pairs), ["run", *within], method)
    keys = [*within, "x", "y"]
    ordered = found.assign(x=pd.Categorical(found["x"], names), y=pd.Categorical(found["y"], names))
    means = mean_over_runs(ordered, keys, "r").rename(columns={"mean": "r"})
    fewest = ordered.groupby(keys, observed=True)["n"].min().to_numpy()
    means = means.assign(n=fewest)
    in_order = means if over == "measure" else means.sort_values(["x", "y", *within])
    return in_order.astype({"x": "str", "y": "str"})


def _correlated(
    values: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    by: Sequence[str],
    method: CorrelationMethod,
) -> pd.DataFrame:
    if not pairs:
        raise FigureError(
            "a heat map needs two measures; name more in measures, or record the columns that need "
            "derivatives"
        )
    parts = [
        correlate(values, x, y, by=by, method=method, interval=None).assign(x=x, y=y)
        for x, y in pairs
    ]
    return pd.concat(parts, ignore_index=True)


def _places(over: Over) -> list[str]:
    return ["depth", "layer"] if over == "layer" else []


@with_table(heatmap_table)
def heatmap(
    source: Source,
    measures: Sequence[AnyMeasure] | None = None,
    *,
    over: Over | None = None,
    against: AnyMeasure | None = None,
    epochs: Wanted = None,
    runs: Chosen = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
    method: CorrelationMethod = "spearman",
    ax: Axes | None = None,
) -> Any:
    """Draw how similarly pruning measures rank the filters of a network.

    Colours run from dark blue (-1) over white (0) to dark orange (1). Cells have their number, or,
    where there is no room for it, a hatch if they are negative. Pruned filters do not count. Runs
    that differ only in their seed are averaged; others get a panel each.

    Args:
        source: Recordings, or a filters table; see `pruneviz.load`.
        measures: Pruning measures or columns, at least two. Default: all recorded measures.
        over: What the columns of the picture are. "measure": every measure, so that the picture is
            a matrix, with a panel per epoch. "epoch": epochs, with a row for each pair of measures.
            "layer": layers in order of depth, with a row for each pair and a panel per epoch; the
            correlation is over the filters of the layer. Default: "measure", or "epoch" if
            `against` is given.
        against: A measure or column that all others are compared with, such as "delta_loss", so
            that each of them is one row.
        epochs: Epochs to draw; negative numbers count from the last one measured. Default: the last
            one, or all if `over` is "epoch".
        runs: Names of runs, or facts such as {"seed": 0}. Default: all.
        unit: Kind of rows, such as "filter" or "head", if the runs have several.
        by: Facts that tell runs apart. Default: all in which they differ, except the seed.
        method: "spearman", "kendall", "pearson" or "symlog".
        ax: Axes to draw into, for a single panel. Default: a picture of its own.

    Returns:
        The picture, or `ax`. `pv.plot.heatmap.table(...)` returns the numbers, see
        `heatmap_table`.

    Raises:
        FigureError: If an argument is unknown, a measure has no values, or `ax` is given and there
            are several panels; lists what is there.
        AnalysisError: If there are fewer than two measures.

    Example:
        >>> runs = pv.load("data/cifar-mini")
        >>> pv.plot.heatmap(runs, runs={"network": "vgg13"})
        >>> pv.plot.heatmap(runs, against="magnitude", over="epoch", unit="filter")
    """
    check_groups(runs_of(source, runs, unit), by)
    table = heatmap_table(
        source,
        measures,
        over=over,
        against=against,
        epochs=epochs,
        runs=runs,
        unit=unit,
        by=by,
        method=method,
    )
    return draw(table, _checked_direction(over, against), ax)


def draw(table: pd.DataFrame, over: Over, ax: Axes | None = None) -> Any:
    """Draw a table of `heatmap_table`."""
    panels = list(_panels(table, over))
    names, matrices = [name for name, _ in panels], [cells for _, cells in panels]
    check_number(names)
    if not panels:
        raise FigureError(
            "there is no correlation to draw, because no filter that is not pruned has two of the "
            "measures; choose an earlier epoch (epochs=), or other runs"
        )
    rows, columns = (max(cells.values.shape[axis] for cells in matrices) for axis in (0, 1))
    cell = _cell_size(columns, over)
    size, across = _size(matrices, (rows * cell[1], columns * cell[0]), over)
    with canvas(ax, names, _CHOOSE, size=size, columns=across, sharey=across > 1) as drawn:
        leave_margins(drawn)
        scale_beside(drawn.figure, drawn.axes, _scale_label(table, over))
        for axes, title, cells in zip(drawn.axes, names, matrices, strict=True):
            write_title(axes, title, None if ax else max(columns * cell[0], _SMALLEST[1]))
            draw_cells(axes, cells, upright=over != "epoch", size=None if ax else cell)
            axes.set_xlabel("epochs trained" if over == "epoch" else "")
        drawn.legend(absent_handles(matrices))
    return drawn.result


def _panels(table: pd.DataFrame, over: Over) -> Iterator[tuple[str, Cells]]:
    """Panels by title, all with the same rows."""
    rows = list(dict.fromkeys(zip(table["x"], table["y"], strict=True)))
    if over == "measure":
        rows = [(x, y) for x, y in rows if x == y]
    for (group, epoch), panel in table.groupby(_panel_keys(over), sort=False):
        facts = [str(group), "" if over == "epoch" else f"epoch {epoch}", seeds_in_words(panel)]
        yield ", ".join(filter(None, facts)), _cells(panel, over, rows)


def _panel_keys(over: Over) -> list[str]:
    return ["group", "method"] if over == "epoch" else ["group", "epoch"]


def _cells(panel: pd.DataFrame, over: Over, rows: list[tuple[str, str]]) -> Cells:
    if over == "measure":
        names = [x for x, _ in rows]
        titles = tuple(map(measure_title, names))
        return Cells(titles, titles, _matrix(panel, "x", "y", names, names))
    place = "epoch" if over == "epoch" else "depth"
    in_order = panel.sort_values(place)
    columns = list(in_order[over].unique())
    matrix = _matrix(panel, ["x", "y"], over, pd.MultiIndex.from_tuples(rows), columns)
    named = map(layer_title if over == "layer" else str, map(str, columns))
    return Cells(_pair_titles(rows), tuple(shortened(list(named), _LONGEST)), matrix)


def _matrix(panel: pd.DataFrame, index: Any, column: str, rows: Any, columns: Any) -> np.ndarray:
    found = panel.pivot_table(index=index, columns=column, values="r", aggfunc="first")
    return found.reindex(index=rows, columns=columns).to_numpy(dtype="float64")


def _pair_titles(pairs: list[tuple[str, str]]) -> tuple[str, ...]:
    """Rows for pairs; the scale names a measure that is in all of them."""
    if len({x for x, _ in pairs}) == 1:
        return tuple(measure_title(y) for _, y in pairs)
    return tuple(f"{measure_title(x)} – {measure_title(y)}" for x, y in pairs)


def _scale_label(table: pd.DataFrame, over: Over) -> str:
    symbol = SYMBOLS[str(table["method"].iloc[0])]
    first = table["x"].unique()
    return (
        f"{symbol} with {measure_title(first[0])}"
        if over != "measure" and len(first) == 1
        else symbol
    )


def _cell_size(columns: int, over: Over) -> tuple[float, float]:
    if columns <= _MOST_NUMBERS:
        return CELL
    return (NARROW if over == "layer" else _WIDE / columns, CELL[1])


def _size(
    cells: Sequence[Cells], panel: tuple[float, float], over: Over
) -> tuple[tuple[float, float], int]:
    """Size of the picture, and panels in a row, from the height and width of a panel."""
    height, width = np.maximum(panel, _SMALLEST)
    left = max(width_of(one.rows) for one in cells)
    below = 0.4 if over == "epoch" else max(width_of(one.columns) for one in cells)
    across = min(len(cells), max(1, int((_WIDEST - left - _SCALE) / (width + 0.15))))
    down = math.ceil(len(cells) / across)
    return (left + _SCALE + across * (width + 0.15), down * (height + below + 0.35)), across
