"""Verdicts on convergence: on recordings whose truth is known, error rates, a second writing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.claims import RULES
from pruneviz.analysis.lead_tests import lead, power
from pruneviz.analysis.rules_convergence import (
    ORDER,
    ROUNDING,
    WHOLE_ORDER,
    Pair,
    judge_pairs,
    order_verdict,
    unreached,
)
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.plain_verdicts import convergence_verdicts
from tests.support.synthetic_runs import make_pruned_runs, together
from tests.support.verdict_rates import OPEN, Leading, rates

NAME = "order of convergence"
RULE = RULES[NAME]
NET = {"vgg13": (4, 4, 4)}


@cache
def bare(seeds: int, datasets: tuple[str, ...]) -> Runs:
    return make_pruned_runs(NET, datasets=datasets, seeds=range(seeds), epochs=80)


def recordings(
    paces: Mapping[str, float],
    seeds: int = 5,
    spread: float = 0.02,
    datasets: tuple[str, ...] = ("cifar10",),
) -> Runs:
    """Runs whose test accuracy rises at a pace of each measure, which varies between runs."""
    runs = bare(seeds, datasets)
    random = np.random.default_rng(7)
    pace = {
        run: paces[measure] * np.exp(spread * random.standard_normal())
        for run, measure in zip(runs.spec["run"], runs.spec["measure"], strict=True)
    }
    paced = runs.epochs["run"].astype("str").map(pace)
    rise = 0.9 * (1 - np.exp(-paced * runs.epochs["epoch"] / 80))
    return replace(runs, epochs=runs.epochs.assign(test_acc=rise))


def test_runs_that_learnt_nothing_are_no_evidence() -> None:
    runs = recordings({"magnitude": 12.0, "proposed": 8.0, "loss_preservation": 6.0})
    chance = 0.01 + 0.002 * np.sin(runs.epochs.index.to_numpy())
    untrained = replace(runs, epochs=runs.epochs.assign(test_acc=chance))
    for classes, learnt in ((100, False), (None, True)):
        spec = runs.spec.assign(num_classes=classes)
        found = pv.claims(replace(untrained, spec=spec), NAME)
        assert (set(found["verdict"]) != {"not testable"}) == learnt
        if not learnt:
            assert found["reason"].str.contains("no run has learnt: the best test accur").all()
        trained = pv.claims(replace(runs, spec=spec), NAME)
        assert set(trained["verdict"]) == {"supported"}


TRUE = {"magnitude": 12.0, "proposed": 8.0, "loss_preservation": 6.0}
REVERSED = dict(zip(TRUE, reversed(TRUE.values()), strict=True))
ALIKE = dict.fromkeys(TRUE, 8.0)


def verdicts(runs: Runs) -> pd.DataFrame:
    found = pv.claims(runs, NAME)
    return found.assign(pair=found["what"].str.partition(", ")[2]).set_index("pair")


def test_the_order_is_that_of_the_figures() -> None:
    assert ORDER == CURVE_MEASURES


@pytest.mark.parametrize(
    ("paces", "spread", "word", "told"),
    [
        (TRUE, 0.02, "supported", "the whole interval is above 0"),
        (REVERSED, 0.02, "not supported", "the other way round"),
        (ALIKE, 0.005, "not supported", "no relevant difference"),
        (TRUE, 0.5, "undecided", "neither no lead nor one of 1"),
    ],
)
def test_recordings_of_which_the_truth_is_known(
    paces: Mapping[str, float], spread: float, word: str, told: str
) -> None:
    found = verdicts(recordings(paces, spread=spread))
    assert len(found) == 5
    assert set(found["verdict"]) == {word}
    pairs = found.drop(index=WHOLE_ORDER)
    assert pairs["reason"].str.contains(told).all()
    assert set(found["seeds"]) == {5}
    assert set(found["figure"]) == {"5"}


def test_verdicts_equal_those_of_plain_loops() -> None:
    for number, spread in enumerate((0.02, 0.1, 0.3)):
        runs = recordings(TRUE, 3 + number, spread, ("cifar10", "cifar100"))
        plain = convergence_verdicts(runs)
        found = pv.claims(runs, NAME)
        pairs = found[~found["what"].str.contains(WHOLE_ORDER)]
        assert len(pairs) == len(plain) == 8
        for _, row in pairs.iterrows():
            ahead, unit = row["what"].split(", ")[1].split()[0], row["what"].split(", ")[2]
            same = plain[row["dataset"], ahead, unit]
            assert (row["value"], row["low"], row["high"]) == pytest.approx(same[:3])
            assert row["verdict"] == same.verdict


@pytest.mark.parametrize("unit", ["points", "epochs"])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("true_lead", "wrong"), [(-1.0, "supported"), (0.0, "supported"), (1.0, "not supported")]
)
def test_few_figures_get_any_false_verdict(
    unit: str, seeds: int, true_lead: float, wrong: str
) -> None:
    random, sets = np.random.default_rng(seeds), 300
    case = Leading(true_lead, 0.7, seeds, unit, leads=4)
    share = np.mean([wrong in case.of_figure(random) for _ in range(sets)])
    assert share <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sets)


def test_leads_of_which_nothing_can_be_known_are_undecided() -> None:
    assert rates(OPEN["lead of 0.5 points, sd 5, 3 seeds"])["undecided"] > 0.9


def test_relevant_leads_are_found_with_the_stated_power() -> None:
    share = rates(Leading(4, 2, leads=1), repeats=400)["supported"]
    assert share == pytest.approx(power(5, 2), abs=3 * np.sqrt(0.09 * 0.91 / 400))


@pytest.mark.parametrize(
    ("values", "word", "told"),
    [
        ([0.3, 0.4, 0.35, 0.36, 0.37], "not supported", "ahead, but by less than 1 point"),
        ([-4.0, 1.0, -3.0, 0.5, -3.5], "undecided", "5 seeds show a lead of 2 sd in 91 %"),
        ([-9.0, -1.0, -3.0, -0.5, -3.5], "not supported", "no lead of 1 point"),
        ([2.0, 2.0, 2.0], "undecided", "the same in all 3 seeds"),
        ([0.0, 0.0, 0.0], "not supported", "no relevant difference"),
        ([2.0, 3.0], "not testable", "needs 3 seeds, has 2; 2 seeds show a lead of 2 sd in 18 %"),
        ([2.0], "not testable", "needs 3 seeds, has 1"),
    ],
)
def test_single_leads(values: list[float], word: str, told: str) -> None:
    pair = Pair("a", "b", "points", lead(np.array(values)), seeds=len(values))
    ((verdict, reason, _),) = judge_pairs([pair], RULE)
    assert verdict == word
    assert told in reason


def test_more_leads_of_a_figure_need_a_clearer_one() -> None:
    values = [2.0, 3.2, 1.0, 2.7]
    clear, p = lead(np.array(values)), stats.ttest_1samp(values, 0).pvalue
    noise = lead(np.array([-9.0, 9.0, -8.0, 9.5]))
    alone = judge_pairs([Pair("a", "b", "points", clear, seeds=4)], RULE)
    many = judge_pairs(
        [Pair("a", "b", "points", one, seeds=4) for one in (clear, *[noise] * 9)], RULE
    )
    assert alone[0][0] == "supported"
    assert many[0][0] == "undecided"
    assert many[0][1] == f"the interval decides, but not after Holm (p = {10 * p:.2g})"


def test_whole_epochs_without_spread_are_no_certainty() -> None:
    runs = recordings(TRUE, seeds=3, spread=0.0)
    row = verdicts(runs).loc["magnitude before proposed, epochs"]
    half = 4.302652730 * ROUNDING / np.sqrt(3)
    assert row["high"] - row["value"] == pytest.approx(half)


@pytest.mark.parametrize(
    ("pairs", "complete", "word"),
    [
        ([["supported"] * 2, ["supported"] * 2], True, "supported"),
        ([["supported"] * 2], False, "undecided"),
        ([["supported"] * 2, ["supported", "undecided"]], True, "undecided"),
        ([["supported", "not supported"], ["supported"] * 2], True, "undecided"),
        ([["supported"] * 2, ["not supported"] * 2], True, "not supported"),
        ([["not testable"] * 2, ["not supported"] * 2], True, "not supported"),
        ([["not testable"] * 2, ["supported"] * 2], True, "undecided"),
        ([["not testable"] * 2, ["not testable"] * 2], True, "not testable"),
        ([], False, "not testable"),
    ],
)
def test_the_order_follows_from_its_pairs(
    pairs: list[list[str]], complete: bool, word: str
) -> None:
    assert order_verdict({("a", str(at)): one for at, one in enumerate(pairs)}, complete) == word


def test_what_is_not_recorded_is_told() -> None:
    runs = recordings(TRUE)
    two = runs.named(name for name in runs.spec["run"] if "proposed" not in name)
    found = verdicts(two)
    assert found.loc["magnitude before loss_preservation, points", "verdict"] == "supported"
    order = found.loc[WHOLE_ORDER]
    assert order["verdict"] == "undecided"
    assert order["reason"].endswith("proposed is not recorded")

    alone = verdicts(runs.select(measure="proposed"))
    assert list(alone["verdict"]) == ["not testable"]
    blind = replace(runs, epochs=runs.epochs.assign(test_acc=np.nan))
    assert set(verdicts(blind)["reason"]) == {"test accuracies are not recorded"}
    short = runs.epochs["run"].astype("str").eq(runs.spec["run"].iloc[0])
    cut = replace(runs, epochs=runs.epochs[~(short & (runs.epochs["epoch"] > 70))])
    assert verdicts(cut)["reason"].str.contains("span different epochs").all()


def test_an_accuracy_that_is_not_reached_in_every_seed_does_not_count() -> None:
    runs = recordings(TRUE)
    weak = runs.spec["measure"].eq("loss_preservation").to_numpy()
    slow = runs.epochs["run"].astype("str").isin(runs.spec["run"][weak])
    lower = runs.epochs["test_acc"].where(~slow, 0.4 * runs.epochs["test_acc"])
    row = verdicts(replace(runs, epochs=runs.epochs.assign(test_acc=lower))).loc[
        "proposed before loss_preservation, epochs"
    ]
    assert (row["verdict"], row["seeds"]) == ("not testable", 5)
    assert row["reason"] == "no accuracy is reached by both measures in every seed"


def test_only_common_seeds_are_paired_and_settings_are_apart() -> None:
    runs = recordings(TRUE)
    fewer = runs.named(
        name for name in runs.spec["run"] if not ("proposed" in name and name[-1] in "01")
    )
    rows = verdicts(fewer)
    assert rows.loc["magnitude before proposed, points", "seeds"] == 3
    wide = recordings(TRUE, seeds=3)
    renamed = wide.spec["run"] + "-wide"
    wide = Runs(
        wide.spec.assign(run=renamed, width=2.0),
        wide.epochs.assign(run=(wide.epochs["run"].astype("str") + "-wide").astype("category")),
        wide.filters,
        wide.rounds.assign(run=(wide.rounds["run"].astype("str") + "-wide").astype("category")),
    )
    found = pv.claims(together(runs, wide), NAME)
    assert sorted(found["seeds"].unique()) == [3, 5]
    assert found["what"].str.contains("width").all()


def test_accuracies_that_one_measure_never_reaches_are_not_equal() -> None:
    rows = pd.DataFrame(
        {
            "quantity": "epochs_to",
            "share": [0.5, 0.8, 0.9] * 2,
            "value": [3.0, 8.0, np.nan] * 2,
            "value_behind": [3.0, np.nan, np.nan] * 2,
        }
    )
    assert unreached(rows) == "80 %"
    assert unreached(rows[rows["share"] != 0.8]) == ""
    equal = Pair("a", "b", "epochs", lead(np.zeros(5), 0.4), seeds=5)
    words = [judge_pairs([one], RULE)[0] for one in (equal, replace(equal, unreached="80 %"))]
    assert [word[0] for word in words] == ["not supported", "undecided"]
    assert "80 % of the best accuracy" in words[1][1]
