"""The few numbers in a short caption are those of the table."""

from __future__ import annotations

import pytest

from pruneviz.figures.brief import brief
from pruneviz.figures.draw import compose
from pruneviz.figures.options import DrawOptions
from pruneviz.plot.words import decimal, percent
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs


@pytest.mark.parametrize("method", ["pearson", "kendall"])
def test_correlations_at_both_ends(method: str) -> None:
    options = DrawOptions(method=method)  # type: ignore[arg-type]
    composed = compose("2", make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)), options=options)
    table = composed.numbers.dropna(subset=[method, "mask_distance"])
    first, last = table.iloc[0], table.iloc[-1]
    text = brief("correlation_curve", composed.numbers, options)
    assert f"{decimal(first[method])} to {decimal(last[method])}" in text
    assert f"epochs {first['epoch']} to {last['epoch']}" in text


def test_accuracies_at_the_end() -> None:
    composed = compose("5", make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,)))
    last = composed.numbers.drop_duplicates("measure", keep="last").iloc[0]
    text = brief("accuracy_curve", composed.numbers, DrawOptions())
    assert f"{percent(last['test_acc'])} (Magnitude)" in text


def test_the_first_third_by_measure() -> None:
    composed = compose(
        "16", make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), prune_phase_only=True)
    )
    row = composed.numbers.iloc[0]
    text = brief("layer_ratios", composed.numbers, DrawOptions())
    assert f"Magnitude {decimal(100 * row['first_third'], 0)}" in text
    assert "In 5 rounds: " in text
