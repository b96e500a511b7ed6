"""Figures 1 and 4-12: accuracy of pruned networks during training, by pruning measure.

One panel per data set (Lubana and Dick, ICLR 2021).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

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
from pruneviz.figures import style
from pruneviz.figures.catalogue import Entry, network_title
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import dataset_title, listed, measure_title, percent
from pruneviz.log.runs import Runs

NEEDS = ("train_acc", "test_acc", "kept_fraction")  # of the epochs table
OPTIONS: tuple[str, ...] = ()  # the choices of DrawOptions that this picture depends on: none

_KEYS = ["network", "dataset", "rounds", "target", "measure", "augment"]
_DASHED = (0, (3.5, 1.5))
_MARKERS = 5  # on a line
_MOST_TICKS = 64  # epochs up to which every round has a tick


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure: one row per data set, measure and epoch, in the order of the panels and of the legend.

    Columns: network, dataset, rounds, target, measure, augment (whether training images were augmented), epoch, seeds, mean and standard
    deviation over seeds of the train and test accuracy (fractions; null where not recorded), kept_fraction (mean), pruned (whether a
    round pruned after this epoch). Errors: `FigureError` when a run holds no test accuracy; those of `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    epochs = (
        runs.named(spec["run"]).epochs.astype({"run": "str"}).merge(spec[["run", *_KEYS]], on="run")
    )
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
    """The picture of a table that `table` made: a panel per data set, a colour and marker per measure, test solid and train dashed."""
    datasets, measures = _datasets(table), list(dict.fromkeys(table["measure"]))
    rows, columns = (1, len(datasets)) if len(datasets) <= 3 else (math.ceil(len(datasets) / 2), 2)
    width = style.TEXT_WIDTH if columns > 1 else 0.68 * style.TEXT_WIDTH
    with style.paper():
        figure = Figure(figsize=(width, 0.65 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for letter, axes, dataset in zip("abcdefgh", grid.flat, datasets, strict=False):
            panel = table[table["dataset"] == dataset]
            _mark_rounds(axes, panel)
            for place, (measure, curve) in enumerate(panel.groupby("measure", sort=False)):
                _draw_curve(axes, curve, str(measure), place)
            axes.set_title(
                f"({letter}) {dataset_title(dataset)}"
                if len(datasets) > 1
                else dataset_title(dataset)
            )
            _scale(axes, panel)
        for axes in grid[:, 0]:
            axes.set_ylabel("accuracy (%)")
        for axes in grid.flat[len(datasets) :]:
            axes.remove()
        figure.legend(
            handles=_handles(table, measures),
            loc="outside lower center",
            ncols=3,
            handlelength=2.4,
            columnspacing=1.4,
        )
        style.settle(figure)
    return figure


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """What the picture shows, in words."""
    facts, seeds = table.iloc[0], int(table["seeds"].max())
    over = (
        "mean over seeds; band: plus and minus one standard deviation over seeds, cut at 0 and 100 %"
        if seeds > 1
        else "one seed, so no band"
    )
    return (
        f"Accuracy against epochs trained of {network_title(facts['network'])} on {listed(map(dataset_title, _datasets(table)))}, "
        f"{percent(facts['target'], digits=0)} of whose filters are pruned in {counted(int(facts['rounds']), 'round')} by each measure. "
        f"Solid line with markers: test accuracy; dashed line without: training accuracy; {over}. {_rounds_in_words(table)} "
        f"{_training_in_words(table)}"
    )


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The accuracies at the last epoch, one line per panel and measure."""
    lines = []
    for letter, dataset in zip("abcdefgh", _datasets(table), strict=False):
        last = _last(table[table["dataset"] == dataset])
        lines.append(
            f"({letter}) {dataset_title(dataset)}, at epoch {last['epoch'].iloc[0]}, {_seeds(last)}:"
        )
        lines += [_value_line(row) for _, row in last.iterrows()]
    return lines


def _seeds(last: pd.DataFrame) -> str:
    """How many seeds a panel's measures have; where they differ in it, each with its number."""
    if last["seeds"].eq(last["seeds"].iloc[0]).all():
        return counted(int(last["seeds"].iloc[0]), "seed")
    return listed(
        f"{counted(int(row['seeds']), 'seed')} of {measure_title(row['measure'])}"
        for _, row in last.iterrows()
    )


def _value_line(row: pd.Series) -> str:
    test, train = (percent(row[name], row[f"{name}_sd"]) for name in ("test_acc", "train_acc"))
    return f"    {measure_title(row['measure']):<12} test {test}, train {train}, {percent(row['kept_fraction'])} of the filters kept"


def finding(table: pd.DataFrame, options: DrawOptions) -> str:
    """Where the curves end; whether one rises before another is what the convergence numbers tell."""
    return " ".join(
        f"{dataset_title(dataset)}: at the last epoch the test accuracy is {_ends(_last(table[table['dataset'] == dataset]))}."
        for dataset in _datasets(table)
    )


def _check_accuracies(epochs: pd.DataFrame, spec: pd.DataFrame) -> None:
    held = set(epochs.dropna(subset=["test_acc"])["run"])
    bare = [run for run in spec["run"] if run not in held]
    if bare:
        raise FigureError(
            f"no test accuracy is recorded of {listed(bare)}; pass test_acc to after_epoch, or leave these runs out"
        )


def _in_order(means: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order in which `chosen_spec` has data sets and measures."""
    place = {
        name: {value: place for place, value in enumerate(dict.fromkeys(spec[name]))}
        for name in ("dataset", "measure")
    }
    keys = means.assign(**{name: means[name].map(order) for name, order in place.items()})
    return means.loc[keys.sort_values(["dataset", "measure", "epoch"]).index].reset_index(drop=True)


def _with_rounds(means: pd.DataFrame, runs: Runs, spec: pd.DataFrame) -> pd.DataFrame:
    rounds = (
        runs.named(spec["run"]).rounds[["run", "epoch"]].astype({"run": "str"}).drop_duplicates()
    )
    pruned = rounds.merge(spec[["run", "dataset", "measure"]], on="run")[
        ["dataset", "measure", "epoch"]
    ].drop_duplicates()
    return means.merge(
        pruned.assign(pruned=True), on=["dataset", "measure", "epoch"], how="left"
    ).assign(pruned=lambda rows: rows["pruned"].eq(True))


def _mark_rounds(axes: Axes, panel: pd.DataFrame) -> None:
    """A line where one round pruned; where several did a shaded span with, if they fit, a tick for each round at its foot."""
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
    """Whether rounds an epoch apart can be told apart on the axis."""
    return bool(table["epoch"].max() <= _MOST_TICKS)


def _draw_curve(axes: Axes, curve: pd.DataFrame, measure: str, place: int) -> None:
    epoch, colour = curve["epoch"], style.MEASURE_COLOURS[measure]
    for name, line, width, shade in (
        ("train_acc", _DASHED, 0.8, 0.10),
        ("test_acc", "-", 1.2, 0.20),
    ):
        mean, sd = 100 * curve[name], 100 * curve[f"{name}_sd"]
        if sd.notna().any():
            low, high = (
                (mean - sd).clip(lower=0),
                (mean + sd).clip(upper=100),
            )  # there is no accuracy beyond
            axes.fill_between(epoch, low, high, color=colour, alpha=shade, linewidth=0)
        (drawn_line,) = axes.plot(epoch, mean, color=colour, linestyle=line, linewidth=width)
    _set_markers(drawn_line, measure, place, len(epoch))


def _set_markers(line: Line2D, measure: str, place: int, epochs: int) -> None:
    """A few markers, shifted from measure to measure so that they do not hide one another."""
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


def _handles(table: pd.DataFrame, measures: Sequence[str]) -> list[Artist]:
    """Column by column: a measure, and beneath it what a line style or the shading means."""
    looks = {
        name: {"color": style.MEASURE_COLOURS[name], "marker": style.MEASURE_MARKERS[name]}
        for name in measures
    }
    lines = [Line2D([], [], label=measure_title(name), **look) for name, look in looks.items()]  # type: ignore[arg-type]
    beneath = [
        Line2D([], [], color=style.NOTE_COLOUR, label="test"),
        Line2D([], [], color=style.NOTE_COLOUR, linestyle=_DASHED, linewidth=0.8, label="train"),
        _rounds_handle(table),
    ]
    blank = Patch(alpha=0, label=" ")
    return [
        handle
        for column in itertools.zip_longest(lines, beneath, fillvalue=blank)
        for handle in column
    ]


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
    return f"Shaded: from the first to the last of the rounds, after epochs {epochs[0]} to {epochs[-1]}{ticks}."


def _training_in_words(table: pd.DataFrame) -> str:
    images = (
        "augmented images, as they were trained on, "
        if table["augment"].eq(True).any()
        else "the training images "
    )
    return f"Training accuracy is counted on {images}while the epoch goes on, and there is none at epoch 0."


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
