"""Recordings and tables from anywhere become runs to draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.source import TABLE_RUN, only_epochs, runs_of
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=2, every=1)


def snapshot() -> pd.DataFrame:
    return pd.DataFrame({"layer": ["a", "a"], "filter": [0, 1], "mine": [0.1, 0.2]})


def test_a_snapshot_is_one_run_at_epoch_0() -> None:
    found = runs_of(snapshot())
    assert list(found.spec["run"]) == [TABLE_RUN]
    rows = found.read("filters", ["run", "epoch", "layer", "filter", "mine"], complete=["mine"])
    assert list(rows["epoch"]) == [0, 0]
    assert list(rows["mine"]) == [0.1, 0.2]


def test_facts_in_a_table_become_facts_of_its_runs(runs: Runs) -> None:
    table = runs.with_spec("filters", "network", "seed")
    found = runs_of(table)
    facts = found.spec.set_index("run")["network"].to_dict()
    assert facts == runs.spec.set_index("run")["network"].to_dict()


def test_what_a_snapshot_carries_becomes_a_fact_of_its_run() -> None:
    table = snapshot().assign(theta_g=[0.5, -0.5], theta_g_se_iid=[0.1, 0.2])
    table.attrs["sample_size"] = 9
    found = runs_of(table)
    np.testing.assert_allclose(pv.score(found, "gate_fisher"), [0.25 + 0.08, 0.25 + 0.32])
    named = runs_of(table.assign(sample_size=5))
    assert list(named.spec["sample_size"]) == [5]


def test_epochs_and_rounds_are_tables_too(runs: Runs) -> None:
    assert len(runs_of(runs.epochs).epochs) == len(runs.epochs)
    rounds = pd.DataFrame({"round": [1], "layer": ["a"], "filters": [4], "kept": [2], "run": ["r"]})
    assert list(runs_of(rounds).rounds["kept"]) == [2]


def test_what_is_no_table_of_the_log_is_refused() -> None:
    with pytest.raises(FigureError, match="none of filters, epochs or rounds"):
        runs_of(pd.DataFrame({"a": [1]}))
    with pytest.raises(FigureError, match="not list"):
        runs_of([1])  # type: ignore[arg-type]


def test_runs_are_chosen_by_name_and_by_fact(runs: Runs) -> None:
    first = str(runs.spec["run"].iloc[0])
    assert len(runs_of(runs, first)) == 1
    assert set(runs_of(runs, {"seed": 1}).spec["seed"]) == {1}
    with pytest.raises(FigureError, match="nonsense"):
        runs_of(runs, "nonsense")


def test_negative_epochs_count_from_the_last() -> None:
    assert only_epochs([0, 4, 16], [-1, 0]) == [0, 16]
    with pytest.raises(FigureError, match=r"epoch 3 .* 0, 4 and 16"):
        only_epochs([0, 4, 16], 3)


def test_filters_are_drawn_unless_another_unit_is_named(runs: Runs) -> None:
    names = list(runs.spec["run"])
    mixed = replace(runs, spec=runs.spec.assign(unit=["filter", "weight", *["head"] * 7]))
    assert list(runs_of(mixed).spec["run"]) == names[:1]
    assert list(runs_of(mixed, unit="weight").spec["run"]) == names[1:2]
    with pytest.raises(FigureError, match="rows of weight and head; choose one with unit='weight'"):
        runs_of(mixed, names[1:])
    with pytest.raises(FigureError, match="no run has rows of unit 'expert'"):
        runs_of(mixed, unit="expert")
