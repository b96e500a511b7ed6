"""Moments of groups against plain numpy, and merged moments of parts against the whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pruneviz.analysis.coefficients import mean_ranks
from pruneviz.analysis.moments import Moments, joined, merged, moments, pearson

STARTS = np.array([0, 5, 6, 60])


def pairs(seed: int, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Signed pairs over ten decades."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], n) * 10 ** rng.uniform(-12, -2, n)
    return x, x * rng.uniform(0.5, 2, n) + rng.normal(size=n) * 1e-4


def unscaled(of: Moments) -> list[np.ndarray]:
    mean, square = of.mean * of.scale, of.square * of.scale**2
    return [of.n, of.least, of.most, mean, square, of.product * of.scale[0] * of.scale[1]]


@pytest.mark.parametrize("seed", range(3))
def test_moments_equal_plain_numpy(seed: int) -> None:
    x, y = pairs(seed)
    groups = list(zip(np.split(x, STARTS[1:]), np.split(y, STARTS[1:]), strict=True))
    sides = list(zip(*groups, strict=True))
    plain = [
        [len(a) for a, _ in groups],
        [[a.min() for a in side] for side in sides],
        [[a.max() for a in side] for side in sides],
        [[a.mean() for a in side] for side in sides],
        [[len(a) * a.var() for a in side] for side in sides],
        [((a - a.mean()) * (b - b.mean())).sum() for a, b in groups],
    ]
    for found, expected in zip(unscaled(moments(x, y, STARTS)), plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-30)


@pytest.mark.parametrize("scale", [1.0, 1e-250, 1e250])
@pytest.mark.parametrize("cuts", [[50], [1, 2, 99], [10, 30, 31]])
def test_moments_of_parts_merge_to_those_of_the_whole(cuts: list[int], scale: float) -> None:
    x, y = pairs(0)
    x[:50] *= scale  # the parts have scales of their own
    whole = moments(x, y, np.array([0]))
    pieces = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    parts = [moments(a, b, np.array([0])) for a, b in pieces]
    together = parts[0]
    for part in parts[1:]:
        together = merged(joined(together, part), np.array([0]))
    for name in [field.name for field in dataclasses.fields(Moments)]:
        found, expected = getattr(together, name), getattr(whole, name)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(pearson(together), pearson(whole), rtol=1e-12)


def test_a_part_of_zeros_does_not_hide_tiny_values() -> None:
    x, y = pairs(0)
    x *= 1e-200
    parts = joined(moments(np.zeros(3), np.ones(3), np.array([0])), moments(x, y, np.array([0])))
    whole = moments(np.append(np.zeros(3), x), np.append(np.ones(3), y), np.array([0]))
    np.testing.assert_allclose(pearson(merged(parts, np.array([0]))), pearson(whole), rtol=1e-12)
    assert not np.isnan(pearson(whole)).any()


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 2.0, np.inf], [-np.inf, 2.0, 3.0]]
)
def test_short_constant_and_infinite_groups_have_no_correlation(values: list[float]) -> None:
    of = moments(np.array(values), np.arange(len(values), dtype="float64"), np.array([0]))
    twice = merged(joined(of, of), np.array([0]))
    assert np.isnan(pearson(of)).all()
    # Two pairs alone are too few, four are not.
    assert np.isnan(pearson(twice)).all() == (values != [1.0, 2.0])


@pytest.mark.parametrize(
    "values",
    [np.array([3.0, 1, 3, 2, np.inf, -0.0, 0.0]), np.random.default_rng(0).integers(0, 9, 300) / 3],
)
def test_mean_ranks_equal_counting(values: np.ndarray) -> None:
    starts = np.array([0, 2, len(values) - 3])
    plain = []
    for group in np.split(values, starts[1:]):
        plain += [
            (group < value).sum() + ((group == value).sum() + 1) / 2  # by definition
            for value in group
        ]
    np.testing.assert_array_equal(mean_ranks(values, starts), plain)
