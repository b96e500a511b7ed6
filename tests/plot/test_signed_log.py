"""Axes for values of both signs over many decades."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from matplotlib.figure import Figure

from pruneviz.analysis.symmetric_log import linear_threshold
from pruneviz.plot.signed_log import SignedLog


def test_an_axis_holds_any_values_and_its_labels_do_not_touch() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        sizes = 10 ** random.uniform(-random.integers(1, 12), 2, 200)
        signs = random.choice([-1, 1], 200) ** random.integers(0, 2) * (-1) ** seed
        values = sizes * signs
        axis = SignedLog.fit(values)
        assert ((values >= axis.low) & (values <= axis.high)).all(), seed
        assert axis.low <= 0 <= axis.high, seed
        labels = axis.labelled(0.2)
        assert 0 in labels, seed
        assert len(labels) >= 2, seed
        assert (np.diff(axis.fraction(labels)) >= 0.2).all(), seed
        assert set(labels) <= set(axis.decades()), seed


@pytest.mark.parametrize("decades", [0.2, 1, 3, 9])
def test_an_axis_has_four_ticks_and_a_shaded_strip(decades: float) -> None:
    values = np.array([-1, 1, 3.0]) * 10 ** np.array([[0.0], [decades]])
    axis, axes = SignedLog.fit(values.ravel()), Figure().subplots()
    axis.apply(axes, "x", 0.3)
    ticks = [*axes.get_xticks(), *axes.get_xticks(minor=True)]
    assert sum(axis.low <= tick <= axis.high for tick in ticks) >= 4
    (strip,) = axes.patches
    ends = strip.get_x(), strip.get_x() + strip.get_width()
    assert ends == pytest.approx((-axis.threshold, axis.threshold))


@pytest.mark.parametrize("values", [[], [0.0], [np.nan], [0.0, 0.0]])
def test_an_axis_of_next_to_nothing(values: list[float]) -> None:
    axis = SignedLog.fit(np.array(values))
    assert axis.threshold == 1
    assert axis.low < 0 < axis.high
    assert axis.labelled(0.2).tolist() == [-1, 0, 1]


def test_the_threshold_is_a_power_of_ten_below_most_values() -> None:
    assert linear_threshold(np.array([3e-5])) == pytest.approx(1e-5)
    assert linear_threshold(np.array([1e-20] * 9 + [1.0])) == pytest.approx(1e-10)


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("gap", [0.13, 0.2, 0.27])
def test_labels_are_the_same_on_both_sides_of_zero(which: Literal["x", "y"], gap: float) -> None:
    compared = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        low, high = random.uniform(-4, 4, 2)
        values = np.concatenate(
            [-(10 ** random.normal(low, 1, 99)), 10 ** random.normal(high, 1, 99)]
        )
        axis = SignedLog.fit(values)
        labels, decades = set(axis.labelled(gap, which)), set(axis.decades())
        twice = {label for label in labels - {0.0} if -label in decades}
        alone = labels <= {0.0, *(label for label in labels if label > 0)} and len(labels) == 2
        assert alone or all(-label in labels for label in twice), (seed, sorted(labels))
        compared += len(twice)
    assert compared > 40
