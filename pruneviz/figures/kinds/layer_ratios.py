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
from pruneviz.figures.settings import GROUP, lines_of, sentences_of
from pruneviz.log.runs import Runs
from pruneviz.plot.layer_names import short_names
from pruneviz.plot.layer_ratio_plot import draw_layers, layers_of
from pruneviz.plot.layer_table import shares_of
from pruneviz.plot.words import decimal, listed, mean_and_sd, measure_title, network_title, percent

# Columns of the rounds table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("layer", "layer_index", "filters", "kept", "coupled_to")
OPTIONS: tuple[str, ...] = ()
# Least lead in front-loading at which a measure prunes earlier layers "far more"; the paper gives
# no number.
FAR = 0.2
SLIGHTLY = 5  # rounds (one epoch each) from which the paper calls a network slightly trained
ACCUSED = "grasp"  # the measure that the claim is about

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
        f"{facts['dataset']}, that are gone after pruning {percent(facts['target'], digits=0)} of "
        f"all filters in {rounds} rounds of an epoch each, by pruning measure{spread}. Layers "
        "stand in the order in which the network applies them, under names cut to what tells them "
        "apart. Dashed line: the target for the whole network."
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
    """The computed numbers, one line per panel and measure, after a definition of the halves."""
    return lines_of(table, _values)


def _values(table: pd.DataFrame) -> list[str]:
    deciding = table[table["coupled_to"].isna()]
    layers = layers_of(deciding)
    names = dict(zip(layers, short_names(layers), strict=True))
    half = len(names) // 2
    lines = [
        f"first and second half: all filters of the {half} earlier and of the {half} later of "
        f"{counted(len(names), 'layer')}"
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
    whole, first, second = (
        _percent(facts[name], facts[f"{name}_sd"])
        for name in ("network_ratio", "first_half", "second_half")
    )
    return (
        f"    {measure_title(measure)}: {whole} (first half {first}, second half {second}); "
        f"most in {names[most['layer']]}, {_percent(most['ratio'], most['ratio_sd'])}"
    )


def finding(table: pd.DataFrame, options: DrawOptions) -> str:
    """What these recordings say about the paper's claim, with the meaning of "far more"."""
    return sentences_of(table, _finding)


def _finding(table: pd.DataFrame) -> str:
    trained = table[table["rounds"] >= SLIGHTLY]
    if trained.empty:
        return f"The claim is about {SLIGHTLY} rounds and more, which are not recorded."
    definition = (
        "Front-loading is the pruned share of the first half of the layers less that of the "
        "second. The paper names no measure of far more aggressively; here it is a lead in "
        f"front-loading of at least {100 * FAR:.0f} percentage points over every other measure."
    )
    sentences = [_finding_of(rounds, panel) for rounds, panel in _by_rounds(trained)]
    return " ".join([definition, *sentences])


def _finding_of(rounds: int, panel: pd.DataFrame) -> str:
    by_measure = panel.drop_duplicates("measure").set_index("measure")
    loads = by_measure["front_loading"].sort_values(ascending=False)
    others = loads.drop(ACCUSED, errors="ignore")
    when = f"After {counted(rounds, 'round')}"
    if ACCUSED not in loads or others.empty:
        return f"{when} {measure_title(ACCUSED)}, or what to compare it with, is not recorded."
    own, next_load = float(loads[ACCUSED]), float(others.iloc[0])
    reserve = " (one seed, so a hint at most)" if panel["seeds"].min() == 1 else ""
    return (
        f"{when} {measure_title(ACCUSED)} has {_points(own)} and, highest of the others, "
        f"{measure_title(others.index[0])} {_points(next_load)}; "
        f"{_verdict(own - next_load)}{reserve}."
    )


def _verdict(lead: float) -> str:
    if lead >= FAR:
        return "as the claim has it"
    return "more than every other, but not far more" if lead > 0 else "against the claim"


def _percent(mean: float, sd: float) -> str:
    return f"{mean_and_sd(100 * mean, 100 * sd, 1)}%"


def _points(share: float) -> str:
    return f"{decimal(100 * share, 1)} points"
