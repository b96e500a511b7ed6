"""Captions of pictures of any runs say what is drawn, and nothing that is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pruneviz import plot
from pruneviz.figures.drawn_words import drawn_words
from pruneviz.figures.plot_kinds import KINDS
from pruneviz.figures.plot_texts import main_numbers
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import make_pruned_runs, make_runs, together

SMALL = {"vgg13": (4, 6)}
XY = {"x": "theta_g", "y": "theta_hg"}


@pytest.fixture(scope="module")
def unpruned() -> Runs:
    return make_runs(SMALL, seeds=(0, 1), epochs=4, every=2)


@pytest.fixture(scope="module")
def pruned() -> Runs:
    return make_pruned_runs(SMALL, measures=("l1_norm", "fisher"), seeds=(0,), epochs=8)


def words(kind: str, runs: Runs, **arguments: object) -> str:
    table = getattr(plot, KINDS[kind].function).table(runs, **arguments)
    return drawn_words(kind, table, arguments, "filter")


def test_a_correlation_has_masks_bands_and_the_range_of_chance_only_where_drawn(
    unpruned: Runs,
) -> None:
    pair = words("correlation", unpruned, **XY)
    assert "Above: pearson correlation with theta_hg over all filters, mean" in pair
    assert "Band: one standard deviation." in pair and "Grey range" not in pair
    assert "Below: fraction in which the pruning masks by bn_scale of" in pair
    every = words("correlation", unpruned, y="loss_preservation")
    assert "Below" not in every and "Above" not in every and "Band" not in every
    assert "Grey range: 95 % of the correlations of unrelated values; dotted: a random" in every
    one = words("correlation", unpruned.select(seed=0), **XY, mask_score=None)
    assert "Band: the 95 % interval of a single run." in one and "Below" not in one
    assert "seed" not in one


def test_accuracy_and_layers_name_rounds_and_unpruned_runs_only_where_drawn(
    unpruned: Runs, pruned: Runs
) -> None:
    alone = words("layers", unpruned, y="magnitude")
    assert "grey" not in alone and "Thin lines on bars: one standard deviation." in alone
    assert "Height: mean of magnitude in every layer" in alone
    shares = words("layers", pruned)
    assert "Height: pruned share in every layer" in shares and "Thin lines" not in shares
    accuracy = words("accuracy", pruned)
    assert "Shaded: the epochs in which rounds pruned." in accuracy
    assert "grey" not in accuracy and "Dotted" not in accuracy and "seed" not in accuracy
    once = words("accuracy", make_pruned_runs(SMALL, rounds=(1,), seeds=(0,)))
    assert "Dotted upright line" in once and "Shaded" not in once
    beside = make_pruned_runs(SMALL, measures=("l1_norm",), seeds=(0,), epochs=8)
    bare = make_runs(SMALL, seeds=(0,), epochs=8)
    bare = replace(bare, epochs=bare.epochs.assign(test_acc=0.5))
    both = words("accuracy", together(bare, beside))
    assert "A grey line is the unpruned run." in both
    none = words("accuracy", bare)
    assert "grey" not in none and "Shaded" not in none and "Band" not in none


def test_other_kinds_say_what_their_numbers_hold(unpruned: Runs) -> None:
    assert words("trajectory", unpruned, y="theta_g").startswith("Lines: median of theta_g over")
    chosen = words("trajectory", unpruned, y="theta_g", filters=[("features.0.conv", 1)])
    assert chosen == ("Lines: theta_g of chosen filters of the run with the lowest seed, by epoch.")
    gone = unpruned.filters.assign(kept=unpruned.filters["filter"] != 1)
    some = replace(unpruned, filters=gone)
    assert "Ticks at the foot: epochs after" in words("trajectory", some, y="theta_g")
    cross = words("trajectory", some, y="theta_g", filters=[("features.0.conv", 1)])
    assert cross.endswith("A cross ends the line of a filter that is pruned.")
    assert "by magnitude" in words("masks", unpruned, score="magnitude", ratio=0.5)
    assert "white" not in words("masks", unpruned, score="magnitude")
    kendall = words("heatmap", unpruned, method="kendall", over="layer")
    assert "kendall correlation of two measures over the filters of a layer" in kendall
    assert "a measure with theta_g" in words("heatmap", unpruned, against="theta_g")
    alone = words("scatter", unpruned.select(seed=0), **XY)
    assert alone == "One point is one filter; x is theta_g, y is theta_hg, colour is depth."
    assert "of the run with seed 1" in words("scatter", unpruned, **XY, seed=1)


def test_main_numbers_of_a_correlation_do_not_depend_on_masks(unpruned: Runs) -> None:
    table = plot.correlation.table(unpruned, **XY)
    assert table["mask_score"].isna().any() and table["mask_score"].notna().any()
    (with_masks, without) = (
        main_numbers("correlation", plot.correlation.table(unpruned, **XY, **more), XY)
        for more in ({}, {"mask_score": None})
    )
    assert with_masks == without and with_masks.count("at epoch") == 2


def test_main_numbers_of_layers_say_of_which_epoch_and_runs(unpruned: Runs) -> None:
    runs = together(unpruned, make_runs({"mine": (3, 5)}, seeds=(0,), epochs=4, every=2))
    table = plot.layer_ratios.table(runs, "magnitude")
    found = main_numbers("layers", table, {"y": "magnitude"})
    assert found.count("network ") == 2 and found.count("epoch 4") == 2
