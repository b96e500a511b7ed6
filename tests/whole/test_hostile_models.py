"""Networks, losses, samples, trainings and optimisers that break naive measuring and pruning.

What is right stands beside each case in tests/support/hostile_*.py.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import PrunevizError
from tests.support import (
    hostile_models,
    hostile_operations,
    hostile_pruning,
    hostile_training,
    hostile_use,
)
from tests.support.cases import Net
from tests.support.crossed import crossed
from tests.support.hostile_models import CACHES, Case, cnn, flat, images, labelled, mlp, verdict
from tests.support.hostile_pruning import CHANNELWISE, OPTIMISERS, REMOVED
from tests.support.hostile_training import TRAINED, Sample

KINDS = {
    "loss": hostile_models.LOSSES,
    "target": hostile_models.TARGETS,
    "checkpointing": hostile_models.CHECKPOINTING,
    "precision": hostile_models.PRECISION,
    "unrepeatable": hostile_models.UNREPEATABLE,
    "cache": hostile_models.CACHES,
    "activation": hostile_operations.ACTIVATIONS,
    "operation": hostile_operations.OPERATIONS,
    "graph": hostile_operations.GRAPHS,
    "output": hostile_operations.OUTPUTS,
    "input": hostile_operations.INPUTS,
    "structure": hostile_operations.STRUCTURES,
    "use": hostile_use.USE,
}
CASES: Mapping[str, Case] = {
    f"{kind}: {name}": case for kind, cases in KINDS.items() for name, case in cases.items()
}


@pytest.mark.parametrize("name", CASES)
def test_measuring_is_right_or_refused_by_name(name: str) -> None:
    assert not verdict(CASES[name])


@pytest.mark.parametrize("name", CACHES)
def test_after_measuring_a_network_with_a_cache_can_be_copied(name: str) -> None:
    model = CACHES[name].build()
    with suppress(PrunevizError):
        pv.measure(model, flat())
    copy.deepcopy(model)


# Training


def measure(model: nn.Module, sample: Sample, folder: Path) -> None:
    pv.measure(model, sample, temperatures=1.0)


def measure_in_all_modes(model: nn.Module, sample: Sample, folder: Path) -> None:
    options: tuple[dict[str, Any], ...] = (
        {"bn": "batch"},
        {"bn": "calibrated", "dtype": torch.float64},
        {"unit": "weight", "columns": ["theta_hg"]},
        {"columns": ["synflow"]},
        {"columns": ["theta2_g2"]},
    )
    for chosen in options:
        with suppress(PrunevizError):
            pv.measure(model, sample, temperatures=1.0, **chosen)


def record(model: nn.Module, sample: Sample, folder: Path) -> None:
    run = folder / f"run{len(list(folder.iterdir()))}"
    with pv.Recorder(model, sample, out=run, every=1) as recorder:
        recorder.after_epoch(0)


def trace(model: nn.Module, sample: Sample, folder: Path) -> None:
    pv.Pruner(model, sample[0])


@crossed("name, act", TRAINED, [measure, measure_in_all_modes, record, trace], share=4)
def test_training_is_not_moved(
    name: str, act: Callable[[nn.Module, Sample, Path], None], tmp_path: Path
) -> None:
    def between(model: nn.Module, sample: Sample) -> None:
        with suppress(PrunevizError):  # a refusal moves nothing either
            act(model, sample, tmp_path)

    alone = hostile_training.train(*TRAINED[name], lambda model, sample: None)
    assert not hostile_training.moved(alone, hostile_training.train(*TRAINED[name], between))


def test_hooks_that_only_look_are_not_called() -> None:
    model, calls = cnn(), []

    def look(*given: object) -> None:
        calls.append(given)

    model.register_forward_hook(look)
    model[0].register_forward_pre_hook(look)
    model[3].register_full_backward_hook(look)
    model[3].weight.register_hook(look)
    model[3].weight.register_post_accumulate_grad_hook(look)
    pv.measure(model, labelled(images()))
    pv.Pruner(model, images())
    assert not calls


# Pruned weights


@pytest.mark.parametrize("late", [False, True], ids=["made before", "made after"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_optimiser_moves_pruned_weights(name: str, late: bool) -> None:
    assert not hostile_pruning.revived(OPTIMISERS[name], late)


@pytest.mark.parametrize("how", ["made after", "made before", "remade", "foreach"])
def test_an_average_of_a_pruned_network_is_pruned(how: str) -> None:
    assert not hostile_pruning.averaged(how)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", REMOVED)
def test_removal_gives_the_outputs_of_the_masked_network(name: str, training: bool) -> None:
    assert not hostile_pruning.removal(name, training)


@pytest.mark.parametrize("name", CHANNELWISE)
def test_a_pruned_filter_is_as_if_it_were_not_there(name: str) -> None:
    assert not hostile_pruning.absence(name)


def zero_initialised() -> nn.Module:
    """A low-rank adapter: its second factor is zero until training moves it."""
    model = Net(
        lambda net, x: net.head((net.one(x) + net.b(net.a(x))).tanh()),
        one=nn.Linear(8, 8), a=nn.Linear(8, 2, bias=False), b=nn.Linear(2, 8, bias=False),
        head=nn.Linear(8, 3),
    )  # fmt: skip
    nn.init.zeros_(model.b.weight)
    return model


def test_zeros_are_kept_unless_a_person_asks_what_is_zero() -> None:
    table = pv.measure(zero_initialised(), flat())
    assert table["kept"].all()
    assert table.loc[table["layer"] == "b", "theta_g"].eq(0).all()
    asked = pv.measure(zero_initialised(), flat(), kept="nonzero")
    assert asked.groupby("layer")["kept"].all().to_dict() == {"one": True, "a": True, "b": False}


def test_a_filter_pruned_by_a_person_is_known_when_asked() -> None:
    model = mlp()
    model[2].weight.data[3] = 0
    sample = flat()
    assert pv.measure(model, sample)["kept"].all()
    asked = pv.measure(model, sample, kept="nonzero")
    assert asked.loc[~asked["kept"], ["layer", "filter"]].values.tolist() == [["2", 3]]


def test_a_masked_state_loads_into_a_plain_network_and_back() -> None:
    model = hostile_pruning.network()
    hostile_pruning.pruned(model, images())
    plain = hostile_pruning.network()
    plain.load_state_dict(model.state_dict())
    x = images()
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), model.eval()(x))


def test_removal_refuses_a_pruned_weight_that_came_back() -> None:
    model = hostile_pruning.network()
    hostile_pruning.pruned(model, images())
    with torch.no_grad():
        next(p for p in model[0].weight.flatten(1) if (p == 0).all()).fill_(0.1)
    with pytest.raises(PrunevizError, match=r"0\.weight"):
        pv.remove(model, images())


def test_copies_and_loaded_networks_stay_pruned_under_their_own_optimisers() -> None:
    model = hostile_pruning.network()
    pruner = hostile_pruning.pruned(model, images())
    twin = copy.deepcopy(model)
    step = OPTIMISERS["Adam"](twin)
    for _ in range(3):
        step(twin, *labelled(images()))
    table = pv.measure(twin, labelled(images()), columns=["theta_norm2"])
    assert (~table["kept"]).sum() == pruner.gone
    assert (table.loc[~table["kept"], "theta_norm2"] == 0).all()


def test_samples_in_any_batches_give_the_numbers_of_one_batch() -> None:
    model, (x, y) = cnn(), labelled(images())
    weight = torch.tensor([0.2, 1.0, 7.0])
    loss = nn.CrossEntropyLoss(weight=weight)
    options: dict[str, Any] = {"loss": loss, "columns": ["theta_g", "theta_hg"]}
    tables = [
        pv.measure(model, sample, **options)
        for sample in (
            (x, y),
            [(x[:1], y[:1]), (x[1:], y[1:])],
            list(zip(x.split(2), y.split(2), strict=True)),
        )
    ]
    for one, other in itertools.pairwise(tables):
        for column in ("theta_g", "theta_hg"):
            scale = one[column].abs().max()
            assert (one[column] - other[column]).abs().max() <= 1e-4 * scale
