"""Accuracy of any runs against epochs: the numbers against plain pandas, the picture by structure.

The paper's figures are tested in tests/figures/kinds/test_accuracy_curve.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot import style
from pruneviz.plot.accuracy_plot import accuracy
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, together

VGG = {"vgg13": SMALL["vgg13"]}
EPOCHS = 8


def unpruned(seeds: tuple[int, ...] = (0, 1), **facts: Any) -> Runs:
    """Unpruned runs with accuracies; a fact tells their names apart."""
    runs = make_runs(VGG, seeds=seeds, epochs=EPOCHS, every=EPOCHS, **facts)
    rising = 0.9 * runs.epochs["epoch"] / EPOCHS + 0.01 * runs.epochs["run"].cat.codes
    runs = replace(runs, epochs=runs.epochs.assign(test_acc=rising, kept_fraction=1.0))
    suffix = "".join(map(str, facts.values()))
    renamed = {name: f"{name}{suffix}" for name in runs.spec["run"]}
    tables = {
        name: getattr(runs, name).assign(run=lambda rows: rows["run"].astype(str).map(renamed))
        for name in ("spec", "epochs", "filters")
    }
    return replace(runs, **tables)


def pruned(**facts: Any) -> Runs:
    return make_pruned_runs(VGG, seeds=(0, 1), epochs=EPOCHS, **facts)


def own(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(5), **columns})


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


# The numbers


def test_seeds_are_averaged_and_networks_are_told_apart() -> None:
    runs = make_pruned_runs(SMALL, ("magnitude",), seeds=(0, 1, 2), epochs=EPOCHS)
    table = accuracy.table(runs)
    assert list(dict.fromkeys(table["network"])) == list(SMALL)
    assert set(table["seeds"]) == {3}
    for network, rows in table.groupby("network"):
        mine = runs.epochs[runs.epochs["run"].str.startswith(network)].astype({"run": "str"})
        by_run = mine.pivot_table(index="epoch", columns="run", values="test_acc")
        assert rows["test_acc"].to_numpy() == pytest.approx(by_run.mean(axis=1).to_numpy())
        assert rows["test_acc_sd"].to_numpy() == pytest.approx(by_run.std(axis=1).to_numpy())


@pytest.mark.parametrize(
    ("facts", "value"),
    [({"bn": "batch"}, "batch"), ({"sample_size": 64}, 64), ({"note": "b"}, "b")],
)
def test_runs_that_differ_in_anything_are_told_apart(facts: dict[str, Any], value: object) -> None:
    other = {"note": "a"} if "note" in facts else {}
    table = accuracy.table(together(unpruned(**other), unpruned(**facts)))
    (name,) = facts
    assert table.groupby(name)["epoch"].size().to_dict()[value] == EPOCHS + 1
    assert set(table["seeds"]) == {2}
    assert accuracy.table(together(unpruned(**other), unpruned(**facts)), by="network")[
        "seeds"
    ].tolist() == [4] * (EPOCHS + 1)


def test_two_runs_of_one_setting_and_seed_are_told_apart_by_name() -> None:
    runs = unpruned((0, 1))
    table = accuracy.table(replace(runs, spec=runs.spec.assign(seed=1)))
    assert set(table["run"]) == set(runs.spec["run"])
    assert table["test_acc_sd"].isna().all()
    repeats = accuracy.table(replace(runs, spec=runs.spec.assign(seed=None)))
    assert set(repeats["seeds"]) == {2}


def test_seeds_are_the_runs_that_have_a_value() -> None:
    runs = unpruned((0, 1))
    gone = (runs.epochs["run"] == runs.spec["run"][0]) & (runs.epochs["epoch"] == 2)
    epochs = runs.epochs.assign(val_acc=runs.epochs["test_acc"].mask(gone))
    table = accuracy.table(replace(runs, epochs=epochs), "val_acc").set_index("epoch")
    assert table["seeds"].tolist() == [1 if epoch == 2 else 2 for epoch in table.index]


def test_another_training_is_not_left_out_for_one_of_its_seed() -> None:
    runs = together(
        unpruned((0,), optimizer="sgd"), unpruned((0,), unit="weight", optimizer="adam")
    )
    assert set(accuracy.table(runs)["unit"]) == {"filter", "weight"}
    assert set(accuracy.table(runs, by="optimizer")["optimizer"]) == {"sgd", "adam"}
    measured = together(unpruned((0,)), unpruned((0,), unit="weight", sample_size=8, lag=2))
    assert set(accuracy.table(measured)["seeds"]) == {1}
    assert "unit" not in accuracy.table(measured)


@pytest.mark.parametrize("fact", ["versions", "temperatures"])
def test_facts_that_are_collections_tell_runs_apart(fact: str) -> None:
    values = {"versions": [{"torch": "2"}, {"torch": "3"}], "temperatures": [(1.0,), (2.5,)]}
    runs = unpruned((0, 1))
    runs = replace(runs, spec=runs.spec.assign(**{fact: values[fact]}))
    text = {"versions": {"torch 2", "torch 3"}, "temperatures": {"1", "2.5"}}[fact]
    assert set(accuracy.table(runs, by=fact)[fact]) == text


def test_a_training_measured_by_filters_and_by_weights_is_drawn_once() -> None:
    runs = together(unpruned(), unpruned((0,), unit="weight"))
    table = accuracy.table(runs)
    assert "unit" not in table
    assert set(table["seeds"]) == {2}
    assert set(accuracy.table(runs, by="unit")["unit"]) == {"filter", "weight"}
    alone = accuracy.table(runs, runs={"unit": "weight"})
    assert set(alone["seeds"]) == {1}


def test_epochs_and_runs_are_chosen() -> None:
    table = accuracy.table(pruned(), epochs=[0, -1], runs={"measure": "magnitude", "seed": 1})
    assert table["epoch"].tolist() == [0, EPOCHS]
    assert table["seeds"].tolist() == [1, 1]


def test_the_default_is_an_accuracy_that_all_runs_have() -> None:
    table = accuracy.table(own(val_acc=0.5, train_loss=1.0, train_acc=0.6))
    assert [name for name in table if name.endswith("acc")] == ["train_acc", "val_acc"]
    half = own(test_acc=0.4, val_acc=0.5).assign(run="a")
    both = pd.concat([half, own(val_acc=0.5).assign(run="b")])
    assert "val_acc" in accuracy.table(both)
    assert "test_acc" not in accuracy.table(both)


def test_what_is_not_there_is_named() -> None:
    table = own(val_acc=0.5, note="a", empty=np.nan)
    with pytest.raises(FigureError, match="no column of the epochs table 'val_ac'; did you mean"):
        accuracy(table, "val_ac")
    with pytest.raises(FigureError, match="y is note, which holds no numbers; numbers hold val_"):
        accuracy(table, "note")
    with pytest.raises(FigureError, match="y is empty, which holds no value"):
        accuracy(table, "empty")
    with pytest.raises(FigureError, match="no accuracy is recorded of table; pass test_acc to"):
        accuracy(own(loss=1.0))
    with pytest.raises(FigureError, match="the epochs that do are 0, 1, 2, 3 and 4"):
        accuracy(table, epochs=9)
    with pytest.raises(FigureError, match="no loss is recorded of b; pass loss to after_epoch"):
        accuracy(pd.concat([own(loss=1.0).assign(run="a"), table.assign(run="b")]), "loss")
    with pytest.raises(FigureError, match=r"several units: val_acc \(%\) and test_loss \(nats\)"):
        accuracy(table.assign(test_loss=2.0), ["val_acc", "test_loss"])
    with pytest.raises(FigureError, match="no fact of these runs 'sed'"):
        accuracy(table, by="sed")


# The picture


def test_pruned_runs_stand_beside_the_unpruned_ones() -> None:
    figure = accuracy(together(unpruned(), pruned(rounds=(1, 5))))
    assert [axes.get_title("left") for axes in figure.axes] == [
        *("(a) VGG-13, 1 round", "(b) VGG-13, 5 rounds", "", "")
    ]
    assert {"pruning round", "5 pruning rounds"} <= set(legend_of(figure))
    for axes in figure.axes[:2]:
        grey = [line for line in axes.get_lines() if line.get_color() == style.REFERENCE_COLOUR]
        (reference,) = (line for line in grey if line.get_linewidth() > 1)
        assert reference.get_ydata()[-1] == pytest.approx(90.5)
    assert "unpruned" in legend_of(figure)
    assert_readable(figure)


def test_unpruned_runs_of_another_scale_are_named_so() -> None:
    whole, part = unpruned(), pruned()
    whole = replace(whole, spec=whole.spec.assign(train_images=10_000))
    for images, name in ((5_000, "unpruned, 10,000 training images"), (10_000, "unpruned")):
        beside = replace(part, spec=part.spec.assign(train_images=images))
        names = set(legend_of(accuracy(together(whole, beside))))
        assert {"Magnitude", name} <= names
        assert [other for other in names if other.startswith("unpruned")] == [name]


def test_unpruned_runs_of_another_network_have_a_panel_of_their_own() -> None:
    other = unpruned()
    other = replace(other, spec=other.spec.assign(network="mine"))
    figure = accuracy(together(pruned(), other))
    assert {axes.get_title("left") for axes in figure.axes[:2]} == {"(a) VGG-13", "(b) mine"}


def test_curves_that_differ_in_the_batch_norm_mode_are_named() -> None:
    figure = accuracy(together(unpruned(), unpruned(bn="batch")))
    assert [name for name in legend_of(figure) if name] == [*("bn eval", "single runs", "bn batch")]
    colours = [line.get_color() for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert len(set(colours)) == 2


@pytest.mark.parametrize(
    ("y", "label", "names"),
    [
        (None, "val accuracy (%)", None),
        (["val_acc"], "val accuracy (%)", None),
        ("test_loss", "test loss (nats)", None),
        ("loss/aux$", r"loss/aux\$", None),
        (["loss/aux$", "_f1"], r"loss/aux\$", None),
        (
            ["loss/aux$", "_f1", "epoch_"],
            r"loss/aux\$, _f1, epoch_",
            [r"loss/aux\$", "_f1", "epoch_"],
        ),
        ("kept_fraction", "kept of the network (%)", None),
    ],
)
def test_the_axis_says_what_is_drawn(y: Any, label: str, names: list[str] | None) -> None:
    facts = {
        "loss/aux$": 2.5,
        "_f1": 0.4,
        "val_acc": 0.5,
        "train_acc": 0.6,
        "test_loss": 1.0,
        "epoch_": 2.0,
    }
    figure = accuracy(own(kept_fraction=0.7, **facts), y)
    assert figure.axes[0].get_ylabel() == label
    assert (legend_of(figure) if figure.legends else None) == names
    assert_readable(figure)


def test_values_that_are_recorded_seldom_are_joined() -> None:
    figure = accuracy(own(test_acc=[0.1, np.nan, 0.3, np.nan, 0.5]))
    (line,) = figure.axes[0].get_lines()
    assert np.asarray(line.get_ydata()) == pytest.approx([10, 30, 50])


def test_a_single_epoch_is_seen() -> None:
    figure = accuracy(own(test_acc=0.5, train_acc=0.4).head(1))
    assert all(line.get_marker() not in ("", "None") for line in figure.axes[0].get_lines())


def test_many_settings_have_a_readable_legend() -> None:
    parts = [own(test_acc=0.04 * i).assign(run=f"a run of a long name {i}") for i in range(20)]
    figure = accuracy(pd.concat(parts), by="run")
    assert len(legend_of(figure)) == 20
    assert_readable(figure)


def test_given_axes_are_drawn_into_and_hold_one_panel() -> None:
    axes = Figure().subplots()
    assert accuracy(own(test_acc=0.5), ax=axes) is axes
    assert axes.get_ylabel() == "test accuracy (%)"
    with pytest.raises(FigureError, match="has 2: VGG-13, 1 round and VGG-13, 5 rounds; choose"):
        accuracy(pruned(rounds=(1, 5)), ax=axes)


def test_a_loss_that_is_infinite_leaves_a_gap() -> None:
    table = own(loss=[2.0, np.inf, np.nan, 1.0, 0.5])
    (line,) = accuracy(table, "loss").axes[0].get_lines()
    assert np.asarray(line.get_ydata()) == pytest.approx([2.0, 1.0, 0.5])
    assert np.isinf(accuracy.table(table, "loss")["loss"]).sum() == 1
