"""Figures 16 and 17: pruned fraction of every layer after pruning in rounds, by measure.

One panel per number of rounds (Lubana and Dick, ICLR 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruneviz.analysis.pruned_fractions import pruned_fractions
from pruneviz.console.words import counted
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.words import decimal, listed, mean_and_sd, measure_title, network_title, percent

# Columns of the rounds table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("layer", "layer_index", "filters", "kept", "coupled_to")
OPTIONS: tuple[str, ...] = ()
# Least lead in front-loading at which a measure prunes earlier layers "far more"; the paper gives
# no number.
FAR = 0.2
SLIGHTLY = 5  # rounds (one epoch each) from which the paper calls a network slightly trained
ACCUSED = "grasp"  # the measure that the claim is about

_GROUP = 0.84  # width of the bars of a layer, as a fraction of its room
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
    ratios = pruned_fractions(runs.named(spec["run"]).rounds, spec)
    ratios = ratios.assign(place=ratios["measure"].map(entry.need.measures.index))
    in_order = ratios.sort_values(["rounds", "place", "layer_index"], ignore_index=True)
    return in_order.drop(columns="place")


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: a panel per number of rounds, a bar per layer and measure.

    Layers that are coupled to an earlier one are left out.
    """
    shown = table[table["coupled_to"].isna()]
    panels = _by_rounds(shown)
    measures = list(dict.fromkeys(shown["measure"]))
    with style.paper():
        figure = Figure(figsize=(style.TEXT_WIDTH, 1.1 + 1.35 * len(panels)), layout="constrained")
        column = figure.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for letter, axes, (rounds, panel) in zip(_LETTERS, column, panels, strict=False):
            _draw_bars(axes, panel, measures)
            axes.set_title(f"({letter}) {counted(rounds, 'round')}")
        _name_layers(column[-1], _layers(shown))
        figure.supylabel("pruned filters of the layer (%)", fontsize=8)
        _draw_legend(figure, column[0])
        style.settle(figure)
    return figure


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten layer names to their distinguishing part.

    Leading parts that all names share are cut, and everything after the first unique part:
    `features.conv1` and `features.block1.pointwise` become `conv1` and `block1`.
    """
    parts = [name.split(".") for name in names]
    shared = _shared(parts)
    return [".".join(name[shared : _telling(name, parts, shared)]) for name in parts]


def _shared(parts: Sequence[list[str]]) -> int:
    """Number of leading parts that all names share; at least one part of each name is left."""
    for place, found in enumerate(zip(*parts, strict=False)):
        if len(set(found)) > 1:
            return place
    return min(map(len, parts)) - 1


def _telling(name: list[str], all_parts: Sequence[list[str]], shared: int) -> int:
    """Number of leading parts that make a name unique; all parts if none do."""
    for length in range(shared + 1, len(name)):
        if sum(other[:length] == name[:length] for other in all_parts) == 1:
            return length
    return len(name)


def _by_rounds(table: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    numbers = sorted(map(int, set(table["rounds"])))
    return [(rounds, table[table["rounds"] == rounds]) for rounds in numbers]


def _layers(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table.sort_values("layer_index")["layer"]))


def _draw_bars(axes: Axes, panel: pd.DataFrame, measures: Sequence[str]) -> None:
    layers = _layers(panel)
    width = _GROUP / len(measures)
    for place, measure in enumerate(measures):
        rows = panel[panel["measure"] == measure]
        offset = (place - (len(measures) - 1) / 2) * width
        x = np.array([layers.index(layer) for layer in rows["layer"]]) + offset
        axes.bar(
            x,
            100 * rows["ratio"],
            width,
            label=measure_title(measure),
            color=style.MEASURE_COLOURS[measure],
            hatch=style.MEASURE_HATCHES[measure],
            edgecolor="white",
            linewidth=0.2,
        )
        _draw_spread(axes, x, rows)
    _draw_guides(axes, len(layers), float(panel["target"].iloc[0]))


def _draw_spread(axes: Axes, x: np.ndarray, rows: pd.DataFrame) -> None:
    if rows["ratio_sd"].notna().any():
        axes.errorbar(
            x,
            100 * rows["ratio"],
            100 * rows["ratio_sd"],
            fmt="none",
            ecolor=style.NOTE_COLOUR,
            elinewidth=0.6,
        )


def _draw_guides(axes: Axes, layers: int, target: float) -> None:
    """Draw the target of the whole network, and stripes that separate layers."""
    for place in range(1, layers, 2):
        axes.axvspan(
            place - 0.5, place + 0.5, color=style.GUIDE_COLOUR, alpha=0.15, linewidth=0, zorder=0
        )
    axes.axhline(
        100 * target,
        color=style.NOTE_COLOUR,
        linestyle=(0, (4, 1.5)),
        linewidth=0.8,
        label=f"target, {percent(target, digits=0)} of all",
    )
    axes.set(xlim=(-0.5, layers - 0.5), ylim=(0, 100), yticks=range(0, 101, 25))


def _name_layers(axes: Axes, layers: Sequence[str]) -> None:
    """Name the layers under the lowest panel: upright, or only some if there are many."""
    axes.set_xticks(range(len(layers)), short_names(layers))
    axes.set_xlabel("layer, from input to output")
    room = axes.get_window_extent().width / len(layers)
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    if max(box.width for box in boxes) > 0.9 * room:
        step = math.ceil(1.1 * max(box.height for box in boxes) / room)
        axes.set_xticks(range(0, len(layers), step), short_names(layers)[::step], rotation=90)


def _draw_legend(figure: Figure, axes: Axes) -> None:
    target, *bars = axes.get_legend_handles_labels()[0]  # lines come before bars
    figure.legend(
        handles=[*bars, target],
        loc="outside lower center",
        ncols=4,
        handlelength=1.6,
        columnspacing=1.2,
    )


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
    deciding = table[table["coupled_to"].isna()]
    layers = _layers(deciding)
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
