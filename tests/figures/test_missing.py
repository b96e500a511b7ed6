"""Missing runs are named, with the commands that record them."""

from __future__ import annotations

import pandas as pd
import pytest

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.chosen_runs import RunGroup, missing_runs
from pruneviz.figures.missing import commands, in_words, recordable, status
from pruneviz.figures.options import DrawOptions
from tests.support.synthetic_runs import runs_of_every_kind

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def spec() -> pd.DataFrame:
    """Runs of every kind, some of them left out."""
    spec = runs_of_every_kind().spec
    return spec[~spec["run"].str.contains("cifar100-proposed|magnitude-r1|grasp-r25")]


def test_one_missing_run_is_named_and_recorded_by_its_data_set(spec: pd.DataFrame) -> None:
    absent = missing_runs(spec, FIGURES["5"], DEFAULT)
    assert absent == (RunGroup("vgg13", "proposed", 5, "cifar100"),)
    assert in_words(absent) == "VGG-13 pruned by Proposed in 5 rounds on CIFAR-100"
    assert commands("5", FIGURES["5"], absent, spec, "data/x y", "x y") == [
        "pruneviz record --preset digits --figures 5 --dataset cifar100 --download --out 'data/x y'"
    ]


def test_a_preset_that_records_the_right_data_sets_need_not_be_told_them(
    spec: pd.DataFrame,
) -> None:
    paper = spec.assign(preset="paper")
    absent = missing_runs(paper, FIGURES["5"], DEFAULT)
    assert commands("5", FIGURES["5"], absent, paper, "d", "d") == [
        "pruneviz record --preset paper --figures 5 --download --out d"
    ]


def test_measures_that_lack_other_rounds_are_told_apart(spec: pd.DataFrame) -> None:
    words = in_words(missing_runs(spec, FIGURES["16"], DEFAULT))
    assert words == (
        "VGG-13 pruned by Magnitude in 1 round on digits, by GraSP (T = 1) in 25 rounds on digits"
    )
    held = "recorded on digits, 1 seed"
    assert status(spec, FIGURES["16"], DEFAULT) == f"{held}; lacks {words} (pruning rounds alone)"


def test_missing_runs_on_several_data_sets_have_a_command_each(spec: pd.DataFrame) -> None:
    several = missing_runs(spec, FIGURES["4"], DEFAULT)
    assert [run.dataset for run in several] == ["cifar10", "cifar100", "cifar100", "mine"]
    assert len(commands("4", FIGURES["4"], several, spec, "d", "d")) == 3


def test_only_the_networks_that_are_missing_are_recorded(spec: pd.DataFrame) -> None:
    others = spec[spec["network"] != "vgg13"]
    absent = missing_runs(others, FIGURES["2"], DEFAULT)
    assert commands("2", FIGURES["2"], absent, others, "d", "d") == [
        "pruneviz record --preset digits --figures 2 --network vgg13 --out d"
    ]


def test_a_figure_that_the_preset_cannot_have_is_recorded_elsewhere(spec: pd.DataFrame) -> None:
    start = spec.assign(preset="paper-init")
    absent = missing_runs(start, FIGURES["16"], DEFAULT)
    assert commands("16", FIGURES["16"], absent, start, "d", "paper-init") == [
        "pruneviz record --preset digits --figures 16 --out data/digits"
    ]
    assert [name for name in FIGURES if recordable(start, name)] == ["3", "13", "14", "15", "H1a"]
    own = start.assign(preset=["digits", *start["preset"][1:]])
    for others in (own, start.assign(preset=None), start[:0]):
        assert all(recordable(others, name) for name in FIGURES)
