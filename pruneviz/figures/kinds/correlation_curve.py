"""Figures 2, H1b and I1: correlation between two measures and mask distance during training.

One panel per network (Lubana and Dick, ICLR 2021; masks after You et al., 2020). In H1b single
weights take the place of filters.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pruneviz import plot
from pruneviz.console.words import counted
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot.canvas import letters
from pruneviz.plot.correlation_plot import draw_curves
from pruneviz.plot.mask_panels import distance_threshold
from pruneviz.plot.row_kind import check_recorded, row_kind_in, row_kind_of
from pruneviz.plot.words import (
    COEFFICIENT_NAMES,
    dataset_title,
    decimal,
    interval,
    listed,
    mean_and_sd,
    network_title,
)

# Columns of the filters table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("sigma", "sigma_delta", "theta_g", "abs_theta_g")
OPTIONS = ("method", "loss_preservation", "mask_score", "mask_ratio")


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure: those of `pruneviz.plot.correlation` for its runs and measures.

    Returns:
        One row per network and recorded epoch, without the columns of the measures and, where every
        network has one setting, without that of the setting.

    Raises:
        FigureError: If the two measures were never recorded together, or not in the requested form;
            as for `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    row_kind, chosen = row_kind_of(spec), runs.named(spec["run"])
    x, y = row_kind.change, options.loss_preservation_score
    if row_kind.sampled:
        check_recorded(chosen, spec, x, y, [options.method])
    found = plot.correlation.table(
        chosen,
        x,
        y,
        method=options.method,
        mask_score=options.masks_by(str(spec["unit"].iloc[0])),
        mask_ratio=options.mask_ratio,
    )
    places = {network: place for place, network in enumerate(dict.fromkeys(spec["network"]))}
    order = found["network"].map(places).argsort(kind="stable")
    found = found.iloc[order].reset_index(drop=True).drop(columns=["x", "y", "mask_score"])
    if "group" in found and len(found[["network", "group"]].drop_duplicates()) == len(places):
        found = found.drop(columns="group")
    return found.assign(dataset=spec["dataset"].iloc[0])


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: correlations in the upper panels, mask distances in the lower."""
    x, y = row_kind_in(table).change, options.loss_preservation_score
    panels = _panels(table)
    shown = pd.concat([rows.assign(x=x, y=y, group=title) for title, rows in panels])
    if len(panels) == 1:
        shown = shown.drop(columns="group")
    return draw_curves(shown, method=options.method)


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words."""
    networks = listed(network_title(network) for network in dict.fromkeys(table["network"]))
    row_kind = row_kind_in(table)
    band = "the 95 % interval of the one run, by resampling its layers"
    if table["band_low"].isna().all():
        band = "none, since the log holds no interval"
    over = ""
    if table["seeds"].max() > 1:
        band, over = "plus and minus one standard deviation over seeds", ", mean over seeds"
    dataset, rows = dataset_title(table["dataset"].iloc[0]), f"{row_kind.noun}s"
    return (
        f"{networks}, trained on {dataset}. Above, line with points: correlation over all {rows} "
        f"of {row_kind.change} with {options.loss_preservation_score}{over}; band: {band}. Below: "
        f"fraction of {rows} in which the pruning masks of consecutive recorded epochs "
        f"differ{over}; dotted: the same for random masks, {_chance(table['chance'])}. "
        f"{_scale(table)}{row_kind.without_masks}"
    )


def _chance(chance: pd.Series) -> str:
    """The chance level of mask distances, which is not the same at all epochs of pruned runs."""
    low, high = decimal(chance.min()), decimal(chance.max())
    return low if low == high else f"{low} to {high}"


def _scale(table: pd.DataFrame) -> str:
    threshold = distance_threshold(table)
    if threshold is None:
        return "Its axis begins at zero."
    return f"Its axis is linear from zero to {threshold:.0e} and logarithmic beyond."


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The computed numbers, one line per panel and epoch with a correlation."""
    chosen, beside, *_ = options.methods
    lines, row_kind = [], row_kind_in(table)
    panels = _panels(table)
    for letter, (title, panel) in zip(letters(len(panels)), panels, strict=True):
        measured = panel.dropna(subset=[chosen])
        rows = counted(int(measured[row_kind.counted].min()), row_kind.noun)
        seeds = counted(int(measured["seeds"].max()), "seed")
        lines.append(f"{letter}{title}, {rows}, {seeds}:")
        lines += [_value_line(row, chosen, beside) for _, row in measured.iterrows()]
    return lines


def _panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each panel under its title: the network, or the setting if it has several."""
    if "group" in table:
        return [(str(group), rows) for group, rows in table.groupby("group", sort=False)]
    by_network = table.groupby("network", sort=False)
    return [(network_title(str(network)), rows) for network, rows in by_network]


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
