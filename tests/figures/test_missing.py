"""Missing runs are named, with the commands that record them."""

from __future__ import annotations

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.chosen_runs import (
    RunGroup,
    missing_runs,
)
from pruneviz.figures.missing import commands, in_words, status
from pruneviz.figures.options import DrawOptions
from tests.support.synthetic_runs import runs_of_every_kind

DEFAULT = DrawOptions()


def test_missing_runs_are_named_and_their_commands_are_exact() -> None:
    runs = runs_of_every_kind()
    bare = runs.spec[~runs.spec["run"].str.contains("cifar100-proposed|magnitude-r1|grasp-r25")]
    absent = missing_runs(bare, FIGURES["5"], DEFAULT)
    assert absent == (RunGroup("vgg13", "proposed", 5, "cifar100"),)
    assert in_words(absent) == "VGG-13 pruned by Proposed in 5 rounds on CIFAR-100"
    assert commands("5", FIGURES["5"], absent, bare, "data/x y", "x y") == [
        "pruneviz record --preset digits --figures 5 --dataset cifar100 --out 'data/x y'"
    ]
    paper = bare.assign(preset="paper")
    assert commands("5", FIGURES["5"], absent, paper, "d", "d") == [
        "pruneviz record --preset paper --figures 5 --out d"
    ]
    absent = missing_runs(bare, FIGURES["16"], DEFAULT)
    assert (
        in_words(absent)
        == "VGG-13 pruned by Magnitude in 1 round on digits, by GraSP (T = 1) in 25 rounds on digits"
    )
    assert (
        status(bare, FIGURES["16"], DEFAULT)
        == f"recorded on digits, 1 seed; lacks {in_words(absent)} (pruning rounds alone)"
    )
    several = missing_runs(bare, FIGURES["4"], DEFAULT)
    assert [run.dataset for run in several] == ["cifar10", "cifar100", "cifar100", "mine"]
    assert len(commands("4", FIGURES["4"], several, bare, "d", "d")) == 3
    two = missing_runs(bare[bare["network"] != "vgg13"], FIGURES["2"], DEFAULT)
    (command,) = commands("2", FIGURES["2"], two, bare, "d", "d")
    assert command == "pruneviz record --preset digits --figures 2 --network vgg13 --out d"
