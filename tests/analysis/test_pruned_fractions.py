"""Pruned fractions of layers and networks: against plain pandas, by hand, and refused input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.pruned_fractions import (
    after_last_round,
    network_fractions,
    numbered_rounds,
    pruned_fractions,
)
from pruneviz.errors import AnalysisError, LogError
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import RATIO_MEASURES
from tests.support.synthetic_runs import LAYERS, make_pruned_runs, with_coupled_layers

VGG13 = {"vgg13": LAYERS["vgg13"]}


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_pruned_runs(VGG13, RATIO_MEASURES, (1, 5, 25), target=0.65, prune_phase_only=True)


def pruned_share(rows: pd.DataFrame) -> float:
    return 1 - rows["kept"].sum() / rows["filters"].sum()


def test_numbers_equal_plain_pandas(runs: Runs) -> None:
    found = pruned_fractions(runs.rounds, runs.spec).set_index(["measure", "rounds", "layer"])
    assert len(found) == len(RATIO_MEASURES) * 3 * len(LAYERS["vgg13"])
    assert found.index.is_unique
    by_run = {
        run: rows[rows["round"] == rows["round"].max()].set_index("layer")
        for run, rows in runs.rounds.groupby("run", observed=True)
    }
    for (measure, rounds), spec in runs.spec.groupby(["measure", "rounds"]):
        last = [by_run[run] for run in spec["run"]]
        mine = found.loc[measure, rounds]
        assert set(mine["seeds"]) == {3}

        ratios = pd.DataFrame([1 - rows["kept"] / rows["filters"] for rows in last])
        assert mine["ratio"].to_dict() == pytest.approx(ratios.mean().to_dict())
        assert mine["ratio_sd"].to_dict() == pytest.approx(ratios.std().to_dict())

        whole = [pruned_share(rows) for rows in last]
        assert mine["network_ratio"].unique() == pytest.approx([np.mean(whole)])
        assert mine["network_ratio_sd"].unique() == pytest.approx([np.std(whole, ddof=1)])

        halves = [(pruned_share(rows[:5]), pruned_share(rows[5:])) for rows in last]
        means = np.mean(halves, axis=0).tolist()
        assert mine[["first_half", "second_half"]].iloc[0].tolist() == pytest.approx(means)

        thirds = [(pruned_share(rows[:3]), pruned_share(rows[7:])) for rows in last]
        means = np.mean(thirds, axis=0).tolist()
        assert mine[["first_third", "last_third"]].iloc[0].tolist() == pytest.approx(means)

        loads = [first - second for first, second in halves]
        assert mine["front_loading"].unique() == pytest.approx([np.mean(loads)])
        assert mine["front_loading_sd"].unique() == pytest.approx([np.std(loads, ddof=1)])


def test_parts_count_only_deciding_layers_and_leave_out_the_middle_one() -> None:
    rows = pd.DataFrame(
        {
            "filters": [10, 10, 40, 7, 20, 20, 100],
            "kept": [1, 5, 40, 7, 5, 5, 0],
            "layer_index": [0, 1, 2, 3, 5, 6, 4],
            "coupled_to": [None, None, None, None, None, None, "an earlier layer"],
        }
    )
    shuffled = rows.iloc[[5, 2, 0, 6, 1, 3, 4]]  # row order does not matter
    odd = network_fractions(shuffled)
    assert odd["network_ratio"] == pytest.approx(1 - 63 / 107)
    assert (odd["first_half"], odd["second_half"]) == pytest.approx((1 - 46 / 60, 1 - 17 / 47))
    even = network_fractions(rows[rows["layer_index"] != 6])
    assert (even["first_half"], even["second_half"]) == pytest.approx((1 - 6 / 20, 1 - 12 / 27))
    assert even["front_loading"] == pytest.approx(even["first_half"] - even["second_half"])
    assert (odd["first_third"], odd["last_third"]) == pytest.approx((1 - 6 / 20, 1 - 10 / 40))
    assert (even["first_third"], even["last_third"]) == pytest.approx((1 - 1 / 10, 1 - 5 / 20))
    alone = network_fractions(rows[:1])
    assert alone["network_ratio"] == pytest.approx(0.9)
    assert alone.drop("network_ratio").isna().all()


def test_coupled_layers_are_listed_and_change_no_number_of_the_network(runs: Runs) -> None:
    plain = pruned_fractions(runs.rounds, runs.spec)
    coupled = with_coupled_layers(runs)
    doubled = pruned_fractions(coupled.rounds, coupled.spec)
    own = doubled[doubled["coupled_to"].isna()]
    groups = len(own) // len(LAYERS["vgg13"])
    assert len(doubled) - len(own) == len(own) - groups  # none after the last layer
    for name in ("ratio", "network_ratio", "first_half", "second_half", "front_loading"):
        assert own[name].tolist() == plain[name].tolist()


def test_only_the_last_round_counts_and_must_be_recorded(runs: Runs) -> None:
    last = after_last_round(runs.rounds, runs.spec)
    assert len(last) == len(runs.spec) * len(LAYERS["vgg13"])
    run = runs.spec.loc[runs.spec["rounds"] == 25, "run"].iloc[0]
    cut = runs.rounds[~((runs.rounds["run"] == run) & (runs.rounds["round"] == 25))]
    with pytest.raises(AnalysisError, match=f"lacks the last round of {run}"):
        after_last_round(cut, runs.spec)
    with pytest.raises(LogError, match="the rounds table has no column coupled_to"):
        after_last_round(runs.rounds.drop(columns="coupled_to"), runs.spec)


def test_rounds_without_numbers_are_numbered_by_their_epochs(runs: Runs) -> None:
    bare = runs.rounds.assign(round=np.nan)
    assert numbered_rounds(bare)["round"].tolist() == runs.rounds["round"].tolist()
    found = after_last_round(bare, runs.spec)
    assert found["kept"].tolist() == after_last_round(runs.rounds, runs.spec)["kept"].tolist()


@pytest.mark.parametrize("changes", [{"filters": 9}, {"layer": "another"}])
def test_runs_that_differ_in_their_layers_are_not_averaged(changes: dict[str, object]) -> None:
    runs = make_pruned_runs(VGG13, RATIO_MEASURES, (1,), seeds=(0, 1), prune_phase_only=True)
    odd = (runs.rounds["run"] == runs.spec["run"].iloc[0]) & (runs.rounds["layer_index"] == 0)
    rounds = runs.rounds.astype({"layer": "str"})
    rounds.loc[odd, list(changes)] = list(changes.values())
    differ = r"averaged \(network vgg13, dataset digits, measure magnitude, .*\) differ in layer"
    with pytest.raises(AnalysisError, match=differ):
        pruned_fractions(rounds, runs.spec)
