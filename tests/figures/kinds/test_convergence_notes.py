"""Convergence numbers beside an accuracy curve."""

from __future__ import annotations

import itertools

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


def test_measures_are_in_the_order_of_the_claim(runs: Runs) -> None:
    tables = convergence_notes.tables(runs, FIGURES["5"], DEFAULT)
    assert list(tables) == ["convergence", "leads"]
    assert list(dict.fromkeys(tables["convergence"]["measure"])) == list(CURVE_MEASURES)
    pairs = tables["leads"][["ahead", "behind"]].drop_duplicates()
    assert pairs.to_numpy().tolist() == [list(pair) for pair in itertools.pairwise(CURVE_MEASURES)]


def test_the_lines_hold_the_numbers(runs: Runs) -> None:
    tables = convergence_notes.tables(runs, FIGURES["5"], DEFAULT)
    rows = tables["convergence"].set_index(["quantity", "dataset", "measure"]).sort_index()
    area = rows.loc[("area", "cifar10", "magnitude")]
    shown = f"{decimal(100 * area['mean'], 1)} ± {decimal(100 * area['sd'], 1)}"
    lines = convergence_notes.values(tables, DEFAULT)
    assert len([line for line in lines if shown in line]) == 1
    assert max(map(len, lines)) <= 130
    assert any("never" in line for line in lines)


def test_a_single_measure_says_nothing_about_the_claim() -> None:
    alone = make_pruned_runs(VGG, measures=("proposed",))
    tables = convergence_notes.tables(alone, FIGURES["5"], DEFAULT)
    assert list(tables) == ["convergence"]
    assert convergence_notes.values(tables, DEFAULT)[2] == "(a) digits"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"mean": 3.0, "low": 2.0, "high": 4.0}, "3.0 epochs [2.0, 4.0]"),
        ({"mean": -3.0, "low": -3.0, "high": -3.0}, "−3.0 epochs"),  # equal in all seeds
        (
            {"mean": 3.0, "low": 2.0, "high": 4.0, "seeds": 2},
            "3.0 epochs [2.0, 4.0] (2 of 3 seeds)",
        ),
        ({"seeds": 0}, "none"),
        (
            {"quantity": "area", "mean": 0.031, "low": 0.01, "high": 0.052},
            "3.1 points [1.0, 5.2]",
        ),
    ],
)
def test_a_lead_stands_with_its_interval_and_unit(row: dict[str, object], said: str) -> None:
    shared = {"dataset": "digits", "quantity": "epochs_to", "threshold": 0.5, "seeds": 3, "sd": 0.0}
    lead = {"ahead": "magnitude", "behind": "proposed", "share": 0.5, "pairs": 3}
    leads = pd.DataFrame([shared | lead | row])
    panel = pd.DataFrame([shared | {"measure": "magnitude", "reached": 3, "mean": 1.0}])
    lines = convergence_notes.values({"convergence": panel, "leads": leads}, DEFAULT)
    assert lines[-1].split("  ")[-1].strip() == said
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
