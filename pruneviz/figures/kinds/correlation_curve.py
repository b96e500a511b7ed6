"""Figures 2, H1b and I1: correlation between two measures and mask distance during training.

One panel per network (Lubana and Dick, ICLR 2021; masks after You et al., 2020). In H1b single
weights take the place of filters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pruneviz.analysis.measures import resolve
from pruneviz.console.words import counted
from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.mean_correlations import correlations_of_rows
from pruneviz.plot.row_kind import (
    RowKind,
    check_recorded,
    recorded_correlations,
    row_kind_in,
    row_kind_of,
)
from pruneviz.plot.rows import rows_for
from pruneviz.plot.words import (
    COEFFICIENT_NAMES,
    SYMBOLS,
    decimal,
    interval,
    listed,
    mean_and_sd,
    network_title,
)

# Columns of the filters table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("sigma", "sigma_delta", "theta_g", "abs_theta_g")
OPTIONS = ("method", "loss_preservation", "mask_score", "mask_ratio")
# Least absolute rank correlation at which the two curves are said to move together.
CLEAR = 0.5
FEW_EPOCHS = 8
_LETTERS = "abcdefgh"
KEYS = ["network", "dataset", "epoch"]


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure.

    Returns:
        One row per network and recorded epoch: network, dataset, epoch; at epochs with derivative
        columns seeds, filters (or weights), the correlations of `mean_correlations`, and band_low,
        band_high (mean ± standard deviation over seeds, or the 95 % interval of a single run); at
        epochs with masks mask_ref_epoch, mask_distance (mean over seeds, fraction of filters or
        weights), mask_distance_sd and chance.

    Raises:
        FigureError: If the two measures were never recorded together, or not in the requested form;
            as for `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    row_kind, options = row_kind_of(spec), options.for_unit(str(spec["unit"].iloc[0]))
    networks = spec.groupby("network", sort=False, observed=True)
    parts = [_of_network(runs, rows, row_kind, options) for _, rows in networks]
    return pd.concat(parts, ignore_index=True)


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: correlation on the left axis, mask distance on the right one."""
    networks, row_kind = list(dict.fromkeys(table["network"])), row_kind_in(table)
    several = len(networks) > 1
    # A single panel is narrower, with its legend in three rows.
    size = (style.TEXT_WIDTH, 2.5) if several else (0.6 * style.TEXT_WIDTH, 2.9)
    with style.paper():
        figure = Figure(figsize=size, layout="constrained")
        row = figure.subplots(1, len(networks), squeeze=False)[0]
        twins = [axes.twinx() for axes in row]
        for letter, axes, twin, network in zip(_LETTERS, row, twins, networks, strict=False):
            panel = table[table["network"] == network]
            _draw_correlation(axes, panel, options)
            _draw_mask_distance(twin, panel)
            title = network_title(network)
            axes.set_title(f"({letter}) {title}" if several else title)
            axes.set_xlabel("epochs trained")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.set_xlim(np.array([-0.04, 1.04]) * panel["epoch"].max())
        _share_axes(row, _correlation_limits(table), 8, style.LEFT_COLOUR)
        furthest = float(table[["mask_distance", "chance"]].max().max())
        _share_axes(twins, (0.0, 1.12 * furthest), 5, style.RIGHT_COLOUR)
        _name_axes(row[0], twins[-1], row_kind, options)
        _draw_legend(figure, row[0], twins[0], columns=3 if several else 1)
        style.settle(figure)
    return figure


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words."""
    networks = listed(network_title(network) for network in dict.fromkeys(table["network"]))
    row_kind = row_kind_in(table)
    band = f"the 95 % interval over the {row_kind.noun}s of the one run"
    if table["seeds"].max() > 1:
        band = "mean plus and minus one standard deviation over seeds"
    return (
        f"{networks}, trained on {table['dataset'].iloc[0]}. Solid line with points, left axis: "
        f"correlation over all {row_kind.noun}s of {row_kind.change} with "
        f"{options.loss_preservation_score}, mean over seeds; band: {band}. Dashed line, right "
        f"axis: fraction of {row_kind.noun}s in which the pruning masks of consecutive recorded "
        "epochs differ, mean over seeds. Dotted line: the same for independent random masks, "
        f"2p(1 - p) = {decimal(table['chance'].max())}.{row_kind.without_masks}"
    )


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The computed numbers, one line per panel and epoch with a correlation."""
    chosen, beside = options.methods
    lines, row_kind = [], row_kind_in(table)
    panels = table.groupby("network", sort=False)
    for letter, (network, panel) in zip(_LETTERS, panels, strict=False):
        measured = panel.dropna(subset=[chosen])
        rows = counted(int(measured[row_kind.counted].min()), row_kind.noun)
        seeds = counted(int(measured["seeds"].max()), "seed")
        lines.append(f"({letter}) {network_title(str(network))}, {rows}, {seeds}:")
        lines += [_value_line(row, chosen, beside) for _, row in measured.iterrows()]
    return lines


def finding(table: pd.DataFrame, options: DrawOptions) -> str:
    """What these recordings say about the paper's claim, network by network."""
    sentences = [
        _finding_of(str(network), panel, options)
        for network, panel in table.groupby("network", sort=False)
    ]
    hint = ", and one seed gives a hint at most" if table["seeds"].max() == 1 else ""
    caution = (
        "Neighbouring epochs resemble one another, so a rank correlation over epochs describes the "
        f"two curves and tests nothing; here {CLEAR:g} and more is called clear{hint}."
    )
    return " ".join([*sentences, caution])


def _of_network(
    runs: Runs, spec: pd.DataFrame, row_kind: RowKind, options: DrawOptions
) -> pd.DataFrame:
    preserved = options.loss_preservation_score
    correlations = _correlations(runs, spec, row_kind, row_kind.change, preserved, options)
    if correlations.empty:
        raise FigureError(
            f"no epoch of {listed(spec['run'])} holds both {row_kind.change} and {preserved}; "
            "record derivative columns at some epoch after the first"
        )
    distances = _mean_mask_distance(runs, spec, row_kind, options)
    rows = _with_band(correlations, options).merge(distances, on=KEYS, how="outer")
    return rows.sort_values("epoch", ignore_index=True)


def _correlations(
    runs: Runs, spec: pd.DataFrame, row_kind: RowKind, x: str, y: str, options: DrawOptions
) -> pd.DataFrame:
    found = None
    if row_kind.sampled:
        check_recorded(runs, spec, x, y, options.methods)
        found = recorded_correlations(runs, spec, x, y, options.methods)
    if found is None:
        rows = rows_for(runs, spec, [resolve(x), resolve(y)])
        found = correlations_of_rows(rows, spec, x, y, options.methods, row_kind.counted)
    found.insert(0, "network", spec["network"].iloc[0])
    found.insert(1, "dataset", spec["dataset"].iloc[0])
    return found


def _with_band(correlations: pd.DataFrame, options: DrawOptions) -> pd.DataFrame:
    mean, sd = correlations[options.method], correlations[f"{options.method}_sd"]
    return correlations.assign(
        band_low=(mean - sd).fillna(correlations[f"{options.method}_low"]),
        band_high=(mean + sd).fillna(correlations[f"{options.method}_high"]),
    )


def _mean_mask_distance(
    runs: Runs, spec: pd.DataFrame, row_kind: RowKind, options: DrawOptions
) -> pd.DataFrame:
    distances = row_kind.mask_distances(
        runs, spec, options.masks_by(str(spec["unit"].iloc[0])), options.mask_ratio
    ).dropna(subset=["distance"])
    if distances.empty:
        raise FigureError(
            f"no two epochs of {listed(spec['run'])} have masks by {options.mask_score}; "
            "choose another mask_score (--mask-score), such as bn_scale"
        )
    facts = spec[["run", "network", "dataset"]]
    groups = distances.merge(facts, on="run").groupby(KEYS, observed=True)
    return groups.agg(
        mask_ref_epoch=("ref_epoch", "min"),
        mask_distance=("distance", "mean"),
        mask_distance_sd=("distance", "std"),
        chance=("chance", "mean"),
    ).reset_index()


def _draw_correlation(axes: Axes, panel: pd.DataFrame, options: DrawOptions) -> None:
    measured = panel.dropna(subset=[options.method])
    axes.axhline(0, color=style.GUIDE_COLOUR, linewidth=0.5, zorder=0)
    axes.fill_between(
        measured["epoch"],
        measured["band_low"],
        measured["band_high"],
        color=style.LEFT_COLOUR,
        alpha=0.18,
        linewidth=0,
    )
    axes.plot(
        measured["epoch"],
        measured[options.method],
        color=style.LEFT_COLOUR,
        marker="o",
        label="correlation (left axis)",
    )


def _draw_mask_distance(axes: Axes, panel: pd.DataFrame) -> None:
    masks = panel.dropna(subset=["mask_distance"])
    axes.plot(
        masks["epoch"],
        masks["mask_distance"],
        color=style.RIGHT_COLOUR,
        linestyle=(0, (4, 1.5)),
        label="mask distance (right axis)",
    )
    axes.axhline(
        masks["chance"].iloc[0],
        color=style.RIGHT_COLOUR,
        linestyle=":",
        linewidth=0.9,
        label="chance level of mask distance",
    )


def _correlation_limits(table: pd.DataFrame) -> tuple[float, float]:
    """Limits that include zero and all bands, with room for markers; at least 0.5 apart."""
    low, high = min(0.0, float(table["band_low"].min())), max(0.0, float(table["band_high"].max()))
    missing = max(0.0, 0.5 - (high - low)) / 2
    return max(-1.05, low - missing - 0.04), min(1.05, high + missing + 0.04)


def _share_axes(
    row: Sequence[Axes], limits: tuple[float, float], most_ticks: int, colour: str
) -> None:
    """Give all axes in a row equal limits and ticks in one colour, without tick labels."""
    for axes in row:
        axes.set_ylim(limits)
        # The automatic locator would pick other ticks, of other widths, after the layout.
        axes.yaxis.set_major_locator(MaxNLocator(nbins=most_ticks, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", colors=colour, labelleft=False, labelright=False)


def _name_axes(left: Axes, right: Axes, row_kind: RowKind, options: DrawOptions) -> None:
    measures = f"{row_kind.change_symbol} with\nloss preservation"
    name = f"correlation of {measures} ({SYMBOLS[options.method]})"
    left.set_ylabel(name, color=style.LEFT_COLOUR)
    left.tick_params(axis="y", labelleft=True)
    right.set_ylabel(
        f"distance of consecutive masks\n(fraction of {row_kind.noun}s)", color=style.RIGHT_COLOUR
    )
    right.tick_params(axis="y", labelright=True)


def _draw_legend(figure: Figure, left: Axes, right: Axes, columns: int) -> None:
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        handlelength=2.4,
        columnspacing=1.2,
    )


def _value_line(row: pd.Series, chosen: str, beside: str) -> str:
    distance = mean_and_sd(row["mask_distance"], row["mask_distance_sd"], 3)
    if pd.isna(row["mask_distance"]):
        distance = "none"
    return (
        f"    epoch {row['epoch']:>3}: {COEFFICIENT_NAMES[chosen]} "
        f"{mean_and_sd(row[chosen], row[f'{chosen}_sd'], 3)} "
        f"{interval(row[f'{chosen}_low'], row[f'{chosen}_high'])}; {COEFFICIENT_NAMES[beside]} "
        f"{mean_and_sd(row[beside], row[f'{beside}_sd'], 3)}; mask distance {distance}"
    )


def _finding_of(network: str, panel: pd.DataFrame, options: DrawOptions) -> str:
    both = panel.dropna(subset=[options.method, "mask_distance"])
    name = network_title(network)
    if len(both) < 3:
        epochs = counted(len(both), "epoch")
        return f"{name}: only {epochs} with both quantities, too few to say anything."
    first, last = both.iloc[0], both.iloc[-1]
    return (
        f"{name}: from epoch {first['epoch']} to {last['epoch']} the correlation goes from "
        f"{decimal(first[options.method])} to {decimal(last[options.method])} and the mask "
        f"distance from {decimal(first['mask_distance'], 3)} to "
        f"{decimal(last['mask_distance'], 3)}; "
        f"{_joint_movement(both[options.method], both['mask_distance'])}"
    )


def _joint_movement(correlation: pd.Series, distance: pd.Series) -> str:
    """How the two curves move together; the claim is a negative rank correlation."""
    together = float(correlation.corr(distance, method="spearman"))
    over = f"over {len(correlation)} epochs their rank correlation is {decimal(together)}, "
    few = " (few epochs, so a hint at most)" if len(correlation) < FEW_EPOCHS else ""
    if together <= -CLEAR:
        return over + f"as the claim has it{few}."
    if together >= CLEAR:
        return over + f"against the claim{few}."
    return over + "too weak to speak for or against the claim."
