"""Tables of pruned runs: numbers recomputed in plain loops over the rows of the recordings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pruneviz as pv
from pruneviz.analysis.pruned_tables import convergence_table, ratio_table
from pruneviz.plans.needs import RATIO_MEASURES
from tests.support.synthetic_runs import (
    SMALL,
    make_pruned_runs,
    make_runs,
    renamed,
    together,
    with_coupled_layers,
)

ORDER = ("magnitude", "proposed", "loss_preservation")
VGG = {"vgg13": SMALL["vgg13"]}
RESNET = {"resnet56": SMALL["resnet56"]}


@pytest.fixture(scope="module")
def runs() -> pv.Runs:
    """Runs of Figures 1, 4 and 5 beside unpruned ones of another scale and rounds alone."""
    return together(
        make_pruned_runs(RESNET, rounds=(25,), epochs=32),
        make_pruned_runs(VGG, rounds=(1, 5), epochs=32, seeds=(0,)),
        make_pruned_runs(VGG, RATIO_MEASURES, rounds=(1, 5), prune_phase_only=True),
        make_runs(SMALL, epochs=4, seeds=(0, 1)),
    )


def curve(runs: pv.Runs, measure: str, seed: int) -> list[float]:
    """Test accuracies of one run, epoch after epoch."""
    name = f"resnet56-digits-{measure.replace('_', '')}-r25-s{seed}"
    rows = runs.epochs[runs.epochs["run"] == name].sort_values("epoch")
    return list(rows["test_acc"])


def first_epoch(accuracies: list[float], level: float) -> int:
    return next(epoch for epoch, value in enumerate(accuracies) if value >= level)


def area(accuracies: list[float]) -> float:
    pairs = itertools.pairwise(accuracies)
    return sum((one + two) / 2 for one, two in pairs) / (len(accuracies) - 1)


def test_convergence_is_that_of_plain_loops(runs: pv.Runs) -> None:
    table = convergence_table(["1"], runs).table.set_index("measure")
    assert list(table.index) == list(ORDER)
    curves = {name: [curve(runs, name, seed) for seed in range(3)] for name in ORDER}
    best = max(one[-1] for each in curves.values() for one in each)
    for name, each in curves.items():
        row = table.loc[name]
        assert (row["network"], row["dataset"], row["rounds"]) == ("resnet56", "digits", 25)
        assert (row["seeds"], row["best"]) == (3, f"{100 * best:.1f} %")
        for share in (0.5, 0.8):
            times = [first_epoch(one, share * best) for one in each]
            assert row[f"to {100 * share:g} %"] == f"{np.mean(times):.1f}"
        assert row["area"] == f"{100 * np.mean([area(one) for one in each]):.1f} %"
        assert row["final"] == f"{100 * np.mean([one[-1] for one in each]):.1f} %"


def test_leads_are_paired_by_seed_with_student_intervals(runs: pv.Runs) -> None:
    table = convergence_table(["1"], runs).table.set_index("measure")
    for ahead, behind in (ORDER[:2], ORDER[1:]):
        row = table.loc[ahead]
        points = [
            100 * (area(curve(runs, ahead, seed)) - area(curve(runs, behind, seed)))
            for seed in range(3)
        ]
        low, high = stats.t.interval(0.95, 2, np.mean(points), stats.sem(points))
        assert (row["ahead of"], row["pairs"]) == (behind, "3")
        assert row["lead, points"] == f"{np.mean(points):.2f}"
        assert row["95 %, points"] == f"{low:.2f} to {high:.2f}"
    last = table.loc["loss_preservation"]
    assert not any(last[name] for name in ("ahead of", "pairs", "lead, points", "95 %, epochs"))


def test_leads_are_the_numbers_that_the_verdicts_are_of(runs: pv.Runs) -> None:
    table = convergence_table(["1"], runs).table.set_index("measure")
    judged = pv.claims(runs, "order of convergence").set_index("what")
    for ahead, behind in (ORDER[:2], ORDER[1:]):
        for unit in ("points", "epochs"):
            known = judged.loc[f"25 rounds, {ahead} before {behind}, {unit}"]
            mean = table.loc[ahead, f"lead, {unit}"].partition(" (without")[0]
            assert mean == f"{known['value']:.2f}"
            assert table.loc[ahead, f"95 %, {unit}"] == f"{known['low']:.2f} to {known['high']:.2f}"


def test_one_seed_has_a_lead_and_no_interval(runs: pv.Runs) -> None:
    found = convergence_table(["4"], runs)
    row = found.table.set_index("measure").loc["magnitude"]
    assert row["lead, points"] and row["pairs"] == "1"
    assert (row["95 %, points"], row["95 %, epochs"]) == ("", "")
    assert "A lead over one seed has no interval" in found.notes


@pytest.mark.parametrize(
    ("figure", "network", "rounds"), [("5", "vgg13", 5), ("12", "resnet56", 25)]
)
def test_a_figure_shows_its_own_network_and_rounds(
    runs: pv.Runs, figure: str, network: str, rounds: int
) -> None:
    table = convergence_table([figure], runs).table
    assert set(table["network"]) == {network} and set(table["rounds"]) == {rounds}
    assert convergence_table(["9"], runs).table.empty


def test_batch_norm_modes_have_rows_that_are_told_apart(runs: pv.Runs) -> None:
    other = renamed(replace(runs, spec=runs.spec.assign(bn="batch")), "-b")
    for both in (together(runs, other), together(other, runs)):
        for figures in (["5"], ["12"]):
            found = convergence_table(figures, both).table
            alone = convergence_table(figures, runs).table
            assert list(dict.fromkeys(found["bn"])) == ["eval", "batch"]
            assert len(found) == 2 * len(alone)
            eval_rows = found[found["bn"] == "eval"].drop(columns="bn").reset_index(drop=True)
            pd.testing.assert_frame_equal(eval_rows, alone)


def test_a_table_of_several_figures_has_their_rows_in_order(runs: pv.Runs) -> None:
    assert convergence_table([""], runs).table.empty
    mine = make_pruned_runs({"mine": SMALL["vgg13"]}, rounds=(2,), seeds=(0,))
    assert set(convergence_table([""], together(runs, mine)).table["network"]) == {"mine"}
    several = convergence_table(["4", "5", "9", "12"], runs)
    parts = [convergence_table([figure], runs).table for figure in ("4", "5", "12")]
    pd.testing.assert_frame_equal(several.table, pd.concat(parts, ignore_index=True))
    assert len(set(several.notes)) == len(several.notes)


def test_other_runs_beside_them_change_nothing(runs: pv.Runs) -> None:
    alone = convergence_table(["1"], runs.select(network="resnet56", rounds=25))
    beside = convergence_table(["1"], runs)
    pd.testing.assert_frame_equal(alone.table, beside.table)
    assert alone.notes == beside.notes


def test_settings_are_told_apart(runs: pv.Runs) -> None:
    slow = make_pruned_runs(RESNET, rounds=(25,), epochs=40)
    names = {name: f"{name}-slow" for name in slow.spec["run"]}
    slow = replace(
        slow,
        **{
            name: getattr(slow, name).assign(run=getattr(slow, name)["run"].astype(str).map(names))
            for name in ("spec", "epochs", "rounds")
        },
    )
    table = convergence_table(["1"], together(runs, slow)).table
    assert len(table) == 6
    assert list(dict.fromkeys(table["setting"])) == ["epochs 32", "epochs 40"]


def test_an_accuracy_that_is_never_reached_is_told(runs: pv.Runs) -> None:
    of_one = runs.epochs["run"].astype(str) == "resnet56-digits-proposed-r25-s1"
    of_all = runs.epochs["run"].astype(str).str.contains("losspreservation-r25-s")
    low = runs.epochs.assign(test_acc=runs.epochs["test_acc"].mask(of_one | of_all, 0.01))
    found = convergence_table(["1"], replace(runs, epochs=low))
    table = found.table.set_index("measure")
    assert table.loc["proposed", "to 50 %"].endswith("(2 of 3 seeds)")
    assert table.loc["loss_preservation", "to 50 %"] == "never"
    assert table.loc["magnitude", "lead, epochs"] == ""
    assert any("no accuracy is reached by both" in note for note in found.notes)
    seldom = runs.epochs.assign(test_acc=runs.epochs["test_acc"].mask(of_one, 0.5))
    table = convergence_table(["1"], replace(runs, epochs=seldom)).table.set_index("measure")
    assert table.loc["proposed", "lead, epochs"].endswith("(without 80, 90, 95 %)")


def test_what_is_not_recorded_is_told(runs: pv.Runs) -> None:
    some = runs.named([run for run in runs.spec["run"] if "-proposed-r25-" not in run])
    found = convergence_table(["1"], some)
    assert list(found.table["measure"]) == ["magnitude", "loss_preservation"]
    assert found.table.loc[0, "ahead of"] == "loss_preservation"
    assert "resnet56 on digits, 25 rounds: proposed is not recorded" in found.notes
    blind = replace(runs, epochs=runs.epochs.assign(test_acc=np.nan))
    found = convergence_table(["1"], blind)
    assert found.table.empty
    assert found.notes[0].startswith("resnet56 on digits, 25 rounds is left out: no epoch of")


def test_pruned_fractions_are_those_of_plain_sums(runs: pv.Runs) -> None:
    table = ratio_table(runs).table
    assert len(table) == 2 * len(RATIO_MEASURES)
    rounds = runs.rounds.astype({"run": str})
    third = len(SMALL["vgg13"]) // 3
    for _, row in table.iterrows():
        parts = []
        for seed in range(3):
            measure = row["measure"].replace("_", "")
            run = f"vgg13-digits-{measure}-r{row['rounds']}-prunephase-s{seed}"
            last = rounds[(rounds["run"] == run) & (rounds["round"] == row["rounds"])]
            last = last.sort_values("layer_index")
            ends = (last.iloc[:third], last.iloc[-third:], last)
            parts.append([100 * (1 - part["kept"].sum() / part["filters"].sum()) for part in ends])
        for name, shares in zip(
            ("first third", "last third", "whole network"), zip(*parts, strict=True), strict=True
        ):
            assert row[name] == f"{np.mean(shares):.1f} %"
            assert row[f"{name}, over seeds"] == f"{min(shares):.1f} to {max(shares):.1f} %"
        assert row["network"] == "vgg13"


def test_coupled_layers_count_once(runs: pv.Runs) -> None:
    alone = make_pruned_runs(VGG, ("grasp",), (5,), seeds=(0,), prune_phase_only=True)
    found = ratio_table(with_coupled_layers(alone))
    pd.testing.assert_frame_equal(found.table, ratio_table(alone).table)
    assert found.table.loc[0, "first third, over seeds"] == ""
    assert (
        "vgg13: a third is 1 of the 4 layers that are not coupled to an earlier one" in found.notes
    )
    lacks = "magnitude, loss_preservation, proposed, grasp_t200, gradient_norm_preservation are"
    assert f"vgg13 on digits, 5 rounds: {lacks} not recorded" in found.notes


def test_runs_without_their_last_round_are_left_out_with_the_reason(runs: pv.Runs) -> None:
    short = replace(runs, rounds=runs.rounds[runs.rounds["round"] < 5])
    found = ratio_table(short)
    assert set(found.table["rounds"]) == {1}
    assert any(
        "vgg13 on digits, 5 rounds is left out: the rounds table lacks" in n for n in found.notes
    )
