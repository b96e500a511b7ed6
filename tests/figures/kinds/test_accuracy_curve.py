"""Figures 1 and 4-12: numbers against plain pandas, the picture by structure and against its baseline, and what its caption says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.figures import style
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.kinds import accuracy_curve
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import percent
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.baselines import assert_as_before
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_pruned_runs

DEFAULT = DrawOptions()
VGG = {"vgg13": SMALL["vgg13"]}
TITLES = ["Magnitude", "Proposed", "Loss-pres."]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_pruned_runs(VGG, rounds=(1, 5, 25), datasets=("cifar100", "cifar10"), epochs=32)


def figure_of(runs: Runs, name: str = "5") -> tuple[pd.DataFrame, Figure]:
    table = accuracy_curve.table(runs, FIGURES[name], DEFAULT)
    return table, accuracy_curve.draw(table, DEFAULT)


# The numbers


def test_numbers_against_plain_pandas(runs: Runs) -> None:
    table = accuracy_curve.table(runs, FIGURES["5"], DEFAULT)
    assert list(dict.fromkeys(table["dataset"])) == ["cifar10", "cifar100"]
    assert (
        list(dict.fromkeys(table["measure"])) == list(CURVE_MEASURES) and len(table) == 2 * 3 * 33
    )
    for (dataset, measure), rows in table.groupby(["dataset", "measure"]):
        names = [f"vgg13-{dataset}-{measure.replace('_', '')}-r5-s{seed}" for seed in range(3)]
        mine = runs.epochs[runs.epochs["run"].isin(names)]
        for column in ("train_acc", "test_acc"):
            wide = mine.astype({"run": str}).pivot_table(
                index="epoch", columns="run", values=column, dropna=False
            )
            assert rows[column].to_numpy() == pytest.approx(
                wide.mean(axis=1).to_numpy(), nan_ok=True
            )
            assert rows[f"{column}_sd"].to_numpy() == pytest.approx(
                wide.std(axis=1).to_numpy(), nan_ok=True
            )
        pruned = set(runs.rounds.loc[runs.rounds["run"].isin(names), "epoch"])
        assert rows["epoch"].tolist() == list(range(33)) and set(
            rows.loc[rows["pruned"], "epoch"]
        ) == pruned == {1, 2, 3, 4, 5}
        assert (
            set(rows["seeds"]) == {3}
            and set(rows["rounds"]) == {5}
            and set(rows["target"]) == {0.6}
        )
        assert rows["kept_fraction"].iloc[0] == 1 and rows["kept_fraction"].iloc[
            -1
        ] == pytest.approx(0.4, abs=0.1)
    assert table.loc[table["epoch"] == 0, "train_acc"].isna().all()


def test_one_data_set_is_drawn_where_it_is_asked_for(runs: Runs) -> None:
    assert set(
        accuracy_curve.table(runs, FIGURES["4"], DrawOptions(dataset="cifar100"))["dataset"]
    ) == {"cifar100"}
    with pytest.raises(
        FigureError, match=r"no finished run of vgg13 on digits \(pruned and trained to the end\)"
    ):
        accuracy_curve.table(runs, FIGURES["4"], DrawOptions(dataset="digits"))


def test_a_run_without_accuracies_is_named(runs: Runs) -> None:
    bare = runs.epochs.assign(
        test_acc=runs.epochs["test_acc"].where(runs.epochs["run"] != "vgg13-cifar10-proposed-r5-s1")
    )
    with pytest.raises(
        FigureError,
        match="no test accuracy is recorded of vgg13-cifar10-proposed-r5-s1; pass test_acc",
    ):
        accuracy_curve.table(replace(runs, epochs=bare), FIGURES["5"], DEFAULT)


# The picture


@pytest.mark.parametrize(("name", "rounds"), [("4", 1), ("5", 5), ("6", 25)])
def test_curves_bands_and_rounds(runs: Runs, name: str, rounds: int) -> None:
    table, figure = figure_of(runs, name)
    assert [axes.get_title("left") for axes in figure.axes] == ["(a) CIFAR-10", "(b) CIFAR-100"]
    assert figure.axes[0].get_ylabel() == "accuracy (%)" and {
        axes.get_xlabel() for axes in figure.axes
    } == {"epochs trained"}
    for axes, (_, panel) in zip(figure.axes, table.groupby("dataset", sort=False), strict=True):
        curves = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
        assert (
            len(curves) == 6
            and len({(line.get_color(), line.get_linestyle()) for line in curves}) == 6
        )
        for measure, (train, test) in zip(
            CURVE_MEASURES, zip(curves[::2], curves[1::2], strict=True), strict=True
        ):
            rows = panel[panel["measure"] == measure]
            assert np.asarray(test.get_ydata()) == pytest.approx(100 * rows["test_acc"].to_numpy())
            assert np.asarray(train.get_ydata()) == pytest.approx(
                100 * rows["train_acc"].to_numpy(), nan_ok=True
            )
            assert train.get_color() == test.get_color() == style.MEASURE_COLOURS[measure]
            assert test.get_linestyle() == "-" != train.get_linestyle()
            assert test.get_marker() == style.MEASURE_MARKERS[measure] and train.get_marker() in (
                "None",
                "",
            )
        marks = [line for line in axes.get_lines() if line not in curves]
        if rounds == 1:
            assert [set(line.get_xdata()) for line in marks] == [{1}] and not axes.patches
            assert len(axes.collections) == 6  # the bands
        else:
            (span,) = axes.patches
            assert not marks and span.get_extents().transformed(
                axes.transData.inverted()
            ).intervalx == pytest.approx([1, rounds])
            ticks = axes.collections[0]
            assert [path.vertices[0][0] for path in ticks.get_paths()] == list(range(1, rounds + 1))
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == [
        "Magnitude",
        "test",
        "Proposed",
        "train",
        "Loss-pres.",
        "pruning round" if rounds == 1 else f"{rounds} pruning rounds",
    ]
    assert_readable(figure)


def test_the_band_is_one_standard_deviation(runs: Runs) -> None:
    table, figure = figure_of(runs, "4")
    rows = table[(table["dataset"] == "cifar10") & (table["measure"] == "magnitude")]
    band = (
        figure.axes[0].collections[1].get_paths()[0].vertices
    )  # of the test accuracy of the first measure
    at = band[band[:, 0] == 16][:, 1]
    mean, sd = 100 * rows.set_index("epoch").loc[16, ["test_acc", "test_acc_sd"]].astype(float)
    assert (at.min(), at.max()) == pytest.approx((mean - sd, mean + sd))


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
def test_the_picture_stays_readable(facts: dict, panels: int) -> None:  # type: ignore[type-arg]
    table, figure = figure_of(make_pruned_runs(VGG, **facts))
    assert len(figure.axes) == panels and figure.axes[0].get_title("left").startswith("(a)") == (
        panels > 1
    )
    assert (
        bool([c for c in figure.axes[0].collections if c.get_facecolor().any()])
        or table["seeds"].max() == 1
    )
    assert_readable(figure)
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_measures_differ_in_grey(runs: Runs) -> None:
    _, figure = figure_of(runs)
    shades = sorted(
        {
            float(np.dot(to_rgba(line.get_color())[:3], (0.299, 0.587, 0.114)))
            for line in figure.axes[0].get_lines()
        }
    )
    assert len(shades) == 3 and min(np.diff(shades)) > 0.12


def test_accuracy_curve_looks_like_its_baseline(runs: Runs, tmp_path: Path) -> None:
    assert_as_before(figure_of(runs)[1], "accuracy_curve", tmp_path)


def test_the_baseline_tells_a_changed_picture(runs: Runs, tmp_path: Path) -> None:
    changed = accuracy_curve.table(runs, FIGURES["5"], DEFAULT).assign(
        test_acc=lambda rows: rows["test_acc"] - 0.05
    )
    with pytest.raises(AssertionError, match=r"differs from .* grey levels"):
        assert_as_before(accuracy_curve.draw(changed, DEFAULT), "accuracy_curve", tmp_path)


def test_rounds_have_ticks_only_where_they_can_be_told_apart() -> None:
    for epochs, ticks in ((64, 1), (65, 0)):
        table, figure = figure_of(make_pruned_runs(VGG, seeds=(0,), epochs=epochs))
        assert len(figure.axes[0].collections) == ticks and len(figure.axes[0].patches) == 1
        assert ("ticks at its foot" in accuracy_curve.drawn(table, DEFAULT)) == bool(ticks)


# The words


def test_the_words_hold_the_numbers(runs: Runs) -> None:
    table = accuracy_curve.table(runs, FIGURES["5"], DEFAULT)
    text = accuracy_curve.drawn(table, DEFAULT)
    assert (
        "VGG-13 on CIFAR-10 and CIFAR-100, 60 % of whose filters are pruned in 5 rounds" in text
        and "after epochs 1 to 5" in text
    )
    assert (
        "counted on the training images while" in text and "standard deviation over seeds" in text
    )
    augmented = accuracy_curve.table(
        replace(runs, spec=runs.spec.assign(augment=True)), FIGURES["4"], DEFAULT
    )
    assert "augmented images" in accuracy_curve.drawn(
        augmented, DEFAULT
    ) and "round pruned (1)" in accuracy_curve.drawn(augmented, DEFAULT)
    last = table[(table["dataset"] == "cifar100") & (table["measure"] == "proposed")].iloc[-1]
    shown = percent(last["test_acc"], last["test_acc_sd"])
    assert (
        sum(shown in line and "Proposed" in line for line in accuracy_curve.values(table, DEFAULT))
        == 1
    )
    assert f"{shown} (Proposed)" in accuracy_curve.finding(table, DEFAULT)


def test_seeds_that_differ_between_measures_are_told_apart() -> None:
    runs = make_pruned_runs(VGG, seeds=(0, 1))
    fewer = replace(
        runs, spec=runs.spec[(runs.spec["measure"] != "magnitude") | (runs.spec["seed"] == 0)]
    )
    head = [
        accuracy_curve.values(accuracy_curve.table(part, FIGURES["5"], DEFAULT), DEFAULT)[0]
        for part in (runs, fewer)
    ]
    assert head[0].endswith(", 2 seeds:") and head[1].endswith(
        ", 1 seed of Magnitude, 2 seeds of Proposed and 2 seeds of Loss-pres.:"
    )
