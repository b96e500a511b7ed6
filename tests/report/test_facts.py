from __future__ import annotations

from pathlib import Path

import pandas as pd

import pruneviz as pv
from pruneviz.report.facts import facts_of

ROOT = Path(__file__).resolve().parents[2] / "data"


def facts(run: str) -> dict[str, str]:
    return dict(facts_of(pv.load(ROOT / run)))


def test_the_head_names_what_was_recorded() -> None:
    found = facts("cifar-half/mobilenetv1-cifar100-unpruned-s0")
    assert found["network"] == "MobileNet-V1, 0.5 of the full width"
    assert found["data set"] == "CIFAR-100"
    assert found["final accuracy"] == "55.6 % (test, epoch 30)"
    assert found["batch norm"].startswith("eval: ")
    assert found["trained on"] == "50,000 images"
    assert found["measured on"] == "2,500 examples"
    assert found["schedule"] == "30 epochs, learning rate 0.1, falling at 15, 23"
    assert found["pruning"] == "none"


def test_pruning_is_told_with_measure_rounds_and_target() -> None:
    found = facts("cifar-mini-pruned/resnet56-cifar100-proposed-r5-s0")
    assert found["pruning"] == "Proposed, 5 rounds, 60 %"


def test_a_run_that_states_hardly_anything_has_few_facts() -> None:
    runs = pv.load(ROOT / "cifar-mini" / "vgg13-cifar100-unpruned-s0")
    bare = pv.Runs(
        pd.DataFrame({"run": ["mine"]}), runs.epochs[["run", "epoch"]], runs.filters, runs.rounds
    )
    assert facts_of(bare) == [["pruning", "none"]]


def test_an_accuracy_of_ones_own_is_told_by_its_name() -> None:
    runs = pv.load(ROOT / "cifar-mini" / "vgg13-cifar100-unpruned-s0")
    epochs = runs.epochs.drop(columns="test_acc").assign(val_acc=0.25, note_acc="text")
    own = pv.Runs(runs.spec, epochs, runs.filters, runs.rounds)
    assert dict(facts_of(own))["final accuracy"] == "25.0 % (val_acc, epoch 16)"


def test_a_loop_of_ones_own_that_pruned_says_so() -> None:
    runs = pv.load(ROOT / "cifar-mini" / "vgg13-cifar100-unpruned-s0")
    for says, told in ((True, "by a loop of one's own"), ("by hand, 30 %", "by hand, 30 %")):
        spec = runs.spec.assign(pruned=says)
        own = pv.Runs(spec, runs.epochs, runs.filters, runs.rounds)
        assert dict(facts_of(own))["pruning"] == told
