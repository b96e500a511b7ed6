"""Figures of runs that differ in more than their measure and seed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from pruneviz.figures.draw import compose
from pruneviz.figures.settings import GROUP, by_setting, lines_of, sentences_of
from pruneviz.log.runs import Runs
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, together

VGG = {"vgg13": SMALL["vgg13"]}


def of_two_modes(runs: Runs) -> Runs:
    """The runs, and the same ones in another batch-norm mode."""

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(run=table["run"].astype(str) + "-batch") if len(table) else table

    tables = {name: renamed(getattr(runs, name)) for name in ("epochs", "filters", "rounds")}
    other = replace(runs, spec=renamed(runs.spec).assign(bn="batch"), **tables)
    return together(runs, other)


def test_a_table_of_one_setting_is_one_part() -> None:
    table = pd.DataFrame({"a": [1, 2]})
    assert [name for name, _ in by_setting(table)] == [""]
    assert lines_of(table, lambda rows: [str(len(rows))]) == ["2"]
    told = table.assign(**{GROUP: ["x", "y"]})
    assert lines_of(told, lambda rows: [str(len(rows))]) == ["x:", "1", "y:", "1"]
    assert sentences_of(told, lambda rows: f"{len(rows)}.") == "x: 1. y: 1."


@pytest.mark.parametrize("figure", ["13", "2"])
def test_unpruned_runs_have_a_panel_for_each_setting(figure: str) -> None:
    runs = make_runs(VGG, seeds=(0, 1), epochs=4, every=2)
    alone, both = compose(figure, runs, networks=["vgg13"]), of_two_modes(runs)
    told = compose(figure, both, networks=["vgg13"])
    assert GROUP not in alone.numbers
    parts = by_setting(told.numbers)
    assert [name for name, _ in parts] == ["bn eval", "bn batch"]
    for _, rows in parts:
        plain = rows.drop(columns=[GROUP, *(["run"] if "run" in rows else [])])
        known = alone.numbers[plain.columns]
        pd.testing.assert_frame_equal(plain.reset_index(drop=True), known)
    assert "bn batch" in told.finding
    assert_readable(told.picture)


@pytest.mark.parametrize(("figure", "phase"), [("5", False), ("17", True)])
def test_pruned_runs_are_told_apart_in_the_picture_and_the_words(figure: str, phase: bool) -> None:
    runs = make_pruned_runs(
        {name: SMALL[name] for name in ("vgg13", "mobilenet_v1")},
        measures=("magnitude", "grasp"),
        rounds=(5,),
        seeds=(0, 1),
        epochs=8,
        prune_phase_only=phase,
    )
    told = compose(figure, of_two_modes(runs))
    assert [name for name, _ in by_setting(told.numbers)] == ["bn eval", "bn batch"]
    assert told.finding.count("bn batch: ") >= 1
    legend = " ".join(text.get_text() for text in told.picture.legends[0].get_texts())
    assert "bn batch" in legend
    assert set(told.numbers["seeds"]) == {2}
