"""Which runs, data sets and epochs a figure is drawn from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.chosen_runs import (
    SETTING,
    UNNAMED_DATASET,
    RunGroup,
    chosen_datasets,
    chosen_spec,
    has_recorded_runs,
    kinds_of,
    missing_runs,
)
from pruneviz.figures.options import DrawOptions
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.plans.needs import CURVE_MEASURES
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, runs_of_every_kind

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def spec() -> pd.DataFrame:
    """Unpruned runs of three networks with three seeds each, on digits."""
    return make_runs(SMALL, epochs=1, every=1).spec


@pytest.fixture(scope="module")
def every_kind() -> pd.DataFrame:
    return runs_of_every_kind().spec


# Epochs


# Data sets


def test_pruned_runs_and_other_data_sets_are_left_out(spec: pd.DataFrame) -> None:
    pruned = spec.assign(run="p-" + spec["run"], rounds=5, target=0.6)
    other = spec.assign(run="c-" + spec["run"], dataset="cifar100")
    both = pd.concat([spec, pruned, other], ignore_index=True)
    assert set(chosen_spec(both, FIGURES["3"], DEFAULT)["dataset"]) == {"cifar100"}
    digits = chosen_spec(both, FIGURES["3"], DrawOptions(dataset="digits"))
    assert list(digits["run"]) == [f"resnet56-digits-s{seed}" for seed in range(3)]


def test_several_data_sets_without_a_preferred_one_must_be_chosen_from(spec: pd.DataFrame) -> None:
    other = spec.assign(run="c-" + spec["run"], dataset="cifar10")
    with pytest.raises(FigureError, match=r"cifar10 and digits.*--dataset"):
        chosen_spec(pd.concat([spec, other], ignore_index=True), FIGURES["3"], DEFAULT)


def test_accuracy_curves_take_every_data_set_and_other_figures_one(
    every_kind: pd.DataFrame,
) -> None:
    panels = chosen_spec(every_kind, FIGURES["5"], DEFAULT)
    assert list(dict.fromkeys(panels["dataset"])) == ["cifar10", "cifar100", "mine"]
    assert list(panels["measure"]) == list(CURVE_MEASURES) * 3
    mine = chosen_spec(every_kind, FIGURES["5"], DrawOptions(dataset="mine"))
    assert set(mine["dataset"]) == {"mine"}


def test_a_figure_with_a_data_set_of_its_own_is_drawn_from_that_one(spec: pd.DataFrame) -> None:
    assert chosen_datasets(spec, FIGURES["I1"], DrawOptions(dataset="mine")) == ("tiny-imagenet",)
    tiny = spec.assign(run="t-" + spec["run"], dataset="tiny-imagenet")
    both = pd.concat([spec, tiny], ignore_index=True)
    assert chosen_datasets(both, FIGURES["2"], DEFAULT) == ("digits",)
    assert chosen_datasets(both, FIGURES["I1"], DEFAULT) == ("tiny-imagenet",)


def test_runs_without_a_data_set_are_drawn_where_there_are_no_others(spec: pd.DataFrame) -> None:
    unnamed = spec.assign(dataset=None)
    assert set(chosen_spec(unnamed, FIGURES["3"], DEFAULT)["dataset"]) == {UNNAMED_DATASET}
    assert not missing_runs(unnamed, FIGURES["2"], DEFAULT)
    some = spec.assign(dataset=spec["dataset"].where(spec["seed"] > 0, None))
    assert list(chosen_spec(some, FIGURES["3"], DEFAULT)["seed"]) == [1, 2]


# Kinds of runs


def test_every_figure_takes_runs_of_its_own_kind_alone(every_kind: pd.DataFrame) -> None:
    counts = {"unpruned": 3, "weights": 3, "pruned": 54, "prune_phase": 54}
    assert kinds_of(every_kind).value_counts().to_dict() == counts
    for figure, count in {"3": 1, "2": 3, "H1a": 1, "H1b": 3, "5": 9, "10": 9, "16": 18}.items():
        entry = FIGURES[figure]
        chosen = chosen_spec(every_kind, entry, DEFAULT)
        assert len(chosen) == count, figure
        assert not missing_runs(every_kind, entry, DEFAULT), figure
        assert set(kinds_of(chosen)) == {entry.need.kind}, figure
        assert set(chosen["rounds"]) == set(entry.need.rounds), figure


@pytest.mark.parametrize("figure", ["6", "I1"])
def test_a_figure_without_runs_is_not_recorded(figure: str, every_kind: pd.DataFrame) -> None:
    assert not has_recorded_runs(every_kind, FIGURES[figure], DEFAULT)
    assert missing_runs(every_kind, FIGURES[figure], DEFAULT)


def test_a_run_with_a_target_counts_as_pruned(every_kind: pd.DataFrame) -> None:
    is_resnet = every_kind["run"].eq("resnet56-digits-s0")
    half = every_kind.assign(target=np.where(is_resnet, 0.5, every_kind["target"]))
    absent = (RunGroup("resnet56", None, 0, None),)
    assert missing_runs(half, FIGURES["3"], DEFAULT) == absent


def test_missing_networks_are_told_apart(spec: pd.DataFrame) -> None:
    others = spec[spec["network"] != "vgg13"]
    absent = (RunGroup("vgg13", None, 0, "digits"),)
    assert missing_runs(others, FIGURES["2"], DEFAULT) == absent
    elsewhere = missing_runs(others, FIGURES["2"], DrawOptions(dataset="cifar10"))
    assert tuple(run.network for run in elsewhere) == FIGURES["2"].networks
    held = r"no finished run of vgg13 \(unpruned\) is among .*resnet56 on digits \(unpruned\)"
    with pytest.raises(FigureError, match=held):
        chosen_spec(others, FIGURES["13"], DEFAULT)


# Runs that differ in more than their measure and seed


def test_runs_of_other_settings_are_told_apart_and_those_of_one_seed_refused(
    spec: pd.DataFrame,
) -> None:
    assert SETTING not in chosen_spec(spec, FIGURES["3"], DEFAULT)
    other = spec.assign(bn=spec["bn"].mask(spec["run"] == "resnet56-digits-s1", "batch"))
    told = chosen_spec(other, FIGURES["3"], DEFAULT)
    assert dict(zip(told["run"], told[SETTING], strict=True)) == {
        "resnet56-digits-s0": "bn eval",
        "resnet56-digits-s1": "bn batch",
        "resnet56-digits-s2": "bn eval",
    }
    with pytest.raises(FigureError, match="share network, data set and seed"):
        chosen_spec(spec.assign(seed=0), FIGURES["3"], DEFAULT)


@pytest.mark.parametrize(
    "fact", sorted({*OPTION_NAMES} - {"measure", "rounds", "prune_phase_only"})
)
def test_pruned_runs_of_other_recipes_are_neither_averaged_nor_compared(fact: str) -> None:
    value = {"target": 0.7, "schedule": "linear", "keep_at_least": 0.5}.get(fact, True)
    known = {"prune_at_start": False, "carry_momentum": False}
    spec = make_pruned_runs({"vgg13": SMALL["vgg13"]}, **known).spec.astype({fact: object})
    assert SETTING not in chosen_spec(spec, FIGURES["5"], DEFAULT)
    spec.loc[spec["run"] == "vgg13-digits-proposed-r5-s1", fact] = value
    apart = chosen_spec(spec, FIGURES["5"], DEFAULT).set_index("run")[SETTING]
    assert apart.value_counts().tolist() == [8, 1]
    assert apart["vgg13-digits-proposed-r5-s1"] != apart["vgg13-digits-proposed-r5-s0"]
    spec.loc[spec["measure"] == "proposed", fact] = value  # follows from the measure
    apart = chosen_spec(spec, FIGURES["5"], DEFAULT)
    assert apart.groupby("measure")[SETTING].nunique().eq(1).all()
    assert apart[SETTING].value_counts().tolist() == [6, 3]
