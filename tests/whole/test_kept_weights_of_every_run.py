"""Every kind of run keeps its weights and finishes, and they are those of the recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pruneviz as pv
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.remeasuring import Remeasuring, remeasure_run, remeasured_name
from pruneviz.experiment.run import record_run
from pruneviz.experiment.setting import Setting
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.log.spec_file import read_spec
from pruneviz.plans.run_plan import RunPlan
from pruneviz.pruning.held_entries import kept_entries
from pruneviz.recording.kept_weights import kept_epochs, load_kept_weights
from tests.support.cut_off import ignore
from tests.support.plans import UNPRUNED

TINY = replace(UNPRUNED, run="r", epochs=1, train_per_class=2, test_per_class=1)


def pruned(measure: str = "magnitude", **options: Any) -> RunPlan:
    pruning = PruningOptions(measure, **{"target": 0.5, "rounds": 1, **options})
    return replace(TINY, epochs=pruning.rounds, pruning=pruning)


PLANS = {
    "unpruned": TINY,
    "single weights": replace(TINY, unit="weight"),
    "pruned once": pruned(),
    "two rounds, momentum carried": pruned("proposed", rounds=2, carry_momentum=True),
    "as published": pruned("grasp", flowandprune=True),
}
LONG = {
    "pruning alone": pruned("update_size", prune_phase_only=True),
    "pruned before training": pruned(prune_at_start=True),
    "half samples": replace(TINY, samples=2, sample_per_class=2),
    "depthwise layers, pruned once": replace(pruned(), network="mobilenet_v1"),
    "residual sums, pruned once": replace(pruned(), network="resnet56"),
}


@pytest.mark.parametrize(
    "plan",
    [*PLANS.values(), *(pytest.param(plan, marks=pytest.mark.soak) for plan in LONG.values())],
    ids=[*PLANS, *LONG],
)
def test_the_weights_that_are_kept_are_those_that_were_recorded(
    tmp_path: Path, plan: RunPlan
) -> None:
    record_run(plan, Setting(tmp_path, threads=1, keep_weights=True), ignore)
    run = tmp_path / plan.run
    assert kept_epochs(run) == list(range(plan.epochs + 1))
    network = build_network(plan.network, num_classes=10, width=plan.width)
    load_kept_weights(network, run, plan.epochs)
    rows = pv.load(run).filters
    last = rows[rows["epoch"] == plan.epochs]
    assert bool(kept_entries(network)) == bool(plan.pruning)
    if plan.unit == "weight":
        return
    for layer, filters in last.groupby("layer", observed=True):
        weight = network.get_parameter(f"{layer}.weight").detach().flatten(1)
        np.testing.assert_array_equal(weight.any(1).numpy(), filters["kept"])


def test_single_weights_are_measured_again_from_them(tmp_path: Path) -> None:
    record_run(PLANS["unpruned"], Setting(tmp_path, threads=1, keep_weights=True), ignore)
    how = Remeasuring(tmp_path / "again", unit="weight", threads=1)
    remeasure_run(tmp_path / "r", how, ignore)
    found = pv.load(tmp_path / "again" / remeasured_name(read_spec(tmp_path / "r"), how))
    assert set(found.filters["epoch"]) == {0, 1}
