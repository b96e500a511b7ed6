"""Figures 16 and 17: pruned fraction of every layer after pruning in rounds, by measure.

One panel per number of rounds (Lubana and Dick, ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.analysis.pruned_fractions import AVERAGED_WITHIN, after_last_round
from pruneviz.console.words import counted
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import SETTING, chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.settings import GROUP, lines_of
from pruneviz.log.runs import Runs
from pruneviz.plot.layer_names import short_names
from pruneviz.plot.layer_ratio_plot import draw_layers, layers_of
from pruneviz.plot.layer_table import shares_of
from pruneviz.plot.words import (
    dataset_title,
    listed,
    mean_and_sd,
    measure_title,
    network_title,
    percent,
)

# Columns of the rounds table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("layer", "layer_index", "filters", "kept", "coupled_to")
OPTIONS: tuple[str, ...] = ()
_LETTERS = "abcdefgh"


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure.

    Returns:
        One row per number of rounds, measure and layer, coupled layers included, with the columns
        of `pruneviz.analysis.pruned_fractions.pruned_fractions`.

    Raises:
        FigureError: As for `chosen_spec`.
        AnalysisError: As for `pruned_fractions`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    states = after_last_round(runs.named(spec["run"]).rounds, spec)
    told = [SETTING] if SETTING in spec else []
    shares = shares_of(states, spec, by=[*AVERAGED_WITHIN, *told])
    shares = shares.rename(columns={SETTING: GROUP})
    shares = shares.assign(place=shares["measure"].map(entry.need.measures.index))
    in_order = shares.sort_values(["rounds", "place", "layer_index"], ignore_index=True)
    return in_order.drop(columns="place")


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: a panel per number of rounds, a bar per layer and measure.

    Layers that are coupled to an earlier one are left out.
    """
    return draw_layers(table, one_of_several=True)


def _by_rounds(table: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    numbers = sorted(map(int, set(table["rounds"])))
    return [(rounds, table[table["rounds"] == rounds]) for rounds in numbers]


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words."""
    facts = table.iloc[0]
    rounds = listed(sorted(set(table["rounds"])))
    spread = ""
    if table["seeds"].max() > 1:
        spread = ", mean over seeds; error bars: standard deviation over seeds"
    text = (
        f"Bars: share of the filters of a layer of {network_title(facts['network'])}, trained on "
        f"{dataset_title(facts['dataset'])}, that are gone after pruning "
        f"{percent(facts['target'], digits=0)} of all filters in {rounds} rounds of an epoch "
        f"each, by pruning measure{spread}. A stroke on the axis: 0 % of the layer; a measure that "
        "is not recorded has none, and is named above the panel. Dashed line: the target for the "
        "whole network. Layers stand in the order in which the network applies them, under names "
        "cut to what tells them apart."
    )
    return text + _left_out(table)


def _left_out(table: pd.DataFrame) -> str:
    coupled = table[table["coupled_to"].notna()].drop_duplicates("layer")
    if coupled.empty:
        return ""
    return (
        " Only layers that decide for themselves are drawn and counted: "
        f"{counted(len(coupled), 'further layer')} (such as {coupled['layer'].iloc[0]}) are "
        "coupled to an earlier layer each and lose exactly the filters that it loses; the table of "
        "the figure holds them too."
    )


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The computed numbers, one line per panel and measure, after a definition of the parts."""
    return lines_of(table, _values)


def _values(table: pd.DataFrame) -> list[str]:
    deciding = table[table["coupled_to"].isna()]
    layers = layers_of(deciding)
    names = dict(zip(layers, short_names(layers), strict=True))
    half, third = len(names) // 2, len(names) // 3
    lines = [
        f"first third: all filters of the first {third} of {counted(len(names), 'layer')}; first "
        f"and second half: of the first and of the last {half}"
    ]
    for letter, (rounds, panel) in zip(_LETTERS, _by_rounds(deciding), strict=False):
        seeds = counted(int(panel["seeds"].max()), "seed")
        lines.append(
            f"({letter}) {counted(rounds, 'round')}, {seeds}, share pruned of all filters:"
        )
        for measure, rows in panel.groupby("measure", sort=False):
            lines.append(_value_line(str(measure), rows, names))
    return lines


def _value_line(measure: str, rows: pd.DataFrame, names: Mapping[str, str]) -> str:
    facts, most = rows.iloc[0], rows.iloc[int(rows["ratio"].argmax())]
    whole, third, first, second = (
        _percent(facts[name], facts[f"{name}_sd"])
        for name in ("network_ratio", "first_third", "first_half", "second_half")
    )
    return (
        f"    {measure_title(measure)}: {whole} (first third {third}; first half {first}, second "
        f"half {second}); "
        f"most in {names[most['layer']]}, {_percent(most['ratio'], most['ratio_sd'])}"
    )


def _percent(mean: float, sd: float) -> str:
    return f"{mean_and_sd(100 * mean, 100 * sd, 1)}%"
