"""Whether a correlation counts as high: each condition, the rates of wrong verdicts, and runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.claims import RULES
from pruneviz.analysis.rules_scatter import Agreement, agreements, decide
from pruneviz.log.thinning import thin
from tests.support.synthetic_runs import SMALL, make_runs, save_runs
from tests.support.verdict_rates import FALSE, OPEN, TRUE, Agreeing, rates

NAME = "high correlation"
RULE = RULES[NAME]
CLEARLY = Agreement(3, r=0.9, mean=0.88, low=0.8, high=0.95, ranks=0.8, ranks_high=0.9, clear=0.9)


@pytest.mark.parametrize(
    ("change", "verdict", "why"),
    [
        ({}, "supported", "the whole interval is at least 0.7; 90 % of the points are clear"),
        ({"low": 0.69}, "undecided", "reaches below and above 0.7"),
        ({"low": 0.1, "high": 0.69, "r": 0.4}, "not supported", "the whole interval is below 0.7"),
        ({"mean": 0.69}, "undecided", "the plain mean is below 0.7"),
        ({"ranks": 0.49}, "undecided", "ranks may correlate below 0.5"),
        ({"ranks": 0.2, "ranks_high": 0.49}, "not supported", "ranks correlate below 0.5"),
        (
            {"clear": 0.49},
            "undecided",
            "only 49 % of the points are clear of noise in theta_g and theta_hg",
        ),
        ({"clear": 0.49, "low": 0.1, "high": 0.69}, "undecided", "only 49 %"),
        ({"clear": np.nan}, "undecided", "standard errors are not recorded"),
        ({"seeds": 2}, "not testable", "needs 3 seeds, has 2"),
        # What counted as high on the digits, where no point is clear of noise.
        ({"r": 0.78, "low": 0.4, "high": 1.0, "clear": 0.0}, "undecided", "only 0 %"),
        ({"r": 0.82, "low": 0.3, "high": 1.0, "clear": 0.0}, "undecided", "only 0 %"),
    ],
)
def test_each_condition_decides(change: dict[str, float], verdict: str, why: str) -> None:
    found = decide(replace(CLEARLY, **change), RULE)  # type: ignore[arg-type]
    assert found[0] == verdict
    assert why in found[1] and "Spearman" in found[1] + "Spearman" * (verdict == "not testable")


def test_the_interval_is_students_over_seeds_on_the_scale_of_atanh() -> None:
    from scipy import stats

    r = np.array([0.94, 0.34, 0.22])
    found = pd.DataFrame(
        {"run": ["a", "b", "c"], "epoch": 4, "pearson": r, "spearman": r, "clear": [0.2, 0.4, 0.9]}
    ).assign(clear_in="theta_g")
    one = agreements(found, pd.DataFrame({"run": ["a", "b", "c"]}))[4]
    z = np.arctanh(r)
    low, high = np.tanh(stats.t.interval(0.95, 2, z.mean(), z.std(ddof=1) / np.sqrt(3)))
    assert (one.low, one.high) == pytest.approx((low, high))
    assert (one.mean, one.clear, one.seeds) == pytest.approx((0.5, 0.5, 3))
    assert one.r == pytest.approx(np.tanh(z.mean())) and one.low < one.r < one.high
    unknown = agreements(found.assign(clear=[0.9, 0.9, np.nan]), pd.DataFrame({"run": list("abc")}))
    assert np.isnan(unknown[4].clear)


CASES = {name: case for cases in (TRUE, FALSE, OPEN) for name, case in cases.items()}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if type(case) is Agreeing])
def test_rates_of_wrong_verdicts(name: str) -> None:
    repeats = 400
    found = rates(CASES[name], repeats)
    slack = 3 * np.sqrt(0.05 * 0.95 / repeats)
    if name in TRUE:
        assert found.get("not supported", 0) <= 0.05 + slack
        assert found["supported"] > 0.5, "power"
    elif name in FALSE:
        assert found.get("supported", 0) <= 0.05 + slack
    else:
        assert found == {"undecided": 1.0}


# On recordings


def correlated(r: float, noise: float, seeds: int = 3, **facts: object) -> pv.Runs:
    """Runs of which theta_hg and theta_g correlate with r, and errors are `noise` of the values."""
    runs = make_runs({"resnet56": SMALL["resnet56"]}, range(seeds), epochs=8, every=2, **facts)
    random = np.random.default_rng(0)
    count = len(runs.filters)
    theta_g, other = random.standard_normal((2, count))
    theta_hg = r * theta_g + np.sqrt(1 - r**2) * other
    measured = runs.filters["theta_g"].notna()
    columns = {
        "theta_g": theta_g,
        "theta_hg": theta_hg,
        "theta_g_se": noise * np.abs(theta_g),
        "theta_hg_se_given_g": noise * np.abs(theta_hg),
    }
    spec = runs.spec.assign(se_df=499.0)
    known = {name: pd.Series(value).where(measured) for name, value in columns.items()}
    return replace(runs, spec=spec, filters=runs.filters.assign(**known))


@pytest.mark.parametrize(
    ("r", "noise", "verdict"),
    [
        (0.95, 0.1, "supported"),
        (0.2, 0.1, "not supported"),
        (0.95, 0.9, "undecided"),
        (0.2, 0.9, "undecided"),
    ],
)
def test_runs_are_judged_at_three_epochs(r: float, noise: float, verdict: str) -> None:
    found = pv.claims(correlated(r, noise), NAME)
    assert list(found["epoch"]) == [0, 2, 8]
    assert set(found["verdict"]) == {verdict}
    assert set(found["figure"]) == {"3, 15"}
    assert found["value"].to_numpy() == pytest.approx(r, abs=0.1)
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()


def test_the_end_of_a_run_that_was_cut_off_is_not_judged() -> None:
    runs = correlated(0.95, 0.1)
    spec = runs.spec.assign(epochs=80)
    found = pv.claims(replace(runs, spec=spec), NAME)
    assert list(found["epoch"]) == [0, 20, 80]  # 8 epochs are near neither a quarter nor the end
    assert list(found["verdict"]) == ["supported", "not testable", "not testable"]
    assert found["reason"][2] == "no seed holds theta_g and theta_hg near epoch 80"
    assert found["value"].notna().tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("seeds", "kept", "why"), [((1,), 0, "in each seed"), ((0, 1, 2), 5, "only")]
)
def test_missing_errors_never_count_as_clear(seeds: tuple[int, ...], kept: int, why: str) -> None:
    runs = correlated(0.95, 0.1)
    names = runs.spec.loc[runs.spec["seed"].isin(seeds), "run"]
    place = runs.filters.groupby(["run", "epoch"], observed=True).cumcount()
    lost = runs.filters["run"].isin(names) & (place >= kept)
    errors = {name: runs.filters[name].mask(lost) for name in ("theta_g_se", "theta_hg_se_given_g")}
    found = pv.claims(replace(runs, filters=runs.filters.assign(**errors)), NAME)
    assert set(found["verdict"]) == {"undecided"}
    assert found["reason"].str.contains(why).all()


def test_two_seeds_are_too_few() -> None:
    found = pv.claims(correlated(0.95, 0.1, seeds=2), NAME)
    assert set(found["verdict"]) == {"not testable"}
    assert set(found["reason"]) == {"needs 3 seeds, has 2"}
    assert (found["seeds"] == 2).all() and found["value"].notna().all()


def test_runs_without_the_quantities_are_not_testable() -> None:
    runs = correlated(0.95, 0.1)
    lacking = replace(runs, filters=runs.filters.assign(theta_hg=np.nan))
    (row,) = pv.claims(lacking, NAME).to_dict("records")
    assert row["verdict"] == "not testable"
    assert "no epoch of all seeds has theta_g and theta_hg" in row["reason"]


def weights(noise: float | None) -> pv.Runs:
    """Runs of single weights whose correlation is 0.9, with errors on request."""
    runs = make_runs({"resnet56": SMALL["resnet56"]}, epochs=8, every=2, unit="weight")
    rows = [
        {"run": run, "epoch": epoch, "x": "theta_hg", "y": "theta_g", "method": method, "r": 0.9}
        for run in runs.spec["run"]
        for epoch in (0, 2, 8)
        for method in ("pearson", "spearman")
    ]
    held = replace(runs, correlations=pd.DataFrame(rows).assign(n=100))
    if noise is None:
        return held
    errors = {f"{name}_se": noise * held.filters[name].abs() for name in ("theta_g", "theta_hg")}
    spec = held.spec.assign(se_df=499.0, se_df_drawn=7.9)
    return replace(held, spec=spec, filters=held.filters.assign(**errors))


@pytest.mark.parametrize(
    ("noise", "verdict", "why"),
    [
        (None, "undecided", "standard errors are not recorded"),
        (0.1, "supported", "(?:99|100) % of the points are clear"),
        (0.9, "undecided", "only 0 % of the points are clear"),
    ],
)
def test_single_weights_are_judged_by_their_recorded_correlations_and_errors(
    noise: float | None, verdict: str, why: str
) -> None:
    found = pv.claims(weights(noise), NAME)
    assert set(found["figure"]) == {"H1a"} and set(found["unit"]) == {"weight"}
    assert set(found["verdict"]) == {verdict}
    assert found["reason"].str.contains(why).all()


# Thin copies


def thinned(folder: Path, runs: pv.Runs, *asked: Mapping[str, Any]) -> pv.Runs:
    """The recordings on disk, each thinned as asked; an empty request leaves it whole."""
    save_runs(runs, folder / "full")
    for path, how in zip(sorted((folder / "full").iterdir()), asked, strict=True):
        if how:
            thin(path, folder / "thin", **how)
            shutil.rmtree(path)
    return pv.load([part for part in (folder / "full", folder / "thin") if any(part.iterdir())])


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (({"epochs": [0, 2]}, {}, {}), "only seeds 1, 2 hold both quantities at epoch 8; the thin"),
        (({"epochs": [0, 2]},) * 2 + ({},), "only seed 2 holds both quantities at epoch 8; 2 thin"),
        (({"epochs": [0, 2]},) * 3, "no seed holds theta_g and theta_hg near epoch 8; 3 thin"),
    ],
    ids=["one", "two", "all"],
)
def test_an_epoch_that_thin_copies_left_out_is_not_testable(
    tmp_path: Path, asked: tuple[dict[str, Any], ...], why: str
) -> None:
    runs = correlated(0.95, 0.1)
    found, whole = (pv.claims(each, NAME) for each in (thinned(tmp_path, runs, *asked), runs))
    early = [each[each["epoch"] < 8].drop(columns="runs") for each in (found, whole)]
    pd.testing.assert_frame_equal(*early)
    assert list(found["epoch"]) == [0, 2, 8]
    assert found["verdict"][2] == "not testable" and found["reason"][2].startswith(why)
    assert str(found["reason"][2]).endswith("left out that epoch")


def test_a_quantity_that_a_thin_copy_left_out_is_not_judged_without_its_seed(
    tmp_path: Path,
) -> None:
    asked = ({"columns": ["theta_g", "theta_g_se", "theta_hg_se_given_g"]}, {}, {}, {})
    found = pv.claims(thinned(tmp_path, correlated(0.95, 0.1, seeds=4), *asked), NAME)
    assert set(found["verdict"]) == {"not testable"} and len(found) == 3
    assert found["reason"].str.contains("s0 left out theta_hg").all()
    gone = ({"columns": ["theta_g"]},) * 3
    (none,) = pv.claims(thinned(tmp_path / "all", correlated(0.95, 0.1), *gone), NAME)["reason"]
    assert none == "no epoch of all seeds has theta_g and theta_hg: 3 thin copies left out theta_hg"


def test_errors_that_a_thin_copy_left_out_are_said_to_be(tmp_path: Path) -> None:
    asked = ({"columns": ["theta_g", "theta_hg"]}, {}, {})
    found = pv.claims(thinned(tmp_path, correlated(0.95, 0.1), *asked), NAME)
    assert set(found["verdict"]) == {"undecided"}
    assert found["reason"].str.contains("not there in each seed: the thin copy .*theta_g_se").all()


def test_errors_of_one_quantity_do_not_decide_where_a_thin_copy_left_out_the_others(
    tmp_path: Path,
) -> None:
    runs = correlated(0.95, 0.1)
    noisy = runs.filters.assign(theta_hg_se=9 * runs.filters["theta_hg"].abs())
    runs = replace(runs, filters=noisy)
    assert pv.claims(runs, NAME)["reason"].str.startswith("only 0 % of the points").all()
    kept = {"columns": ["theta_g", "theta_hg", "theta_g_se"]}
    found = pv.claims(thinned(tmp_path, runs, kept, kept, kept), NAME)
    assert set(found["verdict"]) == {"undecided"}
    assert found["reason"].str.contains("3 thin copies left out theta_hg_se;").all()
