"""Figures 3, 13, 14, 15 and H1a: one quantity of every filter against another at the beginning, at a quarter and at the end of training.

Points are those of one seed; correlations are means over all seeds (Lubana and Dick, ICLR 2021). In H1a a point is a single weight, and
the points are a sample of those that the correlations are over.
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
from pruneviz.figures import style
from pruneviz.figures.catalogue import Entry, network_title
from pruneviz.figures.chosen_runs import chosen_spec, common_epochs, filters_of, nearest_epochs
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.row_kind import RowKind, row_kind_in, row_kind_of
from pruneviz.figures.signed_log import SignedLog, off_ends
from pruneviz.figures.words import (
    COEFFICIENTS,
    SYMBOLS,
    decimal,
    interval,
    listed,
    mean_and_sd,
    scientific,
)
from pruneviz.log.runs import Runs

X, Y = "theta_g", "theta_hg"
NEEDS = (X, Y)
ERRORS = (
    f"{X}_se",
    f"{Y}_se",
)  # told where they were recorded: whether a point differs from zero at all
OPTIONS = ("method", "seed", "scale")  # the choices of DrawOptions that this picture depends on
FRACTIONS = (0.0, 0.25, 1.0)  # of the schedule: epochs 0, 40 and 160 of 160
HIGH = 0.7  # the size from which a correlation is called high; the paper names none
FEW = 0.5  # the share of points clear of their standard error below which a panel is called mostly noise

_LABEL_GAP = MappingProxyType(
    {"x": 0.27, "y": 0.13}
)  # least distance of two tick labels, as a fraction of the axis


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of a scatter figure: one row per filter, or weight, of the shown run and panel, with its panel's correlations.

    Columns: network, dataset, epoch, schedule (epochs of the whole training), run, seed, layer, depth (of the layer among those shown,
    from 1), filter (and weight), the two quantities, their standard errors, and, the same on every row of a panel, seeds, filters (or
    weights) and the correlations of `mean_correlations`, which are over all weights where the points are a sample.
    Errors: `FigureError` when no epoch holds both quantities in all runs or the seed asked for was not recorded; those of `chosen_spec`.
    """
    spec, row_kind = chosen_spec(runs.spec, entry, options), row_kind_of(entry.need.kind)
    schedule = (
        int(spec["epochs"].max())
        if spec["epochs"].notna().any()
        else int(runs.named(spec["run"]).epochs["epoch"].max())
    )
    epochs = nearest_epochs(_measured(runs, spec), schedule, FRACTIONS)
    means = row_kind.correlations(runs, spec, X, Y, options, epochs)
    shown = _shown_run(spec, options)
    points = _points(
        filters_of(runs, shown, (*row_kind.keys, *NEEDS, *ERRORS), epochs, complete=NEEDS),
        shown.iloc[0],
        row_kind,
    )
    rows = (
        points.assign(schedule=schedule)
        .merge(means, on="epoch")
        .sort_values(["epoch", "depth", "filter", *row_kind.keys], ignore_index=True)
    )
    rows = rows.astype(
        dict.fromkeys(row_kind.keys, "int64")
    )  # null in filter runs, so that loaded beside them it comes as a float
    return rows[
        [
            "network",
            "dataset",
            "epoch",
            "schedule",
            *(name for name in points if name != "epoch"),
            *means.columns[3:],
        ]
    ]


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """The picture of a table that `table` made: one panel per epoch, one point a row, coloured by the depth of its layer."""
    epochs, row_kind = list(dict.fromkeys(table["epoch"])), row_kind_in(table)
    with style.paper():
        figure = Figure(figsize=(style.TEXT_WIDTH, 2.55), layout="constrained")
        row = figure.subplots(1, len(epochs), squeeze=False)[0]
        deepest = int(table["depth"].max())
        depths = Normalize(1, max(2, deepest))
        for letter, axes, epoch in zip("abc", row, epochs, strict=False):
            panel = table[table["epoch"] == epoch]
            _draw_points(axes, panel, depths)
            _scale_axes(axes, panel, options)
            _write_heading(axes, panel, letter, options)
            axes.set_xlabel(_axis_label(X, row_kind))
        row[0].set_ylabel(_axis_label(Y, row_kind))
        _draw_colour_bar(figure, row, depths, deepest)
        style.settle(figure)
    return figure


def thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """The value up to which each signed-log axis is linear: one row per epoch, one column per quantity."""
    groups = table.groupby("epoch")
    return pd.DataFrame(
        {
            name: {epoch: SignedLog.fit(rows[name].to_numpy()).threshold for epoch, rows in groups}
            for name in NEEDS
        }
    )


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
            f"seed {options.seed} is not recorded; recorded are seeds {listed(spec['seed'])}; choose one with seed (--seed)"
        )
    return shown.head(1)


def _points(filters: pd.DataFrame, run: pd.Series, row_kind: RowKind) -> pd.DataFrame:
    """The filters of one run as points; a layer's depth is its place in the order in which the network applies its layers."""
    depth = pd.factorize(filters["layer"].astype(str))[0] + 1
    return filters.assign(run=run["run"], seed=run["seed"], depth=depth)[
        ["epoch", "run", "seed", "layer", "depth", "filter", *row_kind.keys, *NEEDS, *ERRORS]
    ]


def _draw_points(axes: Axes, panel: pd.DataFrame, depths: Normalize) -> None:
    axes.axhline(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    axes.axvline(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    mixed = panel.sample(
        frac=1, random_state=0
    )  # else the deepest layers, drawn last, would hide the others
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
    """As many round values as fit, at most `most`, none of them at an end of the axis."""
    sets = [
        np.asarray(MaxNLocator(nbins=bins, steps=[1, 2, 5, 10]).tick_values(low, high))
        for bins in range(most + 2, 1, -1)
    ]
    inside = [ticks[off_ends((ticks - low) / (high - low))] for ticks in sets]
    return next((ticks.tolist() for ticks in inside if 0 < len(ticks) <= most), [])


def _write_heading(axes: Axes, panel: pd.DataFrame, letter: str, options: DrawOptions) -> None:
    """Put the epoch, and under it the correlations, above the panel, where they hide no point."""
    facts, row_kind, (chosen, beside) = panel.iloc[0], row_kind_in(panel), options.methods
    lines = [
        f"{SYMBOLS[chosen]} {mean_and_sd(facts[chosen], facts[f'{chosen}_sd'])}",
        f"{SYMBOLS[beside]} {mean_and_sd(facts[beside], facts[f'{beside}_sd'])}",
        f"{counted(int(facts[row_kind.counted]), row_kind.noun)}, {counted(int(facts['seeds']), 'seed')}",
    ]
    axes.set_title(f"({letter}) {_when(facts)}", pad=33)
    box = axes.annotate(
        "\n".join(lines), (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=7.5, color=style.NOTE_COLOUR,
        ha="left", va="bottom", linespacing=1.15,
    )  # fmt: skip
    box.set_in_layout(
        False
    )  # the title above it keeps its room; its width may reach over the gap between two panels


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
    return (
        "initialisation"
        if facts["epoch"] == 0
        else f"epoch {facts['epoch']} of {facts['schedule']}"
    )


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """What the picture shows, in words, the thresholds of its axes included."""
    facts, row_kind = table.iloc[0], row_kind_in(table)
    x, y = row_kind.column(X), row_kind.column(Y)
    text = (
        f"One point is one {row_kind.noun} of {network_title(facts['network'])} trained on {facts['dataset']}; x is {x.meaning} "
        f"({X}, {x.unit}), y is {y.meaning} ({Y}, {y.unit}). {_sample(table, row_kind)}"
        f"Points are those of {_seed_name(facts)}; colour is the depth of the layer; grey lines mark zero. "
    )
    if options.scale == "linear":
        return text + "Both axes are linear."
    strips = [
        f"x {linear[X]:.0e}, y {linear[Y]:.0e} at epoch {epoch}"
        for epoch, linear in thresholds(table).iterrows()
    ]
    return (
        text
        + f"Axes are logarithmic in both directions beyond a strip around zero in which they are linear, up to {'; '.join(strips)}."
    )


def _sample(table: pd.DataFrame, row_kind: RowKind) -> str:
    """How many of all are shown, where the points are a sample."""
    shown, there = (
        int((table["epoch"] == table["epoch"].iloc[0]).sum()),
        int(table[row_kind.counted].iloc[0]),
    )
    if shown >= there:
        return ""
    return f"Shown are {shown:,} of its {there:,} {row_kind.noun}s, a fixed random sample; correlations are over all of them. "


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The computed correlations, one line per panel and coefficient."""
    lines, row_kind = [], row_kind_in(table)
    for letter, (_, facts) in zip("abc", _panels(table).iterrows(), strict=False):
        head = f"({letter}) {_when(facts)}, {counted(int(facts[row_kind.counted]), row_kind.noun)}, {counted(int(facts['seeds']), 'seed')}:"
        lines += [
            head,
            *(
                f"    {COEFFICIENTS[method]:<8} {_with_interval(facts, method)}"
                for method in options.methods
            ),
        ]
        clear = _clear_of_noise(table[table["epoch"] == facts["epoch"]])
        lines += (
            [f"    above twice its standard error: {_shares(clear)} of the points shown"]
            if clear.notna().all()
            else []
        )
    return lines


def finding(table: pd.DataFrame, options: DrawOptions) -> str:
    """What these recordings say to the paper's claim, with the measure of "high" stated."""
    panels, (chosen, beside) = _panels(table), options.methods
    text = (
        f"The mean {COEFFICIENTS[chosen]} correlation is {_by_panel(panels, chosen)}. The paper names no measure of high; calling a size "
        f"of at least {HIGH} high, it is {_share_of_high(panels[chosen])} of the {counted(len(panels), 'panel')}."
    )
    apart = panels[_verdicts(panels[chosen]) != _verdicts(panels[beside])]
    if len(apart):
        text += f" The {COEFFICIENTS[beside]} correlation says otherwise where it is {_by_panel(apart, beside)}."
    noisy = [
        facts
        for _, facts in panels.iterrows()
        if (_clear_of_noise(table[table["epoch"] == facts["epoch"]]) < FEW).any()
    ]
    if noisy:
        text += (
            f" Less than half of the points are above twice their standard error at {listed(_when(facts) for facts in noisy)}; "
            "there the picture shows the noise of the sample as much as the network."
        )
    return (
        text
        + f" A few large values weigh most in Pearson's coefficient; ranks weigh every {row_kind_in(table).noun} alike."
    )


def _clear_of_noise(panel: pd.DataFrame) -> pd.Series:
    """Share of a panel's points whose size is above twice their standard error, for each quantity; null where none was recorded."""
    shares = {
        name: panel[name].abs().gt(2 * panel[error]).mean()
        for name, error in zip(NEEDS, ERRORS, strict=True)
    }
    known = panel[list(ERRORS)].notna().any().to_numpy()
    return pd.Series(shares).where(known)


def _shares(clear: pd.Series) -> str:
    return listed(f"{name} in {share:.0%}" for name, share in clear.items())


def _by_panel(panels: pd.DataFrame, method: str) -> str:
    return listed(f"{decimal(facts[method])} ({_when(facts)})" for _, facts in panels.iterrows())


def _verdicts(correlations: pd.Series) -> pd.Series:
    """1 for high and positive, -1 for high and negative, 0 otherwise, absent correlations included."""
    return (correlations >= HIGH).astype(int) - (correlations <= -HIGH).astype(int)


def _share_of_high(correlations: pd.Series) -> str:
    verdicts = _verdicts(correlations)
    counts = {
        "high and positive": int((verdicts > 0).sum()),
        "high and negative": int((verdicts < 0).sum()),
    }
    return (
        listed(f"{name} in {count}" for name, count in counts.items() if count)
        if any(counts.values())
        else "high in none"
    )


def _with_interval(facts: pd.Series, method: str) -> str:
    return f"{mean_and_sd(facts[method], facts[f'{method}_sd'], 3)} {interval(facts[f'{method}_low'], facts[f'{method}_high'])}"


def _panels(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates("epoch")


def _seed_name(facts: pd.Series) -> str:
    return f"run {facts['run']}" if pd.isna(facts["seed"]) else f"seed {int(facts['seed'])}"
