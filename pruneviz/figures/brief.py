"""The main numbers of a figure of the paper in a few lines, for short captions and alt text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from pruneviz.console.words import counted
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.settings import GROUP, by_setting, sentences_of
from pruneviz.plot.row_kind import row_kind_in
from pruneviz.plot.words import (
    SYMBOLS,
    dataset_title,
    decimal,
    listed,
    mean_and_sd,
    measure_title,
    network_title,
    percent,
)


def brief(kind: str, table: pd.DataFrame, options: DrawOptions) -> str:
    """The main numbers of a figure.

    Args:
        kind: Kind of picture, a key in `BRIEFS`.
        table: The drawn numbers.
        options: Drawing options.
    """
    if kind == "correlation_curve":  # its panels are its settings
        return BRIEFS[kind](table, options)
    return sentences_of(table, lambda rows: BRIEFS[kind](rows, options))


def _scatter(table: pd.DataFrame, options: DrawOptions) -> str:
    chosen, second, *_ = options.methods
    panels, row_kind = table.drop_duplicates("epoch"), row_kind_in(table)
    facts = panels.iloc[0]
    numbers = [
        f"{mean_and_sd(row[chosen], row[f'{chosen}_sd'])} "
        f"({mean_and_sd(row[second], row[f'{second}_sd'])})"
        for _, row in panels.iterrows()
    ]
    if facts["schedule"] == 0:
        each = f"{numbers[0]} at initialisation"
    else:
        at = zip(numbers, panels["epoch"], strict=True)
        each = "; ".join(f"{number} at epoch {epoch}" for number, epoch in at)
        each = f"{each} of {facts['schedule']}"
    rows = counted(int(facts[row_kind.counted]), row_kind.noun)
    return (
        f"{SYMBOLS[chosen]} ({SYMBOLS[second]}) is {each}, over {rows} and "
        f"{counted(int(facts['seeds']), 'seed')}."
    )


def _correlation(table: pd.DataFrame, options: DrawOptions) -> str:
    panels = by_setting(table)
    if GROUP not in table:
        panels = [
            (network_title(str(name)), rows) for name, rows in table.groupby("network", sort=False)
        ]
    each = "; ".join(_of_panel(name, panel, options) for name, panel in panels)
    return f"{SYMBOLS[options.method]} and mask distance: {each}."


def _of_panel(name: str, panel: pd.DataFrame, options: DrawOptions) -> str:
    both = panel.dropna(subset=[options.method, "mask_distance"])
    if len(both) < 3:
        return f"{name} has fewer than three epochs with both"
    first, last = both.iloc[0], both.iloc[-1]
    return (
        f"{name}, epochs {first['epoch']} to {last['epoch']}, "
        f"{decimal(first[options.method])} to {decimal(last[options.method])}, "
        f"{decimal(first['mask_distance'], 3)} to {decimal(last['mask_distance'], 3)}"
    )


def _accuracy(table: pd.DataFrame, options: DrawOptions) -> str:
    sentences = []
    for dataset, panel in table.groupby("dataset", sort=False):
        last = panel.drop_duplicates("measure", keep="last")
        each = listed(
            f"{percent(row['test_acc'], row['test_acc_sd'])} ({measure_title(row['measure'])})"
            for _, row in last.iterrows()
        )
        epoch = last["epoch"].iloc[0]
        title = dataset_title(str(dataset))
        sentences.append(f"{title}: test accuracy at epoch {epoch} {each}.")
    return " ".join(sentences)


def _ratios(table: pd.DataFrame, options: DrawOptions) -> str:
    parts = []
    for rounds in sorted(map(int, set(table["rounds"])), reverse=True):
        panel = table[table["rounds"] == rounds]
        by_measure = panel.drop_duplicates("measure").sort_values("first_third", ascending=False)
        each = ", ".join(
            f"{measure_title(row['measure'])} {decimal(100 * row['first_third'], 0)}"
            for _, row in by_measure.iterrows()
        )
        parts.append(f"In {counted(rounds, 'round')}: {each}.")
    return f"Pruned share of the filters in the first third of the layers, in %. {' '.join(parts)}"


BRIEFS: Mapping[str, Callable[[pd.DataFrame, DrawOptions], str]] = {
    "scatter": _scatter,
    "correlation_curve": _correlation,
    "accuracy_curve": _accuracy,
    "layer_ratios": _ratios,
}
