"""Verdicts on the first layers: on recordings whose truth is known, error rates, plain loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis.rules_ratios import ACCUSED, OTHERS
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import RATIO_MEASURES
from tests.support.plain_verdicts import first_layer_verdicts
from tests.support.synthetic_runs import make_pruned_runs, with_coupled_layers
from tests.support.verdict_rates import Pruning, rates

NAME = "first layers"
NET = {"vgg13": (200, 200, 200, 200, 200, 200, 200)}
FEW = dict.fromkeys(OTHERS, 0.5)


@cache
def bare(seeds: int) -> Runs:
    runs = make_pruned_runs(
        NET, RATIO_MEASURES, (1, 5, 7), seeds=range(seeds), target=0.65, prune_phase_only=True
    )
    last = runs.rounds[runs.rounds["epoch"] == runs.rounds.groupby("run")["epoch"].transform("max")]
    return with_coupled_layers(replace(runs, rounds=last))


def recordings(shares: Mapping[str, float], spread: float = 0.01, seeds: int = 5) -> Runs:
    """Runs of all measures that prune a known share of all layers, which varies between runs."""
    runs = bare(seeds)
    random = np.random.default_rng(3)
    share = {
        run: np.clip(shares[measure] + spread * random.standard_normal(), 0.0, 0.95)
        for run, measure in zip(runs.spec["run"], runs.spec["measure"], strict=True)
    }
    pruned = runs.rounds["filters"] * runs.rounds["run"].astype("str").map(share)
    kept = (runs.rounds["filters"] - pruned).round().astype("int64")
    return replace(runs, rounds=runs.rounds.assign(kept=kept))


def verdicts(runs: Runs) -> pd.DataFrame:
    return pv.claims(runs, NAME)


def test_the_measures_are_those_of_the_figures() -> None:
    assert {ACCUSED, *OTHERS} == set(RATIO_MEASURES)


@pytest.mark.parametrize(
    ("grasp", "spread", "word", "told"),
    [
        (0.9, 0.01, "supported", "a lead above 20 points"),
        (0.6, 0.01, "not supported", "a lead below 20 points"),
        (0.1, 0.01, "not supported", "; GraSP (T = 1) "),
        (0.73, 0.08, "undecided", "neither shown nor excluded"),
    ],
)
def test_recordings_of_which_the_truth_is_known(
    grasp: float, spread: float, word: str, told: str
) -> None:
    found = verdicts(recordings({**FEW, ACCUSED: grasp}, spread))
    assert list(found["what"]) == ["5 rounds", "7 rounds"]  # the claim is not about 1 round
    assert list(found["verdict"]) == [word, word]
    assert found["reason"].str.contains(told, regex=False).all()
    assert list(found["figure"]) == ["16", ""]  # the paper has no 7 rounds


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.1])
def test_verdicts_equal_those_of_plain_loops(spread: float) -> None:
    for grasp in (0.6, 0.8):
        runs = recordings({**FEW, ACCUSED: grasp}, spread, seeds=4)
        plain = first_layer_verdicts(runs)
        found = verdicts(runs)
        assert len(plain) == len(found) == 2
        for (_, row), same in zip(found.iterrows(), plain.values(), strict=True):
            assert (row["value"], row["low"], row["high"]) == pytest.approx(same[:3])
            assert row["verdict"] == same.verdict


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("true_lead", "wrong"),
    [(0.0, "supported"), (20.0, "supported"), (20.0, "not supported"), (35.0, "not supported")],
)
def test_few_figures_get_any_false_verdict(seeds: int, true_lead: float, wrong: str) -> None:
    random, sets = np.random.default_rng(seeds), 400
    case = Pruning(true_lead, 6, seeds)
    share = np.mean([wrong in case.of_figure(random) for _ in range(sets)])
    assert share <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sets)


def test_leads_of_which_nothing_can_be_known_are_undecided() -> None:
    assert rates(Pruning(20, 30, seeds=3))["undecided"] > 0.9


def without(runs: Runs, *measures: str) -> Runs:
    return runs.named(runs.spec.loc[~runs.spec["measure"].isin(measures), "run"])


def test_a_lead_over_some_of_the_measures_supports_nothing() -> None:
    ahead = recordings({**FEW, ACCUSED: 0.9})
    row = verdicts(without(ahead, "grasp_t200", "proposed")).iloc[0]
    assert row["verdict"] == "undecided"
    assert "ahead of those recorded; proposed, grasp_t200 are not recorded" in row["reason"]
    behind = recordings({**FEW, ACCUSED: 0.3})
    assert set(verdicts(without(behind, "grasp_t200"))["verdict"]) == {"not supported"}


def test_what_cannot_be_tested_says_why() -> None:
    runs = recordings({**FEW, ACCUSED: 0.9}, seeds=2)
    for chosen, told in [
        (runs, "needs 3 seeds, has 2; 2 seeds show a lead of 2 sd in 18 % of cases"),
        (runs.select(seed=0), "needs 3 seeds, has 1"),
        (without(runs, ACCUSED), "grasp is not recorded"),
        (without(runs, *OTHERS), f"{', '.join(OTHERS)} are not recorded"),
        (runs.select(rounds=1), "the claim is about 5 rounds and more, which are not recorded"),
        (replace(runs, rounds=runs.rounds[runs.rounds["round"] < 5]), "lacks the last round of"),
        (replace(runs, rounds=runs.rounds[runs.rounds["layer_index"] < 3]), "less than one"),
    ]:
        found = verdicts(chosen)
        assert set(found["verdict"]) == {"not testable"}
        assert found["reason"].str.contains(told, regex=False).all(), found["reason"].iloc[0]


def test_seeds_that_a_measure_lacks_do_not_count() -> None:
    runs = recordings({**FEW, ACCUSED: 0.9})
    lost = runs.spec["measure"].eq("proposed") & runs.spec["seed"].isin([0, 1])
    assert set(verdicts(runs.named(runs.spec.loc[~lost, "run"]))["seeds"]) == {3}


def test_equal_shares_in_all_seeds_vary_by_a_filter_at_least() -> None:
    row = verdicts(recordings({**FEW, ACCUSED: 0.95}, spread=0.0, seeds=3)).iloc[0]
    half = 4.302652730 * (100 / 400) / np.sqrt(6) / np.sqrt(3)  # 400 filters in two layers
    assert row["value"] == pytest.approx(45)
    assert row["high"] - row["value"] == pytest.approx(half)
