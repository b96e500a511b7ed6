"""Coefficients of any numbers against exact arithmetic, in which nothing rounds or overflows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
from hypothesis import example
from hypothesis.strategies import builds, floats, integers, lists, one_of, sampled_from, tuples

import pruneviz as pv
from pruneviz.analysis.coefficients import coefficients
from pruneviz.analysis.moments import merged, moments, pearson
from tests.support.properties import for_all

EPS = float(np.finfo("float64").eps)
LARGEST = float(np.finfo("float64").max)
# Columns of few values, of any floats, and of small steps on a large offset.
_NUMBERS = (
    integers(-3, 3).map(float),
    floats(allow_nan=False, allow_infinity=False),
    floats(-1, 1),
    sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e-310, LARGEST, -LARGEST, 1.0]),
    builds(lambda power, step: 2.0**power + step, integers(-20, 60), integers(-9, 9)),
)
NUMBERS = one_of(*_NUMBERS)
PAIRS = one_of(*(lists(tuples(x, y), max_size=12) for x in _NUMBERS for y in (_NUMBERS[0], x)))
ANY_PAIRS = lists(tuples(*[one_of(NUMBERS, sampled_from([np.inf, -np.inf]))] * 2), max_size=12)
Values = Sequence[float | Fraction]


def found_by(method: str, pairs: Sequence[tuple[float, float]]) -> float:
    x, y = (np.array([pair[at] for pair in pairs], dtype="float64") for at in (0, 1))
    starts = np.zeros(min(len(pairs), 1), dtype="int64")
    (r, *_), _ = coefficients(x, y, starts, method) if len(pairs) else ([np.nan], None)
    return float(r)


def exact_pearson(x: Values, y: Values) -> float:
    """Pearson's r in fractions; null below 3 pairs or for a constant."""
    n, sides = len(x), []
    for values in (x, y):
        numbers = [Fraction(value) for value in values]
        mean = sum(numbers) / n if n else Fraction(0)
        sides.append([number - mean for number in numbers])
    xy, xx, yy = (
        sum(a * b for a, b in zip(*two, strict=True))
        for two in (sides, sides[:1] * 2, sides[1:] * 2)
    )
    if n < 3 or not xx or not yy:
        return math.nan
    return math.sqrt(xy * xy / (xx * yy)) * (1 if xy > 0 else -1)


def spread(values: Values) -> float:
    """Root of the sum of squared deviations, as a share of the mean, at most 1."""
    numbers = [Fraction(value) for value in values]
    mean = sum(numbers) / len(numbers)
    squares = sum((number - mean) ** 2 for number in numbers)
    return math.sqrt(min(squares, mean**2) / mean**2) if mean else 1.0


@for_all(few=60, many=5_000, pairs=PAIRS)
@example(pairs=[(5e-324, 1.0), (0.0, 2.0), (0.0, 4.0)])
@example(pairs=[(LARGEST, 1.0), (-LARGEST, 2.0), (LARGEST, 4.0)])
def test_pearson_is_that_of_exact_arithmetic(pairs: list[tuple[float, float]]) -> None:
    x, y = ([pair[at] for pair in pairs] for at in (0, 1))
    found, expected = found_by("pearson", pairs), exact_pearson(x, y)
    if math.isnan(expected):
        assert math.isnan(found)
        return
    least = min(spread(x), spread(y))
    if least < EPS**0.75:  # a constant up to rounding, surely
        assert math.isnan(found)
    elif least > 4 * EPS**0.75:
        assert abs(found - expected) <= 1e-13 + 8 * EPS * len(x) / least


def ranks(values: Sequence[float]) -> list[Fraction]:
    return [
        Fraction(sum(other < value for other in values))
        + Fraction(1 + sum(other == value for other in values), 2)
        for value in values
    ]


@for_all(few=40, many=3_000, pairs=one_of(PAIRS, ANY_PAIRS))
@example(pairs=[(0.0, 1.0), (-0.0, 2.0), (1.0, 3.0)])
def test_spearman_is_pearson_of_counted_ranks(pairs: list[tuple[float, float]]) -> None:
    expected = exact_pearson(*(ranks([pair[at] for pair in pairs]) for at in (0, 1)))
    np.testing.assert_allclose(found_by("spearman", pairs), expected, rtol=0, atol=1e-13)


@for_all(few=40, many=3_000, pairs=one_of(PAIRS, ANY_PAIRS))
@example(pairs=[(0.0, 1.0), (-0.0, 2.0), (1.0, 3.0)])
def test_kendall_counts_pairs_of_pairs(pairs: list[tuple[float, float]]) -> None:
    signs = [
        [(a[at] > b[at]) - (a[at] < b[at]) for at in (0, 1)] for a, b in combinations(pairs, 2)
    ]
    ordered = [sum(sign[at] != 0 for sign in signs) for at in (0, 1)]
    expected = math.nan
    if len(pairs) >= 3 and all(ordered):
        expected = sum(a * b for a, b in signs) / math.sqrt(ordered[0] * ordered[1])
    np.testing.assert_allclose(found_by("kendall", pairs), expected, rtol=0, atol=1e-13)


@for_all(few=40, many=5_000, pairs=PAIRS, cuts=lists(integers(1, 11), max_size=4))
def test_parts_correlate_as_the_whole(pairs: list[tuple[float, float]], cuts: list[int]) -> None:
    if not pairs:
        return
    x, y = (np.array([pair[at] for pair in pairs]) for at in (0, 1))
    starts = np.array(sorted({0, *(cut for cut in cuts if cut < len(pairs))}))
    (found,) = pearson(merged(moments(x, y, starts), np.array([0])))
    least = min(spread(x.tolist()), spread(y.tolist()))
    if not EPS**0.75 <= least <= 4 * EPS**0.75:
        tolerance = 1e-13 + 16 * EPS * len(x) / least if least else 0.0
        np.testing.assert_allclose(found, found_by("pearson", pairs), rtol=0, atol=tolerance)


@for_all(few=8, many=300, pairs=ANY_PAIRS, absent=lists(integers(0, 11), max_size=4))
def test_a_table_correlates_as_its_complete_pairs(
    pairs: list[tuple[float, float]], absent: list[int]
) -> None:
    table = pd.DataFrame(pairs, columns=["x", "y"]).astype("float64").assign(run="r", epoch=0)
    table.loc[[at for at in absent if at < len(table)], "x"] = np.nan
    complete = [pair for at, pair in enumerate(pairs) if at not in absent]
    for method in ("pearson", "spearman", "kendall", "symlog"):
        found = pv.correlate(table, "x", "y", method=method, interval=None)
        assert found["n"].tolist() == [len(complete)][: len(complete)]
        expected = [found_by(method, complete)][: len(complete)]
        np.testing.assert_array_equal(found["r"], expected)
        assert np.isnan(expected).all() or -1 <= expected[0] <= 1
