"""The JSON beside a figure is machine-readable and complete."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pruneviz.figures.details import facts_of, plain, records
from pruneviz.figures.draw import compose, save_figure
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs, runs_of_every_kind

KEYS = (
    *("schema", "name", "title", "kind", "description", "claim", "finding", "verdicts"),
    *("missing", "values", "tables", "options", "runs", "alt", "text"),
)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return runs_of_every_kind()


def read(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("figure", ["2", "3", "5", "16"])
def test_the_file_holds_what_the_caption_leaves_out(
    figure: str, runs: Runs, tmp_path: Path
) -> None:
    *_, path = save_figure(figure, runs, tmp_path, formats=())
    facts, composed = read(path), compose(figure, runs)
    assert tuple(facts) == KEYS
    assert facts == json.loads(json.dumps(composed.details))
    assert facts["name"] == path.stem and facts["finding"] == composed.finding
    for name, table in composed.tables.items():
        assert len(facts["tables"][name]) == len(table)
    names = {run["run"] for run in facts["runs"]}
    assert names == set(names & set(runs.spec["run"])) and names
    assert facts["values"] and all("seeds" in row for row in facts["values"])


def test_values_are_the_drawn_numbers(runs: Runs, tmp_path: Path) -> None:
    composed = compose("3", runs)
    panels = composed.numbers.drop_duplicates("epoch")
    values = pd.DataFrame(composed.details["values"])
    for name in ("epoch", "pearson", "spearman_sd", "filters"):
        np.testing.assert_array_equal(values[name].astype(float), panels[name].astype(float))
    assert not {"filter", "theta_g"} & set(values)


def test_runs_of_other_settings_have_values_of_their_own() -> None:
    runs = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0, 1), epochs=4, every=2)
    runs = replace(runs, spec=runs.spec.assign(bn=["eval", "batch"]))
    values = compose("13", runs).details["values"]
    assert [row["group"] for row in values] == ["bn eval"] * 2 + ["bn batch"] * 2


def test_facts_are_shared_or_stand_with_each_run() -> None:
    spec = pd.DataFrame(
        {
            "run": ["a", "b"],
            "seed": [0, 1],
            "bn": ["eval", "eval"],
            "temperatures": [(1.0, 200.0), (1.0,)],
            "lr": [0.1, None],
            "versions": [{"torch": "2"}, {"torch": "2"}],
            "empty": [None, None],
        }
    )
    shared, runs = facts_of(spec)
    assert shared == {"bn": "eval", "versions": {"torch": "2"}}
    assert runs == [
        {"run": "a", "seed": 0, "temperatures": [1.0, 200.0], "lr": 0.1},
        {"run": "b", "seed": 1, "temperatures": [1.0], "lr": None},
    ]


def test_values_become_what_json_has() -> None:
    assert plain(np.float32(0.5)) == 0.5 and isinstance(plain(np.int64(3)), int)
    assert plain(np.bool_(True)) is True and plain(float("nan")) is None
    assert plain(pd.NA) is None and plain({1: (2, np.inf)}) == {"1": [2, None]}
    assert plain(Path("x")) == "x"
    assert records(pd.DataFrame({"a": [1, 2], "b": [np.nan, 0.5]})) == [
        {"a": 1, "b": None},
        {"a": 2, "b": 0.5},
    ]
