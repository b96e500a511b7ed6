"""Which filters are kept, epoch by epoch and layer by layer: `pv.plot.masks`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.console.words import counted
from pruneviz.errors import FigureError, unknown_name
from pruneviz.plot import style
from pruneviz.plot.canvas import canvas, with_table
from pruneviz.plot.glyphs import literal
from pruneviz.plot.layer_names import layer_title
from pruneviz.plot.legends import shortened
from pruneviz.plot.mask_tables import masks_table
from pruneviz.plot.panels import check_number, leave_margins, write_title
from pruneviz.plot.recorded import Wanted, check_groups
from pruneviz.plot.source import Chosen, Source, runs_of
from pruneviz.plot.words import measure_title, percent

Order = Literal["kept", "filter"]

_CHOOSE = "choose one with runs=, or take the first run with by=[]"
_KEPT, _PRUNED = style.LEFT_COLOUR, "#F3CBA3"
_LEAST, _ROOT = 0.135, 0.014  # inches of a layer: the least, and for the root of its filters
_GAP = 0.035  # inches between layers
_SHORTEST, _TALLEST = (
    2.2,
    9.5,
)  # inches of a panel; more layers are drawn smaller, and not all of them named
_WIDTH = 2.7  # inches of a panel
_CHARACTER = 0.062  # inches of a layer's name
_LONGEST = 30  # characters of a layer's name
_NAME = 7.0  # points of a layer's name
_BESIDE: Mapping[str, Any] = {"fontsize": _NAME, "color": style.NOTE_COLOUR}
_LINE = 0.115  # inches that it needs
_ROWS_PER_INCH = 144
_COLUMNS = 480  # of a picture of uneven epochs


@with_table(masks_table)
def masks(
    source: Source,
    *,
    score: AnyMeasure | None = None,
    ratio: float | None = None,
    layers: str | Sequence[str] | None = None,
    epochs: Wanted = None,
    runs: Chosen = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
    order: Order = "kept",
    ax: Axes | None = None,
) -> Any:
    """Draw which filters a network keeps, epoch by epoch, with a block for each layer.

    A row is a filter and a column an epoch: dark where the filter is kept, pale where it is pruned,
    and white where there is no mask. The number at the right is the share of the layer's filters
    that is kept at the last epoch. Layers stand in order of depth, higher if they have more
    filters. Runs that differ in more than their seed get a panel each; each panel shows the run
    with the lowest seed.

    Without `score` and `ratio`, runs that were pruned show what was pruned. Others show the masks
    that a measure would give at each epoch: the lowest-scoring filters of the whole network, as
    `pv.mask_distance` compares them.

    Args:
        source: Recordings, or a filters table; see `pruneviz.load`.
        score: Pruning measure to make masks by. Default: the recorded masks, or for unpruned runs
            the measure whose masks the log compares, such as "bn_scale".
        ratio: Fraction of the filters that the masks prune. Default: that of the log, 0.2.
        layers: Names of layers, or patterns such as "stage1.*". Default: all.
        epochs: Epochs to draw; negative numbers count from the last one. Default: all.
        runs: Names of runs, or facts such as {"measure": "proposed"}. Default: all.
        unit: Kind of rows, such as "filter" or "head", if the runs have several.
        by: Facts that tell runs apart. Default: all in which they differ, except the seed.
        order: Order of the filters in a layer: "kept" (longest kept first) or "filter" (by number).
        ax: Axes to draw into, for a single panel. Default: a picture of its own.

    Returns:
        The picture, or `ax`. `pv.plot.masks.table(...)` returns the numbers, see `masks_table`.

    Raises:
        FigureError: If an argument is unknown, there are no masks, or `ax` is given and there are
            several panels; lists what is there.
        AnalysisError: If `ratio` is outside [0, 1].

    References:
        You et al., "Drawing Early-Bird Tickets", ICLR 2020: masks of `bn_scale` over epochs.

    Example:
        >>> runs = pv.load("data/cifar-mini")
        >>> pv.plot.masks(runs, runs={"network": "vgg13"}, score="magnitude", ratio=0.5)
    """
    if order not in get_args(Order):
        raise FigureError(unknown_name("order", str(order), get_args(Order)))
    check_groups(runs_of(source, runs, unit), by)
    table = masks_table(
        source,
        score=score,
        ratio=ratio,
        layers=layers,
        epochs=epochs,
        runs=runs,
        unit=unit,
        by=by,
    )
    return draw(table, order, ax)


def draw(table: pd.DataFrame, order: Order = "kept", ax: Axes | None = None) -> Any:
    """Draw a table of `masks_table`."""
    check_number(list(map(str, table["group"].unique())))
    panels = {str(group): _panel(rows, order) for group, rows in table.groupby("group", sort=False)}
    height = min(_TALLEST, max(panel.inches for panel in panels.values()))
    left = _CHARACTER * max(len(name) for panel in panels.values() for name in panel.names)
    across = min(len(panels), max(1, int(10.5 / (left + _WIDTH + 0.5))))
    down = math.ceil(len(panels) / across)
    size = (across * (left + _WIDTH + 0.5), down * (height + 0.55) + 0.2)
    with canvas(ax, list(panels), _CHOOSE, size=size, columns=across) as drawn:
        leave_margins(drawn)
        for axes, (group, panel) in zip(drawn.axes, panels.items(), strict=True):
            write_title(axes, ", ".join(filter(None, [group, panel.note])), None if ax else _WIDTH)
            _draw_panel(axes, panel, height if ax is None else _height(axes))
            if ax is None:
                _head_shares(axes)
        if ax is None:
            drawn.legend(_handles(table))
        else:  # a legend would hide some filters
            ax.set_xlabel("epochs trained\n(dark: kept, pale: pruned)")
    return drawn.result


@dataclass(frozen=True, repr=False)
class _Panel:
    """The masks of a run.

    Attributes:
        note: What the masks are, in words.
        names: Names of the layers as they are drawn.
        epochs: Epochs, ascending.
        masks: For each layer, 1 for kept, 0 for pruned, NaN for neither [filter, epoch].
    """

    note: str
    names: list[str]
    epochs: np.ndarray
    masks: list[np.ndarray]

    @property
    def heights(self) -> np.ndarray:
        """Heights of the layers in inches [layer]."""
        roots = np.sqrt([len(mask) for mask in self.masks])
        return np.maximum(_LEAST, _ROOT * roots)

    @property
    def inches(self) -> float:
        """Height that the panel would like to have."""
        return float(max(_SHORTEST, (self.heights + _GAP).sum()))


def _panel(rows: pd.DataFrame, order: Order) -> _Panel:
    keys = ["filter", *(["weight"] if "weight" in rows else [])]
    numbers = rows["kept"].astype("Float64").to_numpy(dtype="float64", na_value=np.nan)
    by_epoch = rows.assign(kept=numbers).set_index(["depth", *keys, "epoch"])["kept"].unstack()  # noqa: PD010
    if order == "kept":
        by_epoch = by_epoch.assign(_kept=-by_epoch.sum(axis="columns"))
        by_epoch = by_epoch.sort_values(["depth", "_kept", *keys]).drop(columns="_kept")
    layers = rows.drop_duplicates("depth").sort_values("depth")["layer"]
    return _Panel(
        _note(rows),
        shortened([layer_title(str(layer)) for layer in layers], _LONGEST),
        by_epoch.columns.to_numpy(dtype="int64"),
        [mask.to_numpy() for _, mask in by_epoch.groupby("depth")],
    )


def _note(rows: pd.DataFrame) -> str:
    """What the masks of a panel are."""
    first = rows.iloc[0]
    facts = []
    if first["seeds"] > 1:
        facts.append(f"one of {first['seeds']} runs")
    if "of_epochs" in rows and pd.notna(first["of_epochs"]):
        facts.append(f"{rows['epoch'].nunique()} of {first['of_epochs']:.0f} epochs (thin copy)")
    if "weight" in rows:
        facts.append(counted(len(rows.drop_duplicates(["layer", "filter", "weight"])), "weight"))
    if pd.notna(first["score"]):
        share = percent(first["ratio"], digits=0).replace(" ", "\u00a0")
        facts.append(f"masks of {measure_title(str(first['score']))}, {share} pruned")
    return ", ".join(facts)


def _draw_panel(axes: Axes, panel: _Panel, inches: float) -> None:
    edges = _edges(panel.epochs)
    tops = np.concatenate([[0.0], np.cumsum(panel.heights + _GAP)])
    colours = LinearSegmentedColormap.from_list("kept", [_PRUNED, _KEPT])
    for mask, top, height in zip(panel.masks, tops, panel.heights, strict=False):
        axes.imshow(
            _evenly(_reduced(mask, height * inches / tops[-1]), edges),
            interpolation="none",  # an image of a few pixels in files, however large the network
            cmap=colours,
            vmin=0,
            vmax=1,
            aspect="auto",
            extent=(edges[0], edges[-1], top + height, top),
        )
    if all(np.isnan(mask).all() for mask in panel.masks):
        why = "no ranking:\nall filters score alike"
        axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(tops[-1] - _GAP, 0)
    axes.set_xlabel("epochs trained")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.spines[:].set_visible(False)
    _name_layers(axes, panel, tops[:-1] + panel.heights / 2, inches / tops[-1])


def _name_layers(axes: Axes, panel: _Panel, middles: np.ndarray, scale: float) -> None:
    """Name as many layers as there is room for, and say how much of them is kept at the end."""
    named: list[int] = []
    for place, middle in enumerate(middles):
        if not named or (middle - middles[named[-1]]) * scale >= _LINE:
            named.append(place)
    axes.set_yticks([middles[place] for place in named], [literal(panel.names[i]) for i in named])
    axes.tick_params(axis="y", labelsize=_NAME, length=0)
    for place in named:
        last = panel.masks[place][:, -1]
        if not np.isnan(last).all():
            axes.text(
                1.02,
                middles[place],
                percent(float(np.nanmean(last)), digits=0),
                transform=axes.get_yaxis_transform(),
                va="center",
                **_BESIDE,
            )


def _head_shares(axes: Axes) -> None:
    """Say what the numbers beside the layers are."""
    above: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "va": "bottom"}
    axes.annotate("kept", (1.02, 1.0), xycoords="axes fraction", **above, **_BESIDE)


def _edges(epochs: np.ndarray) -> np.ndarray:
    """Where the column of an epoch begins and ends: halfway to its neighbours, if it has them."""
    if len(epochs) == 1:
        return epochs[0] + np.array([-0.5, 0.5])
    middles = (epochs[1:] + epochs[:-1]) / 2
    beyond = np.diff(epochs).min() / 2  # so that no column reaches far beyond the training
    return np.array([epochs[0] - beyond, *middles, epochs[-1] + beyond])


def _reduced(mask: np.ndarray, inches: float) -> np.ndarray:
    """A mask with as many rows as are told apart: shares of neighbouring filters that are kept."""
    rows = max(1, int(inches * _ROWS_PER_INCH))
    if len(mask) <= rows:
        return mask
    starts = np.linspace(0, len(mask), rows, endpoint=False).astype(int)
    held = ~np.isnan(mask)
    kept = np.add.reduceat(np.where(held, mask, 0.0), starts)
    of = np.add.reduceat(held.astype(float), starts)
    return np.divide(kept, of, out=np.full(of.shape, np.nan), where=of > 0)


def _evenly(mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """A mask whose columns are equally wide, as a picture needs them."""
    widths = np.diff(edges)
    if np.allclose(widths, widths[0]):
        return mask
    at = np.linspace(edges[0], edges[-1], _COLUMNS, endpoint=False)
    return mask[:, np.searchsorted(edges, at, side="right") - 1]


def _height(axes: Axes) -> float:
    return float(axes.get_window_extent().height / axes.figure.figure.dpi)


def _handles(table: pd.DataFrame) -> list[Artist]:
    found: list[Artist] = [Patch(color=_KEPT, label="kept"), Patch(color=_PRUNED, label="pruned")]
    if table["kept"].isna().any():
        edge = style.GUIDE_COLOUR
        found.append(Patch(facecolor="white", edgecolor=edge, linewidth=0.5, label="no ranking"))
    return found
