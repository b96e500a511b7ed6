"""The own association of a curve with its masks: against plain loops, by simulation, on runs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.claims import RULES
from pruneviz.analysis.rules_curve import Association, association, decide
from pruneviz.log.thinning import thin
from tests.support.synthetic_runs import make_runs, save_runs
from tests.support.verdict_rates import FALSE, TRUE, Moving, rates

NAME = "association with masks"
RULE = RULES[NAME]
CASES = {**TRUE, **FALSE}


@pytest.mark.parametrize("seeds", [2, 5])
def test_against_plain_loops(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    r, m = random.standard_normal((2, seeds, 12)).round(1)  # with ties
    found = association(r, m)
    rho = np.array([[stats.spearmanr(a, b)[0] for b in m] for a in r])
    own = [rho[i, i] for i in range(seeds)]
    other = [rho[i, j] for i, j in itertools.permutations(range(seeds), 2)]
    assert found.own == pytest.approx(np.mean(own))
    assert found.other == pytest.approx(np.mean(other))
    assert found.d == pytest.approx(np.mean(own) - np.mean(other))
    means = [
        np.mean([rho[i, order[i]] for i in range(seeds)])
        for order in itertools.permutations(range(seeds))
    ]
    assert found.p == pytest.approx(np.mean(np.array(means) <= np.mean(own) + 1e-9))
    changes = [stats.spearmanr(np.diff(a), np.diff(b))[0] for a, b in zip(r, m, strict=True)]
    assert found.differences == pytest.approx(np.mean(changes))
    partial = [residual_correlation(a, b) for a, b in zip(r, m, strict=True)]
    assert found.partial == pytest.approx(np.mean(partial))


def residual_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of what the epoch does not explain of the ranks."""
    time = np.vander(np.arange(len(a)), 2)
    ranks = [stats.rankdata(values) for values in (a, b)]
    left = [rank - time @ np.linalg.lstsq(time, rank, rcond=None)[0] for rank in ranks]
    return float(np.corrcoef(*left)[0, 1])


@pytest.mark.parametrize("seeds", [3, 6])
def test_the_interval_is_that_of_the_jackknife(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    r, m = random.standard_normal((2, seeds, 12))
    found = association(r, m)
    without = [
        association(np.delete(r, seed, axis=0), np.delete(m, seed, axis=0)).d
        for seed in range(seeds)
    ]
    pseudo = seeds * found.d - (seeds - 1) * np.array(without)
    low, high = stats.t.interval(0.95, seeds - 1, pseudo.mean(), stats.sem(pseudo))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_many_seeds_are_permuted_at_random() -> None:
    r, m = np.random.default_rng(0).standard_normal((2, 8, 12))
    assert association(r, -r).p == pytest.approx(1e-4, abs=1e-4)
    assert 0.01 < association(r, m).p < 1
    assert association(r, m) == association(r, m), "the same draws each time"


def test_a_constant_curve_and_a_single_seed_have_no_association() -> None:
    r = np.random.default_rng(0).standard_normal((3, 6))
    assert np.isnan(association(r, np.zeros((3, 6))).d)
    single = association(r[:1], r[1:2])
    assert np.isnan([single.d, single.low, single.p]).all()
    assert single.own == pytest.approx(stats.spearmanr(r[0], r[1])[0])
    rising = np.arange(6.0) + np.zeros((3, 1))
    assert np.isnan(association(rising, -rising).partial), "no curve is left beside the epoch"


FOUND = Association(
    *(-0.8, -0.1, -0.7, -0.9, -0.5),
    p=0.008,
    partial=-0.6,
    differences=-0.3,
    seeds=5,
    epochs=15,
)


@pytest.mark.parametrize(
    ("change", "p", "verdict"),
    [
        ({}, 0.024, "supported"),
        ({}, 0.06, "undecided"),  # after correction
        ({"d": -0.1, "low": -0.15, "high": -0.05}, 0.024, "undecided"),  # no chance, but small
        ({"d": 0.0, "low": -0.1, "high": 0.1, "p": 0.5}, 0.9, "not supported"),
        ({"d": 0.0, "low": -0.3, "high": 0.3, "p": 0.5}, 0.9, "undecided"),
        (
            {"d": 0.0, "low": -0.1, "own": -0.78, "other": -0.78, "p": 0.5},
            1,
            "not supported",
        ),
    ],
)
def test_each_condition_decides(change: dict[str, float], p: float, verdict: str) -> None:
    word, reason = decide(replace(FOUND, **change), p, RULE)  # type: ignore[arg-type]
    assert word == verdict
    assert f"own {change.get('own', -0.8):.2f}, another seed's" in reason


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if type(case) is Moving])
def test_rates_of_wrong_verdicts(name: str) -> None:
    repeats = 240
    found = rates(CASES[name], repeats)
    slack = 3 * np.sqrt(0.05 * 0.95 / repeats)
    wrong = "not supported" if name in TRUE else "supported"
    assert found.get(wrong, 0) <= 0.05 + slack
    if name in TRUE:
        assert found["supported"] > 0.5, "power"


def test_a_plain_rank_correlation_would_judge_unrelated_series() -> None:
    case = Moving(0.0, trend=0.0, memory=0.95, seeds=1)
    random = np.random.default_rng(0)
    rho = [abs(association(*case.drawn(random)).own) for _ in range(200)]
    assert np.mean(np.array(rho) >= 0.5) > 0.3


# On recordings


def moving(own: float, seeds: int = 5) -> pv.Runs:
    """Runs whose curve follows its own mask distances, beside a trend that all share."""
    random = np.random.default_rng(1)
    runs = make_runs({"vgg13": (60,)}, range(seeds), epochs=10, every=1)
    filters, epochs = runs.filters.astype({"run": "str"}), runs.epochs.astype({"run": "str"})
    bumps = {run: random.uniform(-1, 1, 11) for run in runs.spec["run"]}
    at = zip(epochs["run"], epochs["epoch"], strict=True)
    epochs["mask_distance"] = [0.3 - 0.01 * epoch + 0.1 * bumps[run][epoch] for run, epoch in at]
    parts = []
    for (run, epoch), rows in filters.groupby(["run", "epoch"], sort=False):
        change = (rows["sigma"] * rows["sigma_delta"]).abs()
        curve = 0.5 + 0.02 * epoch - own * 0.3 * bumps[str(run)][epoch]
        parts.append(rows.assign(abs_theta_g=with_correlation(change, curve, random)))
    return replace(runs, filters=pd.concat(parts), epochs=epochs)


def with_correlation(x: pd.Series, r: float, random: np.random.Generator) -> pd.Series:
    """Values whose sample correlation with x is r exactly."""
    if x.isna().any():
        return x
    noise = random.standard_normal(len(x))
    z = (x - x.mean()) / x.std(ddof=0)
    left = noise - noise.mean() - z * np.mean(noise * z)
    return 10 + r * z + np.sqrt(1 - r**2) * left / np.std(left)


@pytest.mark.parametrize(
    ("own", "seeds", "verdict"),
    [(1.0, 5, "supported"), (0.0, 5, "not supported"), (1.0, 4, "not testable")],
)
def test_runs_are_judged(own: float, seeds: int, verdict: str) -> None:
    (row,) = pv.claims(moving(own, seeds), NAME).to_dict("records")
    assert row["verdict"] == verdict, row["reason"]
    assert (row["figure"], row["network"], row["seeds"]) == ("2", "vgg13", seeds)
    if verdict == "not testable":
        assert row["reason"] == "needs 5 seeds, has 4"
    else:
        assert row["low"] <= row["value"] <= row["high"] and 0 < row["p"] <= 1


def test_too_few_common_epochs_are_not_testable() -> None:
    runs = moving(1.0)
    few = replace(runs, epochs=runs.epochs[runs.epochs["epoch"] < 4])
    (row,) = pv.claims(few, NAME).to_dict("records")
    assert row["reason"] == "needs 5 epochs with correlation and mask distance, has 3"
    still = replace(runs, epochs=runs.epochs.assign(mask_distance=0.0))
    assert "does not change" in pv.claims(still, NAME)["reason"].iloc[0]
    lacking = replace(runs, filters=runs.filters.assign(sigma_delta=np.nan))
    assert "are not recorded" in pv.claims(lacking, NAME)["reason"].iloc[0]


def test_single_weights_are_judged_by_their_recorded_correlations() -> None:
    runs = make_runs({"vgg13": (6,)}, range(5), epochs=6, every=1, unit="weight")
    random = np.random.default_rng(0)
    keys = runs.epochs[["run", "epoch"]].astype({"run": "str"})
    bumps = random.uniform(0.1, 0.9, len(keys))
    correlations = keys.assign(
        x="loss_preservation", y="theta_change", method="pearson", n=100, r=bumps
    )
    held = replace(
        runs, correlations=correlations, epochs=runs.epochs.assign(mask_distance=1 - bumps)
    )
    (row,) = pv.claims(held, NAME).to_dict("records")
    assert (row["verdict"], row["figure"], row["unit"]) == ("supported", "H1b", "weight")


def test_curves_over_fewer_epochs_than_those_of_the_full_runs_are_told(tmp_path: Path) -> None:
    save_runs(moving(0.9), tmp_path / "full")
    paths = sorted((tmp_path / "full").iterdir())
    copies = [thin(path, tmp_path / "thin", epochs=range(9)).path for path in paths[:1]]
    (row,) = pv.claims(pv.load([*copies, *paths[1:]]), NAME).to_dict("records")
    assert f"the thin copy {paths[0].name} left out measured epochs" in row["reason"]
    (row,) = pv.claims(pv.load(paths), NAME).to_dict("records")
    assert "thin" not in row["reason"]
