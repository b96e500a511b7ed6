"""Reliability and corrected correlations: known truth, exact formulas, and reasons for nulls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.reliability import corrected_correlation, reliability, step_up
from pruneviz.errors import AnalysisError, ScoreError
from pruneviz.log.recordings import spec_table
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import Runs

FILTERS = 6000


def two_tables(
    noise: float, shared: float = 0.0, rho: float = 0.6, seed: int = 0, filters: int = FILTERS
) -> list[pd.DataFrame]:
    """Two measurements of true x and y of variance 1 and correlation rho, each with own noise.

    Args:
        noise: Variance of the noise of every value.
        shared: Correlation of the noise of x with that of y on the same sample.
        rho: Correlation of the true values.
        seed: Seed of everything.
        filters: Number of filters.
    """
    random = np.random.default_rng(seed)

    def pair(correlation: float) -> tuple[np.ndarray, np.ndarray]:
        one, other = random.standard_normal((2, filters))
        return one, correlation * one + np.sqrt(1 - correlation**2) * other

    x, y = pair(rho)
    keys = {"layer": [f"conv{place % 20}" for place in range(filters)], "filter": range(filters)}
    tables = []
    for _ in range(2):
        of_x, of_y = pair(shared)
        values = {"x": x + noise**0.5 * of_x, "y": y + noise**0.5 * of_y}
        tables.append(pd.DataFrame({**keys, **values}))
    return tables


@pytest.mark.parametrize("noise", [0.25, 1.0, 4.0])
def test_reliability_is_the_share_of_the_variance_that_is_truth(noise: float) -> None:
    found = reliability(two_tables(noise), ["x", "y"])
    truth = 1 / (1 + noise)  # 0.8, 0.5, 0.2
    # standard error of r over 6000 filters is below 0.013
    assert found["r"].to_numpy() == pytest.approx([truth, truth], abs=0.04)
    # both samples together halve the variance of the noise
    assert found["whole"].to_numpy() == pytest.approx([1 / (1 + noise / 2)] * 2, abs=0.05)
    assert found["measure"].tolist() == ["x", "y"] and found["n"].eq(FILTERS).all()
    assert (found["whole_low"] < found["whole"]).all() and (found["reason"] == "").all()


def test_a_pooled_sample_is_as_reliable_as_the_stepped_up_half() -> None:
    first, second = two_tables(1.0, seed=1)
    truth = first["x"].to_numpy()
    random = np.random.default_rng(5)
    noisy = [truth + 2 * random.standard_normal(FILTERS) for _ in range(4)]
    stepped = reliability([first.assign(x=x) for x in noisy[:2]], ["x"])["whole"].item()
    pooled = [second.assign(x=(noisy[place] + noisy[place + 1]) / 2) for place in (0, 2)]
    assert stepped == pytest.approx(reliability(pooled, ["x"])["r"].item(), abs=0.04)


@pytest.mark.parametrize("times", [1, 2, 2.5])
def test_step_up_is_exact_for_noise_that_falls_with_the_size(times: float) -> None:
    for noise in (0.1, 3.0):
        assert step_up(1 / (1 + noise), times) == pytest.approx(1 / (1 + noise / times), rel=1e-12)


@pytest.mark.parametrize("shared", [0.0, 0.9, -0.9])
@pytest.mark.parametrize("rho", [0.6, -0.3])
def test_the_correction_finds_the_correlation_of_the_truths(shared: float, rho: float) -> None:
    found = corrected_correlation(two_tables(1.0, shared, rho), "x", "y").iloc[0]
    assert found["corrected"] == pytest.approx(rho, abs=0.06)
    assert found["cross"] == pytest.approx(rho / 2, abs=0.04), "weakened by the reliability 0.5"
    assert found["within"] == pytest.approx((rho + shared) / 2, abs=0.04), "noise that is shared"
    assert found["reliability_x"] == pytest.approx(0.5, abs=0.04) and not found["reason"]


def test_every_number_is_that_of_plain_numpy() -> None:
    first, second = two_tables(1.0, filters=60)
    found = corrected_correlation([first, second], "x", "y").iloc[0]

    def r(one: pd.Series, other: pd.Series) -> float:
        return float(np.corrcoef(one, other)[0, 1])

    cross = (r(first["x"], second["y"]) + r(second["x"], first["y"])) / 2
    of_x, of_y = r(first["x"], second["x"]), r(first["y"], second["y"])
    expected = [cross, of_x, of_y, cross / (of_x * of_y) ** 0.5]
    names = ["cross", "reliability_x", "reliability_y", "corrected"]
    assert found[names].tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", ["spearman", "symlog", "kendall"])
def test_other_coefficients_are_those_of_correlate(method: Any) -> None:
    first, second = two_tables(1.0, filters=200)
    beside = first.assign(b=second["x"])
    expected = pv.correlate(beside, "x", "b", by=[], method=method)["r"].item()
    assert reliability([first, second], ["x"], method=method)["r"].item() == expected


def test_what_cannot_be_known_is_null_with_a_reason() -> None:
    first, second = two_tables(1.0, filters=50)
    opposed = [first.assign(z=first["x"]), second.assign(z=-first["x"])]
    found = reliability(opposed, ["z"]).iloc[0]
    assert found["r"] == pytest.approx(-1) and np.isnan(found["whole"])
    assert "do not agree" in found["reason"]
    null = corrected_correlation(opposed, "z", "y").iloc[0]
    assert np.isnan(null["corrected"]) and null["reason"] == "the reliability of x is below 0.2"
    constant = reliability([first.assign(z=1.0), second.assign(z=1.0)], ["z"]).iloc[0]
    assert np.isnan(constant["whole"]) and "all values are equal" in constant["reason"]


def test_a_corrected_correlation_beyond_1_says_so() -> None:
    for seed in range(200):
        tables = two_tables(1.5, rho=0.999, filters=12, seed=seed)
        found = corrected_correlation(tables, "x", "y").iloc[0]
        if abs(found["corrected"]) > 1:
            assert "beyond 1" in found["reason"]
            return
    raise AssertionError("of 200 small samples none was beyond 1")


def recorded(half_size: int = 50, **changes: Any) -> Runs:
    """Two recorded epochs of a run with half samples, and a run with halves of another size."""
    parts, filters, specs = [], [], []
    for run, size in (("r0", 50), ("r1", half_size)):
        spec = RunSpec(run, samples=2, sample_size=100, half_size=size, seed=0)
        specs.append((run, spec))
        for epoch in (0, 4):
            tables = two_tables(1.0, seed=epoch, filters=400)
            for half, table in zip("AB", tables, strict=True):
                named = table.rename(columns={"x": "theta_g", "y": "abs_theta_g"})
                parts.append(named.assign(run=run, epoch=epoch, half=half, weight=np.nan))
            mean = (tables[0]["x"] + tables[1]["x"]) / 2
            keys = tables[0][["layer", "filter"]].assign(run=run, epoch=epoch, weight=np.nan)
            filters.append(
                keys.assign(theta_g=mean, abs_theta_g=1.0 * mean, theta_norm2=2.0, kept=True)
            )
    shuffled = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0)
    runs = Runs(
        spec_table(specs), pd.DataFrame(), pd.concat(filters, ignore_index=True), pd.DataFrame(),
        halves=shuffled,
    )  # fmt: skip
    return replace(runs, **changes)


def test_recorded_halves_are_matched_by_filter_and_grouped_by_run_and_epoch() -> None:
    found = reliability(recorded(half_size=25))
    assert found["measure"].unique().tolist() == [
        "theta_g", "loss_preservation", "loss_preservation_abs_of_sum", "snip",
    ]  # fmt: skip
    assert found.groupby("measure").size().eq(4).all()
    rows = found[found["measure"] == "theta_g"].set_index(["run", "epoch"])
    for epoch in (0, 4):
        first, second = two_tables(1.0, seed=epoch, filters=400)
        r = np.corrcoef(first["x"], second["x"])[0, 1]
        for run, times in (("r0", 2), ("r1", 4)):
            assert rows.loc[(run, epoch), "r"] == pytest.approx(r, rel=1e-6)
            assert rows.loc[(run, epoch), "whole"] == pytest.approx(step_up(r, times), rel=1e-6)


def test_a_group_of_several_sizes_has_no_reliability_of_the_whole() -> None:
    found = reliability(recorded(half_size=25), ["theta_g"], by=["epoch"])
    assert found["whole"].isna().all() and found["reason"].str.contains("several sample").all()
    one = reliability(recorded(), ["theta_g"], by=[])
    assert len(one) == 1 and one["whole"].notna().all()


def test_the_whole_sample_stands_beside_its_halves() -> None:
    found = corrected_correlation(recorded(), "theta_g", "abs_theta_g")
    assert found["r"].to_numpy() == pytest.approx(np.ones(4)), "the filters table has both equal"
    assert (found["within"] < 0.9).all()


def test_a_measure_of_columns_without_halves_is_refused() -> None:
    runs = recorded()
    with pytest.raises(ScoreError, match="theta_hg"):
        reliability(runs, ["grasp"])
    constant = reliability(runs, ["magnitude"]).iloc[0]
    assert np.isnan(constant["r"]), "magnitude is the same on every sample, and constant here"


def test_without_two_samples_the_repair_is_told() -> None:
    runs = recorded()
    with pytest.raises(AnalysisError, match="pruneviz record --samples 2"):
        reliability(replace(runs, halves=runs.halves.iloc[:0]))
    first, second = two_tables(1.0, filters=10)
    with pytest.raises(AnalysisError, match="hold other filters"):
        reliability([first, second.iloc[::-1]])
    with pytest.raises(AnalysisError, match="two samples are needed"):
        reliability(first)  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match=r"least=2"):
        corrected_correlation([first, second], "x", "y", least=2)


@pytest.mark.parametrize("gone", ["column", "epoch"])
def test_what_a_thin_copy_left_out_is_the_reason_of_a_missing_correlation(gone: str) -> None:
    none = pd.DataFrame({"run": []})
    full = recorded(epochs=none, rounds=none)
    mine = full.filters["run"].eq("r0") & (full.filters["epoch"].eq(4) | (gone == "column"))
    if gone == "column":
        filters = full.filters.assign(theta_g=full.filters["theta_g"].mask(mine))
        facts = {"columns_left_out": ["theta_g"]}
    else:
        filters, facts = full.filters[~mine], {}
    spec = full.spec.assign(thinned=[facts, None])
    found = corrected_correlation(
        replace(full, filters=filters, spec=spec), "theta_g", "abs_theta_g"
    )
    whole = corrected_correlation(full, "theta_g", "abs_theta_g")
    lacks = found["run"].eq("r0") & (found["epoch"].eq(4) | (gone == "column"))
    assert found["r"].isna().tolist() == lacks.tolist()
    why = "thin copy r0 left out theta_g" if gone == "column" else "thin copies left out these"
    assert found.loc[lacks, "reason"].str.contains(f"r is null: .*{why}").all()
    pd.testing.assert_frame_equal(found[~lacks], whole[~lacks])
    beside = [each.drop(columns=["r", "reason"]) for each in (found, whole)]
    pd.testing.assert_frame_equal(*beside)
