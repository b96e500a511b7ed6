"""Figures 1 and 4-12: accuracy of pruned networks during training, by pruning measure.

One panel per data set (Lubana and Dick, ICLR 2021).
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.console.words import counted
from pruneviz.figures.catalogue import FIGURES, Entry
from pruneviz.figures.chosen_runs import SETTING, chosen_spec, has_recorded_runs
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.settings import GROUP, lines_of
from pruneviz.log.runs import Runs
from pruneviz.plot.accuracy_plot import draw_curves, has_ticks
from pruneviz.plot.curve_table import curves, single_runs
from pruneviz.plot.words import dataset_title, listed, measure_title, network_title, percent

# Columns of the epochs table, and fields of DrawOptions, that the picture depends on.
NEEDS = ("train_acc", "test_acc", "kept_fraction")
OPTIONS: tuple[str, ...] = ()

_KEYS = ["network", "dataset", "rounds", "target", "measure", "augment"]
_ACCURACIES = ["train_acc", "train_acc_sd", "test_acc", "test_acc_sd"]
_VALUES = ["epoch", "seeds", *_ACCURACIES, "kept_fraction", "pruned"]
_LETTERS = "abcdefgh"


def table(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """The numbers of the figure.

    Returns:
        One row per data set, measure and epoch, in panel and legend order:
        network, dataset, rounds, target, measure, augment (whether training images were augmented),
        group (the setting, if runs differ in more than these and their seed), epoch, seeds, mean
        and standard deviation over seeds of the train and test accuracy (fractions; null where not
        recorded), kept_fraction (mean), pruned (whether a round pruned after this epoch), of two or
        three seeds each accuracy (`_run1`, ...), and the least and greatest accuracies of all runs
        of the network on the data set, in any number of rounds (`_least`, `_most`).

    Raises:
        FigureError: If a run has no test accuracy; as for `chosen_spec`.
    """
    spec = chosen_spec(runs.spec, entry, options)
    told = [SETTING] if SETTING in spec else []
    found = curves(runs, spec, "test_acc", by=[*_KEYS, *told])
    group = [GROUP] if told else []
    single = [column for name in ("train_acc", "test_acc") for column in single_runs(found, name)]
    columns = [*_KEYS, *group, *_VALUES, *single]
    found = found.rename(columns={SETTING: GROUP}).reindex(columns=columns)
    ends = _ends_over_rounds(runs, entry, options)
    return found.merge(ends, on=["network", "dataset"], how="left")


def _ends_over_rounds(runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
    """Least and greatest accuracy of the network in any number of rounds, by data set."""
    numbers = {other.need.rounds for other in FIGURES.values() if other.kind == entry.kind}
    specs = []
    for rounds in sorted({*numbers, entry.need.rounds}):
        alike = replace(entry, need=replace(entry.need, rounds=rounds))
        if has_recorded_runs(runs.spec, alike, options):
            specs.append(chosen_spec(runs.spec, alike, options)[["run", "network", "dataset"]])
    spec = pd.concat(specs, ignore_index=True)
    epochs = runs.named(spec["run"]).epochs.astype({"run": "str"})
    rows = epochs.merge(spec, on="run").groupby(["network", "dataset"])
    ends = {
        f"{name}_{end}": (name, how)
        for name in ("train_acc", "test_acc")
        for end, how in (("least", "min"), ("most", "max"))
    }
    return rows.agg(**ends).reset_index()


def draw(table: pd.DataFrame, options: DrawOptions) -> Figure:
    """Draw a table of `table`: test accuracies above, train accuracies below.

    A panel per data set, a colour and dashes per measure. Panels of a network have the same limits
    in any number of rounds.
    """
    return draw_curves(table)


def drawn(table: pd.DataFrame, options: DrawOptions) -> str:
    """Description of the picture, in words."""
    facts = table.iloc[0]
    over = "one seed each"
    if table["seeds"].max() > 1:
        over = (
            "thick lines: mean over seeds; band: plus and minus one standard deviation over seeds, "
            "cut at 0 and 100 %"
        )
    if single_runs(table, "test_acc"):
        over = "thick lines: mean over seeds; thin lines: single seeds"
    return (
        f"Accuracy against epochs trained of {network_title(facts['network'])} on "
        f"{listed(map(dataset_title, _datasets(table)))}, {percent(facts['target'], digits=0)} of "
        f"whose filters are pruned in {counted(int(facts['rounds']), 'round')} by each measure. "
        f"Above: test accuracy; below: training accuracy; {over}. Axes hold the accuracies of all "
        f"recorded numbers of rounds. {_rounds_in_words(table)} {_training_in_words(table)}"
    )


def values(table: pd.DataFrame, options: DrawOptions) -> list[str]:
    """The accuracies at the last epoch, one line per panel and measure."""
    return lines_of(table, _values)


def _values(table: pd.DataFrame) -> list[str]:
    lines = []
    for letter, dataset in zip(_LETTERS, _datasets(table), strict=False):
        last = _last(table[table["dataset"] == dataset])
        epoch = last["epoch"].iloc[0]
        lines.append(f"({letter}) {dataset_title(dataset)}, at epoch {epoch}, {_seeds(last)}:")
        lines += [_value_line(row) for _, row in last.iterrows()]
    return lines


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


def _rounds_in_words(table: pd.DataFrame) -> str:
    epochs = sorted(set(table.loc[table["pruned"], "epoch"]))
    if not epochs:
        return "When the rounds pruned is not recorded."
    if len(epochs) == 1:
        return f"Dotted line: the epoch after which the round pruned ({epochs[0]})."
    ticks = "; ticks at its foot: the rounds" if has_ticks(table) else ""
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
