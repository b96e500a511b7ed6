"""Mean leads, their tests and power: against scipy.stats, by simulation, and at the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.lead_tests import lead, power
from pruneviz.errors import AnalysisError

VALUES = np.array([2.0, 3.5, 1.0, 2.5])


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_and_tests_equal_scipy(level: float) -> None:
    found = lead(VALUES, level=level)
    mean, error = VALUES.mean(), stats.sem(VALUES)
    assert (found.mean, found.sd) == pytest.approx((mean, VALUES.std(ddof=1)))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(level, 3, mean, error))
    for bound in (0.0, 1.5, 2.25, 4.0):
        above = stats.ttest_1samp(VALUES, bound, alternative="greater").pvalue
        below = stats.ttest_1samp(VALUES, bound, alternative="less").pvalue
        assert found.p_above(bound) == pytest.approx(min(1, 2 * above))
        assert found.p_below(bound) == pytest.approx(min(1, 2 * below))
    two = max(
        stats.ttest_1samp(VALUES, -4, alternative="greater").pvalue,
        stats.ttest_1samp(VALUES, 4, alternative="less").pvalue,
    )
    assert found.p_within(4.0) == pytest.approx(2 * two)


def test_a_test_decides_as_the_interval_does() -> None:
    found = lead(VALUES)
    for name, end in (("p_above", found.low), ("p_below", found.high)):
        assert getattr(found, name)(end) == pytest.approx(0.05)


def test_values_that_vary_less_than_their_steps_get_the_spread_of_these() -> None:
    found = lead(np.array([3.0, 3.0, 3.0]), least_sd=0.5)
    half = stats.t.ppf(0.975, 2) * 0.5 / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert lead(VALUES, least_sd=0.5) == lead(VALUES)


def test_one_seed_tells_nothing_of_its_spread() -> None:
    for values, mean in ((np.array([1.5]), 1.5), (np.array([]), np.nan)):
        found = lead(values)
        assert found.mean == pytest.approx(mean, nan_ok=True)
        rest = [found.sd, found.low, found.high, found.p_above(0), found.p_within(1)]
        assert np.isnan(rest).all()


def test_no_spread_leaves_doubt_at_its_value_only() -> None:
    found = lead(np.zeros(3))
    assert (found.low, found.high) == (0, 0)
    assert (found.p_above(0), found.p_below(0), found.p_within(1)) == (1, 1, 0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("effect", [0, 1, 2, 3])
def test_power_equals_noncentral_t(seeds: int, effect: float) -> None:
    critical = stats.t.ppf(0.975, seeds - 1)
    expected = stats.nct.sf(critical, seeds - 1, effect * np.sqrt(seeds))
    assert power(seeds, effect) == pytest.approx(expected, rel=1e-6)


def test_power_is_the_share_of_intervals_above_zero() -> None:
    draws = np.random.default_rng(0).normal(2, 1, size=(2000, 2))
    share = np.mean([lead(values).low > 0 for values in draws])
    assert power(2, 2) == pytest.approx(0.1757, abs=5e-5)  # 17 % at a lead of 2 sd
    assert share == pytest.approx(power(2, 2), abs=4 * np.sqrt(0.18 * 0.82 / 2000))


def test_the_docs_print_the_power() -> None:
    text = (Path(pv.__file__).parent.parent / "docs" / "claims.md").read_text(encoding="utf-8")
    for seeds in (2, 3, 5, 10):
        each = " | ".join(f"{100 * power(seeds, effect):.0f} %" for effect in (1, 2, 3))
        assert f"\n| {seeds} | {each} |\n" in text
    assert f"in {100 * power(2, 2):.0f} % of cases only" in " ".join(text.split())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(AnalysisError, match="level=95"):
        lead(VALUES, level=95)
    with pytest.raises(AnalysisError, match="seeds is 1; an interval"):
        power(1, 2)
