"""Axes for values of both signs over many decades."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import example
from hypothesis.strategies import floats, just, lists, one_of, sampled_from
from matplotlib.figure import Figure
from matplotlib.scale import SymmetricalLogTransform

from pruneviz.analysis.symmetric_log import linear_threshold, symmetric_log
from pruneviz.plot.signed_log import SignedLog, power_of_ten, spans_decades
from tests.support.properties import for_all

LARGEST = float(np.finfo("float64").max)
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 2.3e-308, 1e-290, 1.0, -1e300, LARGEST, -LARGEST]
NUMBERS = one_of(
    floats(), sampled_from([*EXTREMES, np.nan, np.inf, -np.inf]), floats(-10, 10), just(3.0)
)
VALUES = one_of(lists(NUMBERS, max_size=12), NUMBERS.flatmap(lambda one: just([one] * 7)))


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


@for_all(few=40, many=5_000, values=VALUES, gap=floats(0.05, 0.2), which=sampled_from(["x", "y"]))
@example(values=[5e-324], gap=0.1, which="x")  # had no label but zero
@example(values=[1e308, -1e308], gap=0.1, which="y")  # had infinite ends
@example(values=[LARGEST] * 2, gap=0.2, which="x")
@example(values=[np.inf, np.nan, -np.inf], gap=0.2, which="x")
def test_ticks_of_any_numbers_are_distinct_and_on_the_axis(
    values: list[float], gap: float, which: Literal["x", "y"]
) -> None:
    given = np.array(values, dtype="float64")
    axis, held = SignedLog.fit(given), given[np.isfinite(given)]
    assert np.isfinite([axis.low, axis.high]).all() and axis.low <= 0 <= axis.high
    assert ((held >= axis.low) & (held <= axis.high)).all()
    places = axis.fraction(np.sort(held))
    assert (np.diff(places) >= 0).all() and ((places >= 0) & (places <= 1)).all()
    labels = axis.labelled(gap, which)
    for ticks in (axis.decades(), labels, axis.unlabelled(labels)):
        assert (np.diff(ticks) > 0).all()
        assert ((ticks >= axis.low) & (ticks <= axis.high)).all()
    assert not set(labels) & set(axis.unlabelled(labels))
    texts = [power_of_ten(value) for value in labels]
    assert len(set(texts)) == len(texts) >= 2 and "0" in texts
    spans_decades(given)


@for_all(few=40, many=5_000, values=VALUES)
@example(values=[5.6e44, -1.3e113, -2.5e-323])
def test_places_on_an_axis_lead_back_to_the_values(values: list[float]) -> None:
    held = np.array([value for value in values if np.isfinite(value) and abs(value) < 1e308])
    threshold = linear_threshold(held)
    transform = SymmetricalLogTransform(10, threshold, 0.8)
    back = transform.inverted().transform(transform.transform(held))
    np.testing.assert_allclose(back, held, rtol=1e-9, atol=1e-321)  # two of the least floats
    of_correlations = symmetric_log(held, np.array([0])) if len(held) else held
    assert np.isfinite(of_correlations).all()
    order = np.argsort(held, kind="stable")
    assert (np.diff(of_correlations[order]) >= 0).all()
    assert (np.sign(of_correlations) == np.sign(held / threshold)).all()


@pytest.mark.parametrize("values", [[1e308, -1e308, 1e290], [1e-320, -1e-300], [LARGEST, 1.0]])
def test_a_picture_shows_values_where_its_ticks_say(values: list[float]) -> None:
    axis, axes = SignedLog.fit(np.array(values)), Figure().subplots()
    axis.apply(axes, "x", 0.2)
    axes.figure.canvas.draw()
    assert axes.get_xlim() == (axis.low, axis.high)
    shown = axes.transData.transform(np.stack([values, np.zeros(len(values))], axis=1))[:, 0]
    left, right = axes.bbox.x0, axes.bbox.x1
    assert (shown - left) / (right - left) == pytest.approx(axis.fraction(np.array(values)))


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
