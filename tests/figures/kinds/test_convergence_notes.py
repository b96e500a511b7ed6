"""Convergence numbers beside an accuracy curve, and what they say to the paper's claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.kinds import convergence_notes
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from pruneviz.plot.words import decimal
from tests.support.synthetic_runs import SMALL, make_pruned_runs

DEFAULT = DrawOptions()
VGG = {"vgg13": SMALL["vgg13"]}


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_pruned_runs(VGG, rounds=(5,), datasets=("cifar100", "cifar10"), epochs=32)


def test_the_claim_is_tested_seed_by_seed(runs: Runs) -> None:
    tables = convergence_notes.tables(runs, FIGURES["5"], DEFAULT)
    assert list(tables) == ["convergence", "leads"]
    assert list(dict.fromkeys(tables["convergence"]["measure"])) == list(CURVE_MEASURES)
    text = convergence_notes.finding(tables, DEFAULT)
    assert text.startswith("CIFAR-10: by the area under the test curve the order is Magnitude (")
    assert text.count("Magnitude before Proposed: by the area as the claim has it") == 2


def test_the_lines_hold_the_numbers(runs: Runs) -> None:
    tables = convergence_notes.tables(runs, FIGURES["5"], DEFAULT)
    rows = tables["convergence"].set_index(["quantity", "dataset", "measure"]).sort_index()
    area = rows.loc[("area", "cifar10", "magnitude")]
    shown = f"{decimal(100 * area['mean'], 1)} ± {decimal(100 * area['sd'], 1)}"
    lines = convergence_notes.values(tables, DEFAULT)
    assert len([line for line in lines if shown in line]) == 1
    assert max(map(len, lines)) <= 130
    assert any("never" in line for line in lines)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"mean": 1.0, "low": 0.5, "high": 1.5}, "as the claim has it"),
        ({"mean": -1.0, "low": -1.5, "high": -0.5}, "against the claim"),
        ({"mean": 1.0, "low": -0.1, "high": 2.1}, "the seeds do not tell them apart"),
        ({"mean": 0.0, "low": 0.0, "high": 0.0}, "the seeds do not tell them apart"),
        (
            {"mean": 1.0, "pairs": 1, "seeds": 1},
            "as the claim has it (one seed, so a hint at most)",
        ),
        ({"mean": -1.0, "pairs": 1, "seeds": 1}, "against the claim (one seed, so a hint at most)"),
        ({"mean": 0.0, "pairs": 1, "seeds": 1}, "no difference in the one seed"),
        (
            {"mean": 1.0, "low": 0.9, "high": 1.1, "seeds": 2},
            "not compared: both reach it in 2 of 3 seeds",
        ),
        ({"mean": 1.0, "low": 0.5, "high": 1.5, "quantity": "final"}, "no part of the claim"),
    ],
)
def test_verdicts(row: dict[str, object], said: str) -> None:
    whole = {"quantity": "area", "pairs": 3, "seeds": 3, "low": np.nan, "high": np.nan, **row}
    assert convergence_notes.verdict(pd.Series(whole)) == said


def test_a_claim_that_does_not_hold_is_not_said_to_hold(runs: Runs) -> None:
    swap = {"magnitude": "loss_preservation", "loss_preservation": "magnitude"}
    measures = runs.spec["measure"].map(lambda measure: swap.get(measure, measure))
    swapped = replace(runs, spec=runs.spec.assign(measure=measures))
    tables = convergence_notes.tables(swapped, FIGURES["5"], DEFAULT)
    text = convergence_notes.finding(tables, DEFAULT)
    assert text.count("by the area against the claim") == 4
    assert "the order is Loss-pres. (" in text
    assert "as the claim has it" not in text


def test_a_single_measure_says_nothing_about_the_claim() -> None:
    alone = make_pruned_runs(VGG, measures=("proposed",))
    tables = convergence_notes.tables(alone, FIGURES["5"], DEFAULT)
    assert list(tables) == ["convergence"]
    assert "nothing is said about the claim" in convergence_notes.finding(tables, DEFAULT)
    assert convergence_notes.values(tables, DEFAULT)[2] == "(a) digits"


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        (3.0, "as the claim has it (the same in every seed, so a hint at most)"),
        (-3.0, "against the claim (the same in every seed, so a hint at most)"),
        (0.0, "the seeds do not tell them apart"),
    ],
)
def test_equal_whole_epochs_are_a_hint_and_no_interval(mean: float, said: str) -> None:
    shared = {
        "dataset": "digits",
        "quantity": "epochs_to",
        "threshold": 0.5,
        "seeds": 2,
        "mean": mean,
        "sd": 0.0,
    }
    lead = {"ahead": "magnitude", "behind": "proposed", "share": 0.5, "pairs": 2}
    leads = pd.DataFrame([shared | lead | {"low": mean, "high": mean}])
    panel = pd.DataFrame([shared | {"measure": "magnitude", "reached": 2}])
    lines = convergence_notes.values({"convergence": panel, "leads": leads}, DEFAULT)
    assert convergence_notes.verdict(leads.iloc[0]) == said
    assert lines[-1].endswith(said)
    assert "[" not in lines[-1]
    assert len([line for line in lines if "one in twenty would leave out zero" in line]) == 1


def test_numbers_of_the_convergence_table_do_not_touch() -> None:
    shared = {
        "dataset": "digits",
        "measure": "magnitude",
        "quantity": "epochs_to",
        "seeds": 20,
        "sd": np.nan,
    }
    longest = {"threshold": 0.9, "reached": 19, "mean": 127.0}
    next_to_it = {"threshold": 0.95, "reached": 20, "mean": 8.0}
    panel = pd.DataFrame([shared | longest, shared | next_to_it])
    lines = convergence_notes.values({"convergence": panel}, DEFAULT)
    (line,) = (line for line in lines if "127.0" in line)
    assert line.split("127.0 (19 of 20)")[1].startswith(" ")
