"""What a picture of any recordings shows, in words: only what its numbers say is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from pruneviz.analysis.settings import different
from pruneviz.console.shown_text import short
from pruneviz.plot.accuracy_plot import epoch_columns
from pruneviz.plot.correlation_plot import MOST_BANDS_OF_LINES
from pruneviz.plot.correlation_table import RANDOM
from pruneviz.plot.curve_table import MOST_SINGLE, single_runs
from pruneviz.plot.looks import references
from pruneviz.plot.points import clear_points, clear_words
from pruneviz.plot.trajectory_plot import MOST_BANDS
from pruneviz.plot.words import listed, percent

Arguments = Mapping[str, Any]

_OVER_SEEDS = ", mean over runs that differ only in their seed"
_LOWEST = " of the run with the lowest seed"
_SD, _INTERVAL = "one standard deviation", "the 95 % interval of a single run"


def drawn_words(kind: str, table: pd.DataFrame, arguments: Arguments, noun: str) -> str:
    """What is drawn: axes, lines and colours, as far as the table has them.

    Args:
        kind: Name in `pruneviz.figures.plot_kinds.KINDS`.
        table: The drawn numbers.
        arguments: Arguments of the plot function.
        noun: What the rows of the recordings are, such as "filter".
    """
    return " ".join(DRAWN[kind](table, arguments, noun))


def in_words(named: Any) -> str:
    """A quantity, or several, as an argument names them; nothing for none."""
    if named is None:
        return ""
    return short(named) if isinstance(named, str) else listed(map(short, named))


def _several(table: pd.DataFrame) -> bool:
    return "seeds" in table and bool(table["seeds"].max() > 1)


def _over_seeds(table: pd.DataFrame) -> str:
    return _OVER_SEEDS if _several(table) else ""


def _holds(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool(table[column].notna().any())


def _scatter(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    x, y = in_words(arguments["x"]), in_words(arguments["y"])
    hue = short(arguments.get("hue", "depth"))
    seed = arguments.get("seed")
    of_run = _LOWEST if seed is None else f" of the run with seed {seed}"
    yield (
        f"One point is one {noun}{of_run if _several(table) else ''}; x is {x}, "
        f"y is {y}, colour is {hue}."
    )
    if _several(table):
        yield (
            "Above a panel: the correlation of that run, and the mean over the runs that differ "
            "only in their seed, with its standard deviation."
        )
    if clear_points(table, x, y).notna().any():
        where = clear_words(table, x, y)
        yield f"Hollow points are not clear of the noise of the sample{where}."
    if arguments.get("inset"):
        yield "On linear axes, in colour: the points that decide Pearson's coefficient."


def _correlation(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    masks = _holds(table, "mask_distance")
    method = arguments.get("method", "pearson")
    yield (
        f"{'Above' if masks else 'Lines'}: {method} correlation with "
        f"{in_words(arguments['y'])} over all {noun}s{_over_seeds(table)}."
    )
    lines = table[arguments.get("by") or "x"].nunique()
    seeds = table["seeds"].dropna()
    bands = [_SD] * bool((seeds > 1).any()) + [_INTERVAL] * bool((seeds == 1).any())
    if bands and lines <= MOST_BANDS_OF_LINES:
        yield f"Band: {' or '.join(bands)}."
    if _holds(table, "unrelated"):
        control = "; dotted: a random ranking" if RANDOM in set(table["x"]) else ""
        yield f"Grey range: 95 % of the correlations of unrelated values{control}."
    if masks:
        by = f" by {listed(different(table['mask_score']))}" if "mask_score" in table else ""
        yield (
            f"Below: fraction in which the pruning masks{by} of consecutive epochs differ; dotted: "
            "the same for random masks."
        )


def _layers(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    what = in_words(arguments.get("y")) or "pruned share"
    aggregate = arguments.get("aggregate", "mean") if arguments.get("y") else ""
    value = f"{aggregate} of {what}" if aggregate else what
    yield (
        f"Height: {value} in every layer, in the order in which the network applies them"
        f"{_over_seeds(table)}."
    )
    value_column = next(name for name in map(str, table) if f"{name}_sd" in table)
    if _holds(table, f"{value_column}_sd"):
        yield f"Thin lines on bars: {_SD}."
    if references(table).any():
        yield "A grey line is the value of the unpruned run."


def _accuracy(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    main, *beside = map(short, epoch_columns(table))
    also = f" (solid) and {listed(beside)}" if beside else ""
    also = f" (above) and {beside[0]} (below)" if len(beside) == 1 else also
    yield f"Lines: {main}{also}{_over_seeds(table)}."
    if single_runs(table, epoch_columns(table)[0]):
        yield "Thin lines: single runs."
    if (table["seeds"] > MOST_SINGLE).any():
        yield f"Band: {_SD}."
    rounds = table[table["pruned"]]
    counts = set(rounds["rounds"]) if "rounds" in rounds else {rounds["epoch"].nunique()}
    if len(rounds) and 1 in counts:
        yield "Dotted upright line: the epoch in which a round pruned."
    if len(rounds) and counts != {1}:
        yield "Shaded: the epochs in which rounds pruned."
    if references(table).any():
        yield "A grey line is the unpruned run."


def _heatmap(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    against = arguments.get("against")
    over = arguments.get("over") or ("measure" if against is None else "epoch")
    pair = "two measures" if against is None else f"a measure with {against}"
    rows = f"the {noun}s{' of a layer' if over == 'layer' else ''}"
    yield (
        f"Colour: {table['method'].iloc[0]} correlation of {pair} over {rows}, from dark blue (-1) "
        f"over white (0) to dark orange (1){_over_seeds(table)}; a column for each {over}."
    )
    if table["r"].isna().any():
        yield "Dotted cells have no value."


def _trajectory(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    y, pruned = in_words(arguments["y"]), bool(table["pruned"].any())
    if "filter" in table:
        yield f"Lines: {y} of chosen {noun}s{_LOWEST if _several(table) else ''}, by epoch."
        if pruned:
            yield f"A cross ends the line of a {noun} that is pruned."
        return
    panels = len(table[["group", "layer"]].drop_duplicates())
    few = panels <= MOST_BANDS
    bands = ", in bands of 25 to 75 and 5 to 95 %" if few else ", coloured by depth"
    yield f"Lines: median of {y} over the {noun}s of a layer{bands}, by epoch."
    if pruned and few:
        yield f"Ticks at the foot: epochs after which a layer has fewer {noun}s."


def _masks(table: pd.DataFrame, arguments: Arguments, noun: str) -> Iterable[str]:
    white = ", white where it has no ranking" if table["kept"].isna().any() else ""
    of_run = _LOWEST if _several(table) else ""
    yield (
        f"A row is a {noun}{of_run}, a column an epoch: dark where it is kept, pale where it is "
        f"pruned{white}."
    )
    for score, ratio in (
        table[["score", "ratio"]].dropna().drop_duplicates().itertuples(index=False)
    ):
        yield f"Masks prune {percent(ratio, digits=0)} by {score}."


DRAWN: Mapping[str, Callable[[pd.DataFrame, Arguments, str], Iterable[str]]] = {
    "scatter": _scatter,
    "correlation": _correlation,
    "layers": _layers,
    "accuracy": _accuracy,
    "heatmap": _heatmap,
    "trajectory": _trajectory,
    "masks": _masks,
}
