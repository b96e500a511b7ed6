"""Figures 3, 13-15 and H1a: theta_hg against theta_g of every filter, at three epochs.

The epochs are the beginning, a quarter and the end of training. Points show one seed; correlations
are means over all seeds (Lubana and Dick, ICLR 2021). In H1a a point is a single weight; points are
a sample, correlations are over all weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from pruneviz.console.words import counted
from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.row_kind import RowKind, row_kind_in, row_kind_of
from pruneviz.plot.rows import common_epochs, filters_of, nearest_epochs
from pruneviz.plot.signed_log import SignedLog, off_ends
from pruneviz.plot.words import (
    COEFFICIENT_NAMES,
    SYMBOLS,
    decimal,
    interval,
    listed,
    mean_and_sd,
    network_title,
    scientific,
)

X, Y = "theta_g", "theta_hg"
# Columns of the filters table, and fields of DrawOptions, that the picture depends on.
NEEDS = (X, Y)
OPTIONS = ("method", "seed", "scale")
# Standard errors, if recorded, show whether a point differs from zero.
ERRORS = (f"{X}_se", f"{Y}_se")
FRACTIONS = (0.0, 0.25, 1.0)  # of the schedule: epochs 0, 40 and 160 of 160
HIGH = 0.7  # least absolute value of a "high" correlation; the paper gives none
# A panel is mostly noise if a smaller share of points exceeds twice its standard error.
FEW = 0.5

# Least distance of two tick labels, as a fraction of the axis.
_LABEL_GAP = MappingProxyType({"x": 0.27, "y": 0.13})
_LETTERS = "abc"


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure.

    Returns:
        One row per panel and filter (or weight) of the run shown: network, dataset, epoch, schedule
        (epochs of the whole training), run, seed, layer, depth (of the layer among the shown ones,
        from 1), filter (and weight), the two quantities, their standard errors and, the same on
        every row of a panel, seeds, filters (or weights) and the correlations of
        `mean_correlations`, over all weights if the points are a sample.

    Raises:
        FigureError: If no epoch has both quantities in all runs, or the requested seed was not
            recorded; as for `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    row_kind = row_kind_of(spec)
    schedule = _schedule(runs, spec)
    epochs = nearest_epochs(_measured(runs, spec), schedule, FRACTIONS)
    means = row_kind.correlations(runs, spec, X, Y, options.methods, epochs)
    shown = _shown_run(spec, options)
    columns = (*row_kind.keys, *NEEDS, *ERRORS)
    filters = filters_of(runs, shown, columns, epochs, complete=NEEDS)
    points = _points(filters, shown.iloc[0], row_kind)
    rows = points.assign(schedule=schedule).merge(means, on="epoch")
    rows = rows.sort_values(["epoch", "depth", "filter", *row_kind.keys], ignore_index=True)
    # Weight keys are null in runs of filters, so they are floats in a table with both kinds.
    rows = rows.astype(dict.fromkeys(row_kind.keys, "int64"))
    own = [name for name in points if name != "epoch"]
    return rows[["network", "dataset", "epoch", "schedule", *own, *means.columns[3:]]]


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: a panel per epoch, a point per row, coloured by layer depth."""
    epochs, row_kind = list(dict.fromkeys(table["epoch"])), row_kind_in(table)
    with style.paper():
        figure = Figure(figsize=(style.TEXT_WIDTH, 2.55), layout="constrained")
        row = figure.subplots(1, len(epochs), squeeze=False)[0]
        deepest = int(table["depth"].max())
        depths = Normalize(1, max(2, deepest))
        for letter, axes, epoch in zip(_LETTERS, row, epochs, strict=False):
            panel = table[table["epoch"] == epoch]
            _draw_points(axes, panel, depths)
            _scale_axes(axes, panel, options)
            _write_heading(axes, panel, letter, options)
            axes.set_xlabel(_axis_label(X, row_kind))
        row[0].set_ylabel(_axis_label(Y, row_kind))
        _draw_colour_bar(figure, row, depths, deepest)
        style.settle(figure)
    return figure


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words, including the thresholds of its axes."""
    facts, row_kind = table.iloc[0], row_kind_in(table)
    x, y = row_kind.column(X), row_kind.column(Y)
    text = (
        f"One point is one {row_kind.noun} of {network_title(facts['network'])} trained on "
        f"{facts['dataset']}; x is {x.meaning} ({X}, {x.unit}), y is {y.meaning} ({Y}, {y.unit}). "
        f"{_sample(table, row_kind)}Points are those of {_seed_name(facts)}; colour is the depth "
        "of the layer; grey lines mark zero. "
    )
    if options.scale == "linear":
        return text + "Both axes are linear."
    strips = "; ".join(
        f"x {linear[X]:.0e}, y {linear[Y]:.0e} at epoch {epoch}"
        for epoch, linear in thresholds(table).iterrows()
    )
    return (
        f"{text}Axes are logarithmic in both directions beyond a strip around zero in which they "
        f"are linear, up to {strips}."
    )


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The computed correlations, one line per panel and coefficient."""
    lines, row_kind = [], row_kind_in(table)
    for letter, (_, facts) in zip(_LETTERS, _panels(table).iterrows(), strict=False):
        lines.append(f"({letter}) {_when(facts)}, {_counts(facts, row_kind)}:")
        for method in options.methods:
            lines.append(f"    {COEFFICIENT_NAMES[method]:<8} {_with_interval(facts, method)}")
        clear = _clear_of_noise(table[table["epoch"] == facts["epoch"]])
        if clear.notna().all():
            shares = listed(f"{name} in {share:.0%}" for name, share in clear.items())
            lines.append(f"    above twice its standard error: {shares} of the points shown")
    return lines


def finding(table: pd.DataFrame, options: DrawOptions) -> str:
    """What these recordings say about the paper's claim, with the meaning of "high"."""
    panels, (chosen, beside) = _panels(table), options.methods
    text = (
        f"The mean {COEFFICIENT_NAMES[chosen]} correlation is {_by_panel(panels, chosen)}. The "
        f"paper names no measure of high; calling a size of at least {HIGH} high, it is "
        f"{_share_of_high(panels[chosen])} of the {counted(len(panels), 'panel')}."
    )
    apart = panels[_verdicts(panels[chosen]) != _verdicts(panels[beside])]
    if len(apart):
        text += (
            f" The {COEFFICIENT_NAMES[beside]} correlation says otherwise where it is "
            f"{_by_panel(apart, beside)}."
        )
    noisy = _noisy_panels(table)
    if noisy:
        text += (
            f" Less than half of the points are above twice their standard error at "
            f"{listed(noisy)}; there the picture shows the noise of the sample as much as the "
            "network."
        )
    return (
        f"{text} A few large values weigh most in Pearson's coefficient; ranks weigh every "
        f"{row_kind_in(table).noun} alike."
    )


def thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """The value up to which each symmetric-log axis is linear.

    Returns:
        One row per epoch, one column per quantity.
    """
    by_name: dict[str, dict[object, float]] = {name: {} for name in NEEDS}
    for epoch, rows in table.groupby("epoch"):
        for name in NEEDS:
            by_name[name][epoch] = SignedLog.fit(rows[name].to_numpy()).threshold
    return pd.DataFrame(by_name)


def _schedule(runs: Runs, spec: pd.DataFrame) -> int:
    """Number of training epochs; the last recorded one if no run states it."""
    if spec["epochs"].notna().any():
        return int(spec["epochs"].max())
    return int(runs.named(spec["run"]).epochs["epoch"].max())


def _measured(runs: Runs, spec: pd.DataFrame) -> list[int]:
    epochs = common_epochs(filters_of(runs, spec, (), complete=NEEDS), spec)
    if not epochs:
        raise FigureError(
            f"there is no epoch at which all of {listed(spec['run'])} hold {listed(NEEDS)}; "
            "record them with derivative columns at common epochs"
        )
    return epochs


def _shown_run(spec: pd.DataFrame, options: DrawOptions) -> pd.DataFrame:
    """The row of the run whose points are shown."""
    shown = spec if options.seed is None else spec[spec["seed"] == options.seed]
    if shown.empty:
        raise FigureError(
            f"seed {options.seed} is not recorded; recorded are seeds {listed(spec['seed'])}; "
            "choose one with seed (--seed)"
        )
    return shown.head(1)


def _points(filters: pd.DataFrame, run: pd.Series, row_kind: RowKind) -> pd.DataFrame:
    """The filters of one run as points; depth counts layers in the order they are applied."""
    depth = pd.factorize(filters["layer"].astype(str))[0] + 1
    points = filters.assign(run=run["run"], seed=run["seed"], depth=depth)
    keys = ["epoch", "run", "seed", "layer", "depth", "filter", *row_kind.keys]
    return points[[*keys, *NEEDS, *ERRORS]]


def _draw_points(axes: Axes, panel: pd.DataFrame, depths: Normalize) -> None:
    axes.axhline(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    axes.axvline(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    # In random order; otherwise the deepest layers, drawn last, would hide the others.
    mixed = panel.sample(frac=1, random_state=0)
    size = float(np.clip(6000 / len(mixed), 1.6, 9))
    opacity = float(np.clip(1500 / len(mixed), 0.4, 0.8))
    axes.scatter(
        mixed[X],
        mixed[Y],
        c=mixed["depth"],
        cmap=style.depth_colours(),
        norm=depths,
        s=size,
        alpha=opacity,
        linewidths=0,
        rasterized=True,
    )


def _scale_axes(axes: Axes, panel: pd.DataFrame, options: DrawOptions) -> None:
    if options.scale == "symlog":
        SignedLog.fit(panel[X].to_numpy()).apply(axes, "x", _LABEL_GAP["x"])
        SignedLog.fit(panel[Y].to_numpy()).apply(axes, "y", _LABEL_GAP["y"])
        return
    for axis, most in ((axes.xaxis, 3), (axes.yaxis, 6)):
        axis.set_major_locator(FixedLocator(_linear_ticks(*axis.get_view_interval(), most)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: scientific(value)))


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values inside the axis, at most `most`, none at its ends."""
    for bins in range(most + 2, 1, -1):
        locator = MaxNLocator(nbins=bins, steps=[1, 2, 5, 10])
        ticks = np.asarray(locator.tick_values(low, high))
        inside = ticks[off_ends((ticks - low) / (high - low))]
        if 0 < len(inside) <= most:
            return list(inside.tolist())
    return []


def _write_heading(axes: Axes, panel: pd.DataFrame, letter: str, options: DrawOptions) -> None:
    """Write the epoch and correlations above the panel, where they hide no points."""
    facts = panel.iloc[0]
    lines = [
        f"{SYMBOLS[method]} {mean_and_sd(facts[method], facts[f'{method}_sd'])}"
        for method in options.methods
    ]
    lines.append(_counts(facts, row_kind_in(panel)))
    axes.set_title(f"({letter}) {_when(facts)}", pad=33)
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


def _draw_colour_bar(figure: Figure, row: Sequence[Axes], depths: Normalize, deepest: int) -> None:
    bar = figure.colorbar(
        ScalarMappable(depths, style.depth_colours()),
        ax=list(row),
        label="layer depth",
        aspect=30,
        pad=0.015,
        fraction=0.04,
    )
    bar.outline.set_linewidth(0.4)
    bar.ax.yaxis.set_major_locator(FixedLocator(sorted({1, round((1 + deepest) / 2), deepest})))


def _axis_label(name: str, row_kind: RowKind) -> str:
    column = row_kind.column(name)
    return f"{column.symbol} ({column.unit})"


def _when(facts: pd.Series) -> str:
    if facts["epoch"] == 0:
        return "initialisation"
    return f"epoch {facts['epoch']} of {facts['schedule']}"


def _counts(facts: pd.Series, row_kind: RowKind) -> str:
    rows = counted(int(facts[row_kind.counted]), row_kind.noun)
    return f"{rows}, {counted(int(facts['seeds']), 'seed')}"


def _sample(table: pd.DataFrame, row_kind: RowKind) -> str:
    """Number of shown and of all rows, if the points are a sample."""
    shown = int((table["epoch"] == table["epoch"].iloc[0]).sum())
    there = int(table[row_kind.counted].iloc[0])
    if shown >= there:
        return ""
    return (
        f"Shown are {shown:,} of its {there:,} {row_kind.noun}s, a fixed random sample; "
        "correlations are over all of them. "
    )


def _noisy_panels(table: pd.DataFrame) -> list[str]:
    """Names of panels in which few points exceed twice their standard error."""
    noisy = []
    for _, facts in _panels(table).iterrows():
        panel = table[table["epoch"] == facts["epoch"]]
        if (_clear_of_noise(panel) < FEW).any():
            noisy.append(_when(facts))
    return noisy


def _clear_of_noise(panel: pd.DataFrame) -> pd.Series:
    """Share of points above twice their standard error, by quantity; null if not recorded."""
    shares = {}
    for name, error in zip(NEEDS, ERRORS, strict=True):
        shares[name] = panel[name].abs().gt(2 * panel[error]).mean()
    known = panel[list(ERRORS)].notna().any().to_numpy()
    return pd.Series(shares).where(known)


def _by_panel(panels: pd.DataFrame, method: str) -> str:
    return listed(f"{decimal(facts[method])} ({_when(facts)})" for _, facts in panels.iterrows())


def _verdicts(correlations: pd.Series) -> pd.Series:
    """1 for high and positive, -1 for high and negative, otherwise 0."""
    return (correlations >= HIGH).astype(int) - (correlations <= -HIGH).astype(int)


def _share_of_high(correlations: pd.Series) -> str:
    verdicts = _verdicts(correlations)
    counts = {
        "high and positive": int((verdicts > 0).sum()),
        "high and negative": int((verdicts < 0).sum()),
    }
    if not any(counts.values()):
        return "high in none"
    return listed(f"{name} in {count}" for name, count in counts.items() if count)


def _with_interval(facts: pd.Series, method: str) -> str:
    mean = mean_and_sd(facts[method], facts[f"{method}_sd"], 3)
    return f"{mean} {interval(facts[f'{method}_low'], facts[f'{method}_high'])}"


def _panels(table: pd.DataFrame) -> pd.DataFrame:
    """One row per panel."""
    return table.drop_duplicates("epoch")


def _seed_name(facts: pd.Series) -> str:
    return f"run {facts['run']}" if pd.isna(facts["seed"]) else f"seed {int(facts['seed'])}"
