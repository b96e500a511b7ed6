"""Figures 1 and 4-12 against plain pandas; the picture by structure; what the caption says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.kinds import accuracy_curve
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from pruneviz.plot import style
from pruneviz.plot.words import percent
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_pruned_runs

DEFAULT = DrawOptions()
TITLES = ["(a) VGG-13, CIFAR-10", "(b) VGG-13, CIFAR-100"]
LABELS = ["test accuracy (%)", "train accuracy (%)"]
VGG = {"vgg13": SMALL["vgg13"]}


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_pruned_runs(VGG, rounds=(1, 5, 25), datasets=("cifar100", "cifar10"), epochs=32)


def table_of(runs: Runs, name: str = "5", options: DrawOptions = DEFAULT) -> pd.DataFrame:
    return accuracy_curve.table(runs, FIGURES[name], options)


def figure_of(runs: Runs, name: str = "5") -> tuple[pd.DataFrame, Figure]:
    table = table_of(runs, name)
    return table, accuracy_curve.draw(table, DEFAULT)


# The numbers


def test_the_table_is_in_the_order_of_the_panels_and_the_legend(runs: Runs) -> None:
    table = table_of(runs)
    assert list(dict.fromkeys(table["dataset"])) == ["cifar10", "cifar100"]
    assert list(dict.fromkeys(table["measure"])) == list(CURVE_MEASURES)
    assert len(table) == 2 * 3 * 33


def test_numbers_against_plain_pandas(runs: Runs) -> None:
    table = table_of(runs)
    for (dataset, measure), rows in table.groupby(["dataset", "measure"]):
        names = [f"vgg13-{dataset}-{measure.replace('_', '')}-r5-s{seed}" for seed in range(3)]
        mine = runs.epochs[runs.epochs["run"].isin(names)].astype({"run": "str"})
        for column in ("train_acc", "test_acc"):
            by_run = mine.pivot_table(index="epoch", columns="run", values=column, dropna=False)
            mean, sd = by_run.mean(axis=1).to_numpy(), by_run.std(axis=1).to_numpy()
            assert rows[column].to_numpy() == pytest.approx(mean, nan_ok=True)
            assert rows[f"{column}_sd"].to_numpy() == pytest.approx(sd, nan_ok=True)
        pruned = set(runs.rounds.loc[runs.rounds["run"].isin(names), "epoch"])
        assert set(rows.loc[rows["pruned"], "epoch"]) == pruned == {1, 2, 3, 4, 5}
        assert rows["epoch"].tolist() == list(range(33))
        assert rows["kept_fraction"].iloc[0] == 1
        assert rows["kept_fraction"].iloc[-1] == pytest.approx(0.4, abs=0.1)
    for column, value in {"seeds": 3, "rounds": 5, "target": 0.6}.items():
        assert set(table[column]) == {value}
    assert table.loc[table["epoch"] == 0, "train_acc"].isna().all()


def test_one_data_set_is_drawn_where_it_is_asked_for(runs: Runs) -> None:
    table = table_of(runs, "4", DrawOptions(dataset="cifar100"))
    assert set(table["dataset"]) == {"cifar100"}
    held = r"no finished run of vgg13 on digits \(pruned and trained to the end\)"
    with pytest.raises(FigureError, match=held):
        table_of(runs, "4", DrawOptions(dataset="digits"))


def test_a_run_without_accuracies_is_named(runs: Runs) -> None:
    run = "vgg13-cifar10-proposed-r5-s1"
    bare = runs.epochs.assign(test_acc=runs.epochs["test_acc"].where(runs.epochs["run"] != run))
    with pytest.raises(FigureError, match=f"accuracy is recorded of {run}; pass test_acc"):
        table_of(replace(runs, epochs=bare))


# The picture


@pytest.mark.parametrize(("name", "rounds"), [("4", 1), ("5", 5), ("6", 25)])
def test_picture_shows_curves_and_rounds(runs: Runs, name: str, rounds: int) -> None:
    table, figure = figure_of(runs, name)
    test, train = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title("left") for axes in test] == TITLES
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == LABELS
    assert {axes.get_xlabel() for axes in train} == {"epochs trained"}
    for column, row in (("test_acc", test), ("train_acc", train)):
        for axes, (_, panel) in zip(row, table.groupby("dataset", sort=False), strict=True):
            assert_curves(axes, panel, column)
            assert_rounds(axes, rounds)
    (legend,) = figure.legends
    last = "pruning round" if rounds == 1 else f"{rounds} pruning rounds"
    shown = [text.get_text() for text in legend.get_texts()]
    assert [name.strip() for name in shown] == [
        *("Magnitude", "single runs", "Proposed", last, "Loss-pres.", "")
    ]
    assert_readable(figure)


def assert_curves(axes: Axes, panel: pd.DataFrame, column: str) -> None:
    """A thick curve per measure, in their order, after thin ones of its seeds; no markers."""
    curves = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    thick = [line for line in curves if line.get_linewidth() > 1]
    assert len(thick) == len(CURVE_MEASURES)
    assert {line.get_linestyle() for line in thick} == {"-", "--"}  # any dashes are called --
    assert all(line.get_marker() in ("None", "") for line in curves)
    for place, measure in enumerate(CURVE_MEASURES):
        rows = panel[panel["measure"] == measure].dropna(subset=[column])
        *single, mean = curves[4 * place : 4 * place + 4]
        assert np.asarray(mean.get_ydata()) == pytest.approx(100 * rows[column].to_numpy())
        assert {line.get_color() for line in (*single, mean)} == {style.MEASURE_COLOURS[measure]}
        drawn = np.array([line.get_ydata() for line in single])
        assert drawn.mean(0) == pytest.approx(100 * rows[column].to_numpy())
        assert drawn.std(0, ddof=1) == pytest.approx(100 * rows[f"{column}_sd"].to_numpy())


def assert_rounds(axes: Axes, rounds: int) -> None:
    """One round is a line; several are a span with a tick each."""
    marks = [line for line in axes.get_lines() if len(line.get_xdata()) <= 2]
    if rounds == 1:
        assert [set(line.get_xdata()) for line in marks] == [{1}]
        assert not axes.patches and not axes.collections
        return
    (span,) = axes.patches
    assert not marks
    width = span.get_extents().transformed(axes.transData.inverted()).intervalx
    assert width == pytest.approx([1, rounds])
    ticks = [path.vertices[0][0] for path in axes.collections[0].get_paths()]
    assert ticks == list(range(1, rounds + 1))


def test_four_seeds_are_a_band_of_one_standard_deviation() -> None:
    runs = make_pruned_runs(VGG, rounds=(1,), seeds=range(4), epochs=16)
    table, figure = figure_of(runs, "4")
    rows = table[table["measure"] == "magnitude"].set_index("epoch")
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    at = band[band[:, 0] == 8][:, 1]
    mean, sd = 100 * rows.loc[8, ["test_acc", "test_acc_sd"]].astype(float)
    assert (at.min(), at.max()) == pytest.approx((mean - sd, mean + sd))
    assert "± 1 sd over runs" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "band: plus and minus one" in accuracy_curve.drawn(table, DEFAULT)


def test_all_numbers_of_rounds_have_the_same_limits(runs: Runs) -> None:
    limits = {
        tuple(axes.get_ylim() for axes in figure_of(runs, name)[1].axes) for name in ("4", "5", "6")
    }
    assert len(limits) == 1
    accuracies = 100 * runs.epochs["test_acc"][runs.epochs["run"].str.contains("cifar10-")]
    (low, high), *_ = limits.pop()
    assert low < accuracies.min() and accuracies.max() < high
    assert high - low < 1.2 * (accuracies.max() - accuracies.min()), "limits follow from the runs"


@pytest.mark.parametrize(
    ("facts", "panels"),
    [
        ({"seeds": (0,)}, 1),
        ({"measures": ("loss_preservation", "magnitude"), "seeds": (0, 1)}, 1),
        ({"datasets": ("digits", "cifar100", "cifar10")}, 3),
        ({"datasets": ("tiny-imagenet", "cifar100", "digits", "cifar10", "folder")}, 5),
        ({"epochs": 160}, 1),
        ({"epochs": 5}, 1),
    ],
    ids=[
        "one seed",
        "two measures",
        "three data sets",
        "five data sets",
        "160 epochs",
        "no training after the rounds",
    ],
)
def test_the_picture_stays_readable(facts: dict[str, Any], panels: int) -> None:
    _, figure = figure_of(make_pruned_runs(VGG, **facts))
    first = figure.axes[0]
    assert len(figure.axes) == 2 * panels
    assert first.get_title("left").startswith("(a)") == (panels > 1)
    assert_readable(figure)
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_accuracy_curve_looks_like_its_baseline(runs: Runs, tmp_path: Path) -> None:
    assert_as_before(figure_of(runs)[1], "accuracy_curve", tmp_path)


def test_the_baseline_tells_a_changed_picture(runs: Runs, tmp_path: Path) -> None:
    table = table_of(runs)
    changed = accuracy_curve.draw(table.assign(test_acc=table["test_acc"] - 0.05), DEFAULT)
    with pytest.raises(AssertionError, match=r"differs from .* grey levels"):
        assert_as_before(changed, "accuracy_curve", tmp_path)


@pytest.mark.parametrize(("epochs", "ticks"), [(64, 1), (65, 0)])
def test_rounds_have_ticks_only_where_they_can_be_told_apart(epochs: int, ticks: int) -> None:
    table, figure = figure_of(make_pruned_runs(VGG, seeds=(0,), epochs=epochs))
    assert len(figure.axes[0].collections) == ticks
    assert len(figure.axes[0].patches) == 1
    assert ("ticks at its foot" in accuracy_curve.drawn(table, DEFAULT)) == bool(ticks)


# The words


def test_the_words_say_what_is_drawn(runs: Runs) -> None:
    text = accuracy_curve.drawn(table_of(runs), DEFAULT)
    subject = "VGG-13 on CIFAR-10 and CIFAR-100, 60 % of whose filters are pruned in 5 rounds"
    assert subject in text
    assert "after epochs 1 to 5" in text
    assert "counted on the training images while" in text
    assert "thick lines: mean over seeds; thin lines: single seeds" in text


def test_the_words_say_that_images_were_augmented(runs: Runs) -> None:
    augmented = replace(runs, spec=runs.spec.assign(augment=True))
    text = accuracy_curve.drawn(table_of(augmented, "4"), DEFAULT)
    assert "augmented images" in text
    assert "round pruned (1)" in text


def test_the_words_hold_the_numbers(runs: Runs) -> None:
    table = table_of(runs)
    last = table[(table["dataset"] == "cifar100") & (table["measure"] == "proposed")].iloc[-1]
    shown = percent(last["test_acc"], last["test_acc_sd"])
    lines = accuracy_curve.values(table, DEFAULT)
    assert len([line for line in lines if shown in line and "Proposed" in line]) == 1


def test_seeds_that_differ_between_measures_are_told_apart() -> None:
    runs = make_pruned_runs(VGG, seeds=(0, 1))
    assert accuracy_curve.values(table_of(runs), DEFAULT)[0].endswith(", 2 seeds:")
    spec = runs.spec
    fewer = replace(runs, spec=spec[(spec["measure"] != "magnitude") | (spec["seed"] == 0)])
    assert accuracy_curve.values(table_of(fewer), DEFAULT)[0].endswith(
        ", 1 seed of Magnitude, 2 seeds of Proposed and 2 seeds of Loss-pres.:"
    )
