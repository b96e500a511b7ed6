"""Parameters and MACs counted again: those that removal leaves of a network with other weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import pruneviz as pv
from pruneviz.analysis.final_accuracy import COSTS
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.pruned_costs import costs_of
from pruneviz.log.run_spec import RunSpec
from pruneviz.pruning.pruner import Pruner
from tests.support.cases import randomise

WIDTH, CLASSES, RUN = 0.0625, 3, "run0"
SIDES = {"vgg13": 32, "mobilenet_v1": 32, "resnet56": 8}


def recorded(network: str, pruner: Pruner, side: int) -> pv.Runs:
    """What a recording holds of a pruned network; its spec does not say what was left."""
    facts = {"network": network, "dataset": "digits", "width": WIDTH, "num_classes": CLASSES}
    pruning = {"measure": "magnitude", "target": 0.5, "rounds": 1, "image_size": side}
    spec = RunSpec.from_dict({"run": RUN, "seed": 0, **facts, **pruning})
    gone = pruner.coupling.pruned()
    rows = [
        (layer.name, number, (layer.name, number) not in gone)
        for layer in pruner.coupling.layers
        for number in range(layer.filters)
    ]
    filters = pd.DataFrame(rows, columns=["layer", "filter", "kept"]).assign(run=RUN, epoch=1)
    before = filters.assign(epoch=0, kept=True)
    rounds = pruner.counts().assign(run=RUN, round=1, epoch=1)
    epochs = pd.DataFrame({"run": RUN, "epoch": [0, 1]})
    return pv.Runs(pd.DataFrame([spec.to_dict()]), epochs, pd.concat([before, filters]), rounds)


def pruned(name: str) -> tuple[torch.nn.Module, Pruner, torch.Tensor]:
    torch.manual_seed(1)
    network = randomise(build_network(name, num_classes=CLASSES, width=WIDTH))
    example = torch.randn(2, 3, SIDES[name], SIDES[name])
    pruner = Pruner(network, example)
    random = np.random.default_rng(3)
    for layer in pruner.coupling.layers:
        third = random.permutation(layer.filters)[: layer.filters // 3]
        pruner.prune_filters({layer.name: third.tolist()})
    return network, pruner, example


@pytest.mark.parametrize("name", SIDES)
def test_they_are_what_removal_leaves(name: str) -> None:
    network, pruner, example = pruned(name)
    runs = recorded(name, pruner, SIDES[name])
    state = torch.get_rng_state()
    found = costs_of(runs).set_index("run").loc[RUN]
    assert torch.equal(torch.get_rng_state(), state)
    removed = pv.remove(network, example)
    assert removed.after.parameters < removed.before.parameters
    costs = (removed.before, removed.after)
    expected = [*(cost.parameters for cost in costs), *(cost.macs for cost in costs)]
    assert found[list(COSTS)].tolist() == expected
    assert found["lacks"] == ""

    ended = replace(runs, filters=runs.filters[runs.filters["epoch"] == 0])
    by_number = costs_of(ended).set_index("run").loc[RUN]
    if pruner.residual:  # how many filters are left is not enough where channels are shared
        assert np.isnan(by_number["parameters_after"])
        assert by_number["lacks"].startswith("the filters table ends before the last round")
    else:
        assert by_number[list(COSTS)].tolist() == expected


def test_recorded_costs_are_taken_as_they_are() -> None:
    _, pruner, _ = pruned("vgg13")
    runs = recorded("vgg13", pruner, 32)
    known = replace(runs, spec=runs.spec.assign(**dict.fromkeys(COSTS, 7)))
    assert costs_of(known).loc[0, list(COSTS)].tolist() == [7] * 4


def test_other_networks_are_told() -> None:
    _, pruner, _ = pruned("vgg13")
    runs = recorded("vgg13", pruner, 32)
    for facts in ({"network": "mine"}, {"width": None}, {"dataset": "mine"}):
        found = costs_of(replace(runs, spec=runs.spec.assign(**facts)))
        assert found["parameters_after"].isna().all()
        assert "no run of pruneviz record" in found.loc[0, "lacks"]
    third = runs.rounds["layer_index"] == 2
    coupled = runs.rounds["coupled_to"].mask(third, "features.conv1")
    odd = runs.rounds.assign(kept=runs.rounds["kept"] - third, coupled_to=coupled)
    found = costs_of(replace(runs, rounds=odd))
    assert found.loc[0, "lacks"].startswith("the recorded numbers of kept filters are not of")
