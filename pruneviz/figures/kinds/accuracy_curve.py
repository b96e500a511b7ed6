"""Figures 1 and 4-12: accuracy of pruned networks during training, by pruning measure.

One panel per data set (Lubana and Dick, ICLR 2021).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pruneviz.console.words import counted
from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.words import dataset_title, listed, measure_title, network_title, percent

# Columns of the epochs table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("train_acc", "test_acc", "kept_fraction")
OPTIONS: tuple[str, ...] = ()

_KEYS = ["network", "dataset", "rounds", "target", "measure", "augment"]
_DASHED = (0, (3.5, 1.5))
_LETTERS = "abcdefgh"
_MARKERS = 5  # per line
_MOST_TICKS = 64  # epochs; up to here every round has a tick


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure.

    Returns:
        One row per data set, measure and epoch, in panel and legend order:
        network, dataset, rounds, target, measure, augment (whether training images were augmented),
        epoch, seeds, mean and standard deviation over seeds of the train and test accuracy
        (fractions; null where not recorded), kept_fraction (mean), pruned (whether a round pruned
        after this epoch).

    Raises:
        FigureError: If a run has no test accuracy; as for `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    epochs = runs.named(spec["run"]).epochs.astype({"run": "str"})
    epochs = epochs.merge(spec[["run", *_KEYS]], on="run")
    _check_accuracies(epochs, spec)
    groups = epochs.groupby([*_KEYS, "epoch"], sort=False, dropna=False)
    means = groups.agg(
        seeds=("run", "nunique"),
        train_acc=("train_acc", "mean"),
        train_acc_sd=("train_acc", "std"),
        test_acc=("test_acc", "mean"),
        test_acc_sd=("test_acc", "std"),
        kept_fraction=("kept_fraction", "mean"),
    ).reset_index()
    return _with_rounds(_in_order(means, spec), runs, spec)


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: a panel per data set, a colour and marker per measure.

    Test accuracy is solid, train accuracy dashed.
    """
    datasets = _datasets(table)
    rows, columns = (1, len(datasets)) if len(datasets) <= 3 else (math.ceil(len(datasets) / 2), 2)
    width = style.TEXT_WIDTH if columns > 1 else 0.68 * style.TEXT_WIDTH
    with style.paper():
        figure = Figure(figsize=(width, 0.65 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for letter, axes, dataset in zip(_LETTERS, grid.flat, datasets, strict=False):
            title = dataset_title(dataset)
            axes.set_title(f"({letter}) {title}" if len(datasets) > 1 else title)
            _draw_panel(axes, table[table["dataset"] == dataset])
        for axes in grid[:, 0]:
            axes.set_ylabel("accuracy (%)")
        for axes in grid.flat[len(datasets) :]:
            axes.remove()
        figure.legend(
            handles=_handles(table),
            loc="outside lower center",
            ncols=3,
            handlelength=2.4,
            columnspacing=1.4,
        )
        style.settle(figure)
    return figure


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words."""
    facts = table.iloc[0]
    over = "one seed, so no band"
    if table["seeds"].max() > 1:
        over = (
            "mean over seeds; band: plus and minus one standard deviation over seeds, cut at 0 and "
            "100 %"
        )
    return (
        f"Accuracy against epochs trained of {network_title(facts['network'])} on "
        f"{listed(map(dataset_title, _datasets(table)))}, {percent(facts['target'], digits=0)} of "
        f"whose filters are pruned in {counted(int(facts['rounds']), 'round')} by each measure. "
        "Solid line with markers: test accuracy; dashed line without: training accuracy; "
        f"{over}. {_rounds_in_words(table)} {_training_in_words(table)}"
    )


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The accuracies at the last epoch, one line per panel and measure."""
    lines = []
    for letter, dataset in zip(_LETTERS, _datasets(table), strict=False):
        last = _last(table[table["dataset"] == dataset])
        epoch = last["epoch"].iloc[0]
        lines.append(f"({letter}) {dataset_title(dataset)}, at epoch {epoch}, {_seeds(last)}:")
        lines += [_value_line(row) for _, row in last.iterrows()]
    return lines


def finding(table: pd.DataFrame, options: DrawOptions) -> str:
    """Where the curves end; the convergence numbers show how fast they rise."""
    sentences = []
    for dataset in _datasets(table):
        ends = _ends(_last(table[table["dataset"] == dataset]))
        sentences.append(
            f"{dataset_title(dataset)}: at the last epoch the test accuracy is {ends}."
        )
    return " ".join(sentences)


def _seeds(last: pd.DataFrame) -> str:
    """The number of seeds in a panel; by measure where measures differ in it."""
    if last["seeds"].eq(last["seeds"].iloc[0]).all():
        return counted(int(last["seeds"].iloc[0]), "seed")
    return listed(
        f"{counted(int(row['seeds']), 'seed')} of {measure_title(row['measure'])}"
        for _, row in last.iterrows()
    )


def _value_line(row: pd.Series) -> str:
    test, train = (percent(row[name], row[f"{name}_sd"]) for name in ("test_acc", "train_acc"))
    return (
        f"    {measure_title(row['measure']):<12} test {test}, train {train}, "
        f"{percent(row['kept_fraction'])} of the filters kept"
    )


def _check_accuracies(epochs: pd.DataFrame, spec: pd.DataFrame) -> None:
    held = set(epochs.dropna(subset=["test_acc"])["run"])
    bare = [run for run in spec["run"] if run not in held]
    if bare:
        raise FigureError(
            f"no test accuracy is recorded of {listed(bare)}; pass test_acc to after_epoch, or "
            "leave these runs out"
        )


def _in_order(means: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order that `chosen_spec` gives data sets and measures."""
    places = {}
    for name in ("dataset", "measure"):
        order = list(dict.fromkeys(spec[name]))
        places[name] = means[name].map({value: place for place, value in enumerate(order)})
    keys = means.assign(**places).sort_values(["dataset", "measure", "epoch"])
    return means.loc[keys.index].reset_index(drop=True)


def _with_rounds(means: pd.DataFrame, runs: Runs, spec: pd.DataFrame) -> pd.DataFrame:
    """Add `pruned`: whether a round pruned after the epoch."""
    keys = ["dataset", "measure", "epoch"]
    rounds = runs.named(spec["run"]).rounds[["run", "epoch"]].astype({"run": "str"})
    rounds = rounds.drop_duplicates().merge(spec[["run", "dataset", "measure"]], on="run")
    pruned = rounds[keys].drop_duplicates().assign(pruned=True)
    found = means.merge(pruned, on=keys, how="left")
    return found.assign(pruned=found["pruned"].eq(True))


def _draw_panel(axes: Axes, panel: pd.DataFrame) -> None:
    _mark_rounds(axes, panel)
    for place, (measure, curve) in enumerate(panel.groupby("measure", sort=False)):
        _draw_curve(axes, curve, str(measure), place)
    _scale(axes, panel)


def _mark_rounds(axes: Axes, panel: pd.DataFrame) -> None:
    """Draw a line for one round, or a shaded span for several, with a tick each if they fit."""
    epochs = sorted(set(panel.loc[panel["pruned"], "epoch"]))
    if len(epochs) == 1:
        axes.axvline(epochs[0], color=style.GUIDE_COLOUR, linewidth=0.9, linestyle=":", zorder=0)
    elif epochs:
        axes.axvspan(
            epochs[0], epochs[-1], color=style.GUIDE_COLOUR, alpha=0.18, linewidth=0, zorder=0
        )
    if len(epochs) > 1 and _has_ticks(panel):
        axes.vlines(
            epochs,
            0,
            0.03,
            transform=axes.get_xaxis_transform(),
            color=style.GUIDE_COLOUR,
            linewidth=0.7,
            zorder=0.5,
        )


def _has_ticks(table: pd.DataFrame) -> bool:
    """Whether ticks one epoch apart are distinguishable."""
    return bool(table["epoch"].max() <= _MOST_TICKS)


def _draw_curve(axes: Axes, curve: pd.DataFrame, measure: str, place: int) -> None:
    epoch, colour = curve["epoch"], style.MEASURE_COLOURS[measure]
    for name, line, width, shade in (
        ("train_acc", _DASHED, 0.8, 0.10),
        ("test_acc", "-", 1.2, 0.20),
    ):
        mean, sd = 100 * curve[name], 100 * curve[f"{name}_sd"]
        if sd.notna().any():
            low, high = (mean - sd).clip(lower=0), (mean + sd).clip(upper=100)
            axes.fill_between(epoch, low, high, color=colour, alpha=shade, linewidth=0)
        (drawn_line,) = axes.plot(epoch, mean, color=colour, linestyle=line, linewidth=width)
    _set_markers(drawn_line, measure, place, len(epoch))


def _set_markers(line: Line2D, measure: str, place: int, epochs: int) -> None:
    """Give a line a few markers, shifted by measure so that they do not hide one another."""
    step = max(1, epochs // _MARKERS)
    line.set(marker=style.MEASURE_MARKERS[measure], markevery=(place * step // 3, step))


def _scale(axes: Axes, panel: pd.DataFrame) -> None:
    last = panel["epoch"].max()
    axes.set_xlabel("epochs trained")
    axes.set_xlim(np.array([-0.03, 1.03]) * last)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=style.GUIDE_COLOUR, linewidth=0.3, alpha=0.6)
    axes.set_axisbelow(True)


def _handles(table: pd.DataFrame) -> list[Artist]:
    """Legend entries, column by column: a measure, and below it what a line style means."""
    lines: list[Artist] = [
        Line2D(
            [],
            [],
            color=style.MEASURE_COLOURS[name],
            marker=style.MEASURE_MARKERS[name],
            label=measure_title(name),
        )
        for name in dict.fromkeys(table["measure"])
    ]
    below: list[Artist] = [
        Line2D([], [], color=style.NOTE_COLOUR, label="test"),
        Line2D([], [], color=style.NOTE_COLOUR, linestyle=_DASHED, linewidth=0.8, label="train"),
        _rounds_handle(table),
    ]
    blank = Patch(alpha=0, label=" ")
    columns = itertools.zip_longest(lines, below, fillvalue=blank)
    return [handle for column in columns for handle in column]


def _rounds_handle(table: pd.DataFrame) -> Artist:
    rounds = int(table["rounds"].iloc[0])
    if rounds == 1:
        return Line2D(
            [], [], color=style.GUIDE_COLOUR, linewidth=0.9, linestyle=":", label="pruning round"
        )
    return Patch(color=style.GUIDE_COLOUR, alpha=0.3, linewidth=0, label=f"{rounds} pruning rounds")


def _rounds_in_words(table: pd.DataFrame) -> str:
    epochs = sorted(set(table.loc[table["pruned"], "epoch"]))
    if not epochs:
        return "When the rounds pruned is not recorded."
    if len(epochs) == 1:
        return f"Dotted line: the epoch after which the round pruned ({epochs[0]})."
    ticks = "; ticks at its foot: the rounds" if _has_ticks(table) else ""
    return (
        f"Shaded: from the first to the last of the rounds, after epochs {epochs[0]} to "
        f"{epochs[-1]}{ticks}."
    )


def _training_in_words(table: pd.DataFrame) -> str:
    images = "the training images "
    if table["augment"].eq(True).any():
        images = "augmented images, as they were trained on, "
    return (
        f"Training accuracy is counted on {images}while the epoch goes on, and there is none at "
        "epoch 0."
    )


def _datasets(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["dataset"]))


def _last(panel: pd.DataFrame) -> pd.DataFrame:
    """The row of each measure's last epoch."""
    return panel.drop_duplicates("measure", keep="last")


def _ends(last: pd.DataFrame) -> str:
    best_first = last.sort_values("test_acc", ascending=False, kind="stable")
    return listed(
        f"{percent(row['test_acc'], row['test_acc_sd'])} ({measure_title(row['measure'])})"
        for _, row in best_first.iterrows()
    )
