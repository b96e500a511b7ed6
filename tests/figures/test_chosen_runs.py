"""Which runs, data sets and epochs a figure is drawn from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.chosen_runs import (
    RunGroup,
    chosen_datasets,
    chosen_spec,
    is_recorded,
    kinds_of,
    missing_runs,
    nearest_epochs,
)
from pruneviz.figures.kinds import scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.synthetic_runs import (
    SMALL,
    make_pruned_runs,
    make_runs,
    runs_of_every_kind,
    together,
)

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL)


def test_epochs_keep_the_fractions_of_the_schedule() -> None:
    assert nearest_epochs(range(0, 161, 10), 160, scatter.FRACTIONS) == [0, 40, 160]
    assert nearest_epochs(range(17), 16, scatter.FRACTIONS) == [0, 4, 16]
    assert nearest_epochs([0, 3, 6, 9, 10], 10, scatter.FRACTIONS) == [0, 3, 10]
    assert nearest_epochs([0, 1], 1, scatter.FRACTIONS) == [0, 1]


def test_pruned_runs_and_other_data_sets_are_left_out(runs: Runs) -> None:
    pruned = runs.spec.assign(run="p-" + runs.spec["run"], rounds=5, target=0.6)
    other = runs.spec.assign(run="c-" + runs.spec["run"], dataset="cifar100")
    spec = pd.concat([runs.spec, pruned, other], ignore_index=True)
    assert set(chosen_spec(spec, FIGURES["3"], DEFAULT)["dataset"]) == {"cifar100"}
    assert list(chosen_spec(spec, FIGURES["3"], DrawOptions(dataset="digits"))["run"]) == [
        f"resnet56-digits-s{seed}" for seed in range(3)
    ]
    with pytest.raises(FigureError, match=r"cifar10 and digits.*--dataset"):
        chosen_spec(spec.replace({"dataset": {"cifar100": "cifar10"}}), FIGURES["3"], DEFAULT)


def test_runs_that_cannot_be_averaged_are_refused(runs: Runs) -> None:
    spec = runs.spec.copy()
    spec.loc[spec["run"] == "resnet56-digits-s1", "bn"] = "batch"
    with pytest.raises(
        FigureError, match=r"differ in bn \(resnet56-digits-s0: eval; resnet56-digits-s1: batch"
    ):
        chosen_spec(spec, FIGURES["3"], DEFAULT)
    with pytest.raises(FigureError, match="share network, data set and seed"):
        chosen_spec(runs.spec.assign(seed=0), FIGURES["3"], DEFAULT)


def test_missing_networks_are_told_apart(runs: Runs) -> None:
    spec = runs.spec[runs.spec["network"] != "vgg13"]
    assert missing_runs(spec, FIGURES["2"], DEFAULT) == (RunGroup("vgg13", None, 0, "digits"),)
    assert [
        run.network for run in missing_runs(spec, FIGURES["2"], DrawOptions(dataset="cifar10"))
    ] == list(FIGURES["2"].networks)
    with pytest.raises(
        FigureError,
        match=r"no finished run of vgg13 \(unpruned\) is among .*resnet56 on digits \(unpruned\)",
    ):
        chosen_spec(spec, FIGURES["13"], DEFAULT)


def test_every_figure_takes_runs_of_its_own_kind_alone() -> None:
    spec = runs_of_every_kind().spec
    assert kinds_of(spec).value_counts().to_dict() == {
        "unpruned": 3,
        "weights": 3,
        "pruned": 54,
        "prune_phase": 54,
    }
    for figure, count in {"3": 1, "2": 3, "H1a": 1, "H1b": 3, "5": 9, "10": 9, "16": 18}.items():
        chosen = chosen_spec(spec, FIGURES[figure], DEFAULT)
        assert len(chosen) == count and not missing_runs(spec, FIGURES[figure], DEFAULT)
        assert set(kinds_of(chosen)) == {FIGURES[figure].need.kind}
        assert set(chosen["rounds"]) == set(FIGURES[figure].need.rounds)
    for figure in ("6", "I1"):
        assert not is_recorded(spec, FIGURES[figure], DEFAULT) and missing_runs(
            spec, FIGURES[figure], DEFAULT
        )
    half = spec.assign(target=np.where(spec["run"].eq("resnet56-digits-s0"), 0.5, spec["target"]))
    assert missing_runs(half, FIGURES["3"], DEFAULT) == (RunGroup("resnet56", None, 0, None),)


def test_accuracy_curves_take_every_data_set_and_other_figures_one() -> None:
    spec = runs_of_every_kind().spec
    panels = chosen_spec(spec, FIGURES["5"], DEFAULT)
    assert list(dict.fromkeys(panels["dataset"])) == ["cifar10", "cifar100", "mine"]
    assert list(panels["measure"]) == list(CURVE_MEASURES) * 3
    assert set(chosen_spec(spec, FIGURES["5"], DrawOptions(dataset="mine"))["dataset"]) == {"mine"}
    assert chosen_datasets(spec, FIGURES["I1"], DrawOptions(dataset="mine")) == ("tiny-imagenet",)
    tiny = together(
        make_runs(SMALL, seeds=(0,), epochs=4),
        make_runs(SMALL, seeds=(0,), epochs=4, dataset="tiny-imagenet"),
    ).spec
    assert chosen_datasets(tiny, FIGURES["2"], DEFAULT) == ("digits",) and chosen_datasets(
        tiny, FIGURES["I1"], DEFAULT
    ) == ("tiny-imagenet",)


@pytest.mark.parametrize(
    ("fact", "value"), [("target", 0.7), ("carry_momentum", True), ("flowandprune", True)]
)
def test_pruned_runs_of_other_recipes_are_not_averaged(fact: str, value: object) -> None:
    spec = make_pruned_runs({"vgg13": SMALL["vgg13"]}, carry_momentum=False).spec
    other = spec.astype({fact: object})
    other.loc[other["run"] == "vgg13-digits-proposed-r5-s1", fact] = value
    with pytest.raises(
        FigureError, match=rf"averaged over seeds differ in {fact} .*proposed-r5-s1: {value}"
    ):
        chosen_spec(other, FIGURES["5"], DEFAULT)
    other.loc[other["measure"] == "proposed", fact] = value
    with pytest.raises(FigureError, match=f"compared in one panel differ in {fact}"):
        chosen_spec(other, FIGURES["5"], DEFAULT)
    assert len(chosen_spec(spec, FIGURES["5"], DEFAULT)) == 9
