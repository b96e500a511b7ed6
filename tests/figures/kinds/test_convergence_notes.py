"""Convergence numbers beside an accuracy curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.kinds import (
    convergence_notes,
)
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import decimal
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.synthetic_runs import SMALL, make_pruned_runs

DEFAULT = DrawOptions()
VGG = {"vgg13": SMALL["vgg13"]}


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_pruned_runs(VGG, rounds=(1, 5, 25), datasets=("cifar100", "cifar10"), epochs=32)


def test_the_claim_is_tested_seed_by_seed(runs: Runs) -> None:
    tables = convergence_notes.tables(runs, FIGURES["5"], DEFAULT)
    assert list(tables) == ["convergence", "leads"]
    assert list(dict.fromkeys(tables["convergence"]["measure"])) == list(CURVE_MEASURES)
    text = convergence_notes.finding(tables, DEFAULT)
    assert text.startswith("CIFAR-10: by the area under the test curve the order is Magnitude (")
    assert text.count("Magnitude before Proposed: by the area as the claim has it") == 2
    area = (
        tables["convergence"]
        .query("quantity == 'area' and dataset == 'cifar10' and measure == 'magnitude'")
        .iloc[0]
    )
    lines = convergence_notes.values(tables, DEFAULT)
    assert (
        sum(
            f"{decimal(100 * area['mean'], 1)} ± {decimal(100 * area['sd'], 1)}" in line
            for line in lines
        )
        == 1
    )
    assert max(map(len, lines)) <= 130 and any("never" in line for line in lines)


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
    other = {
        "magnitude": "loss_preservation",
        "loss_preservation": "magnitude",
        "proposed": "proposed",
    }
    swapped = replace(runs, spec=runs.spec.assign(measure=runs.spec["measure"].map(other)))
    text = convergence_notes.finding(
        convergence_notes.tables(swapped, FIGURES["5"], DEFAULT), DEFAULT
    )
    assert (
        text.count("by the area against the claim") == 4
        and "the order is Loss-pres. (" in text
        and "as the claim has it" not in text
    )


def test_a_single_measure_says_nothing_about_the_claim() -> None:
    alone = make_pruned_runs(VGG, measures=("proposed",))
    tables = convergence_notes.tables(alone, FIGURES["5"], DEFAULT)
    assert list(tables) == [
        "convergence"
    ] and "nothing is said about the claim" in convergence_notes.finding(tables, DEFAULT)
    assert convergence_notes.values(tables, DEFAULT)[2] == "(a) digits"


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        (3.0, "as the claim has it"),
        (-3.0, "against the claim"),
        (0.0, "the seeds do not tell them apart"),
    ],
)
def test_equal_whole_epochs_are_a_hint_and_no_interval(mean: float, said: str) -> None:
    row = {
        "quantity": "epochs_to",
        "threshold": 0.5,
        "pairs": 2,
        "seeds": 2,
        "mean": mean,
        "sd": 0.0,
        "low": mean,
        "high": mean,
    }
    lead = {"dataset": "digits", "ahead": "magnitude", "behind": "proposed", "share": 0.5}
    panel = pd.DataFrame(
        [
            {
                "dataset": "digits",
                "measure": "magnitude",
                "reached": 2,
                **{name: row[name] for name in ("quantity", "threshold", "seeds", "mean", "sd")},
            }
        ]
    )
    lines = convergence_notes.values(
        {"convergence": panel, "leads": pd.DataFrame([row | lead])}, DEFAULT
    )
    assert convergence_notes.verdict(pd.Series(row)) == said + (
        " (the same in every seed, so a hint at most)" if mean else ""
    )
    assert "[" not in lines[-1] and lines[-1].endswith(convergence_notes.verdict(pd.Series(row)))
    assert sum("one in twenty would leave out zero" in line for line in lines) == 1


def test_numbers_of_the_convergence_table_do_not_touch() -> None:
    row = {
        "dataset": "digits",
        "measure": "magnitude",
        "quantity": "epochs_to",
        "seeds": 20,
        "sd": float("nan"),
        "threshold": 0.9,
    }
    panel = pd.DataFrame(
        [
            row | {"reached": 19, "mean": 127.0},
            row | {"reached": 20, "mean": 8.0, "threshold": 0.95},
        ]
    )
    (line,) = (
        line
        for line in convergence_notes.values({"convergence": panel}, DEFAULT)
        if "127.0" in line
    )
    assert line.split("127.0 (19 of 20)")[1].startswith(" ")
