"""A pruned filter has the effect of a removed one, and stays pruned in training and in copies."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.measuring.building import objective
from pruneviz.measuring.derivatives import gradients, hessian_products
from pruneviz.pruning.held_entries import (
    forget_masks,
    kept_entries,
    kept_of,
    pruned_rows,
    set_kept,
)
from pruneviz.pruning.masked_state import load_with_masks
from pruneviz.pruning.pruner import Pruner
from tests.support.removed_twins import IMAGES, LABELS, TWINS, Twin

EVERY_TWIN = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
BY_NAME = {twin.name: twin for twin in TWINS}
COLUMNS = [
    "theta_norm2",
    "theta_l1",
    "sigma",
    "theta_g",
    "abs_theta_g",
    "theta2_abs_g",
    "theta_hg",
    "theta_hg_t200",
    "g_norm2",
    "theta_g_se",
]


def masked(twin: Twin) -> nn.Module:
    network = twin.whole()
    Pruner(network, IMAGES).prune_filters(twin.prune)
    return network


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(IMAGES), LABELS).backward()
        optimizer.step()


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)


def pruned_values(network: nn.Module) -> dict[str, Tensor]:
    parameters = dict(network.named_parameters())
    return {name: parameters[name].detach()[~keep] for name, keep in kept_entries(network).items()}


def assert_still_pruned(network: nn.Module) -> None:
    values = pruned_values(network)
    assert sum(len(v) for v in values.values()) > 0
    for name, value in values.items():
        assert torch.equal(value, torch.zeros_like(value)), name


def assert_left(twin: Twin, whole: nn.Module, smaller: nn.Module, tolerance: float) -> None:
    """Parameters and running statistics of the smaller network are those left of the whole one."""
    state = whole.state_dict()
    for name, value in smaller.state_dict().items():
        there = twin.left(name, value) if twin.hidden else value
        assert torch.allclose(
            twin.left(name, state[name]), there, rtol=tolerance, atol=tolerance
        ), name


@EVERY_TWIN
def test_the_filters_that_are_gone_are_those_that_were_named_and_what_depends_on_them_alone(
    twin: Twin,
) -> None:
    network = masked(twin)
    parameters = dict(network.named_parameters())  # a tied weight goes by its first name
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and f"{name}.weight" in parameters:
            rows = pruned_rows(network, f"{name}.weight")
            gone = set() if rows is None else set(rows.nonzero().flatten().tolist())
            assert gone == twin.gone.get(name, set()), name


@EVERY_TWIN
def test_outputs_are_those_of_the_network_without_the_filters(twin: Twin) -> None:
    network, smaller, unpruned = masked(twin).eval(), twin.smaller().eval(), twin.whole().eval()
    expected = smaller(IMAGES)
    assert torch.allclose(network(IMAGES), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(unpruned(IMAGES), expected, rtol=1e-4, atol=1e-4)


@EVERY_TWIN
def test_in_training_mode_the_outputs_and_the_running_statistics_are_those_too(twin: Twin) -> None:
    network, smaller = masked(twin), twin.smaller()
    for part in IMAGES.split(4):
        assert torch.allclose(network(part), smaller(part), rtol=1e-12, atol=1e-12)
    assert_left(twin, network, smaller, 1e-12)
    assert torch.allclose(network.eval()(IMAGES), smaller.eval()(IMAGES), rtol=1e-12, atol=1e-12)


@EVERY_TWIN
def test_training_moves_it_as_it_moves_the_network_without_the_filters(twin: Twin) -> None:
    network, smaller = masked(twin), twin.smaller()
    for model in (network, smaller):
        train(model, sgd(model), 5)
    assert_left(twin, network, smaller, 1e-9)
    assert torch.allclose(network.eval()(IMAGES), smaller.eval()(IMAGES), rtol=1e-9, atol=1e-9)


def has_batch_norm(twin: Twin) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in twin.whole().modules())


# The mode of batch norm matters to networks that have some.
MODES = [
    (twin, bn)
    for twin in TWINS
    for bn in ("eval", "calibrated", "batch")
    if bn == "eval" or has_batch_norm(twin)
]


def by_filter(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(layer=table["layer"].astype(str)).set_index(["layer", "filter"])


@pytest.mark.parametrize(("twin", "bn"), MODES, ids=lambda value: getattr(value, "name", value))
def test_every_column_of_the_filters_that_are_left_is_that_of_the_network_without_the_others(
    twin: Twin, bn: str
) -> None:
    sample = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]
    table = pv.measure(masked(twin), sample, bn=bn, columns=COLUMNS)
    smaller = pv.measure(twin.smaller(), sample, bn=bn, columns=COLUMNS)
    numbers = []  # of the smaller network's filters in the whole one
    for layer, p in zip(smaller["layer"], smaller["filter"], strict=True):
        left = None if twin.hidden else twin.take.get(layer, (None, None))[0]
        numbers.append(left[p] if left else p)
    found, expected = by_filter(table), by_filter(smaller.assign(filter=numbers))
    gone = [(layer, p) for layer, filters in twin.gone.items() for p in filters]
    kept = found.drop(gone)
    assert kept["kept"].all()
    expected = expected.drop(gone, errors="ignore")  # a hidden twin has all filters
    pd.testing.assert_frame_equal(kept.sort_index(), expected.sort_index(), rtol=1e-8, atol=1e-12)
    null = found.loc[gone]
    assert not null["kept"].any()
    assert (null[["theta_norm2", "theta_l1"]] == 0).all(axis=None)
    assert null.drop(columns=["kept", "theta_norm2", "theta_l1", "sigma"]).isna().all(axis=None)


def test_the_gradient_of_the_whole_network_leaves_out_what_is_pruned() -> None:
    twin = BY_NAME["residual"]
    found = []
    for network in (masked(twin), twin.smaller()):
        sample = objective(
            network.eval(),
            [(IMAGES, LABELS)],
            temperatures=(1.0,),
            loss=None,
            whole="",
            dtype=torch.float64,
        )
        g = gradients(sample, 3)[1]
        found.append((g[0], hessian_products(sample, g, 5)[0]))
    for whole, smaller in zip(*found, strict=True):
        for name, value in smaller.items():
            assert torch.allclose(twin.left(name, whole[name]), value, rtol=1e-9, atol=1e-12), name
        assert sum(v.square().sum() for v in whole.values()).item() == pytest.approx(
            sum(v.square().sum() for v in smaller.values()).item()
        )


def test_measuring_moves_nothing_of_a_pruned_network_and_leaves_its_masks_at_work() -> None:
    network = masked(BY_NAME["residual"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    hooks = {
        name: len(p._post_accumulate_grad_hooks or {}) for name, p in network.named_parameters()
    }
    for bn in ("eval", "calibrated", "batch"):
        pv.measure(network, [(IMAGES, LABELS)], bn=bn)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert hooks == {
        name: len(p._post_accumulate_grad_hooks or {}) for name, p in network.named_parameters()
    }
    assert all(p.grad is None for p in network.parameters())
    train(network, sgd(network), 3)
    assert_still_pruned(network)


def test_a_gradient_from_before_pruning_moves_nothing_that_is_pruned() -> None:
    network = BY_NAME["conv relu bn"].whole()
    F.cross_entropy(network(IMAGES), LABELS).backward()
    Pruner(network, IMAGES).prune_filters({"c1": [1]})
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert_still_pruned(network)


def test_gradients_that_accumulate_over_batches_stay_blank() -> None:
    network = masked(BY_NAME["residual"])
    for part in range(3):
        F.cross_entropy(network(IMAGES[part : part + 4]), LABELS[part : part + 4]).backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    for name, keep in kept_entries(network).items():
        assert not gradients[name][~keep].any()
        assert gradients[name][keep].any() or not keep.any()


def test_evaluating_without_gradients_moves_nothing() -> None:
    network = masked(BY_NAME["residual"]).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network(IMAGES)
    with torch.inference_mode():
        network(IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_frozen_parameters_are_pruned_stay_frozen_and_stay_pruned_once_they_are_trained() -> None:
    network = BY_NAME["conv relu bn"].whole()
    network.requires_grad_(False)
    network.fc.requires_grad_(True)
    Pruner(network, IMAGES).prune_filters({"c1": [1]})
    assert [name for name, p in network.named_parameters() if p.requires_grad] == [
        "fc.weight",
        "fc.bias",
    ]
    train(network, sgd(network), 2)
    network.requires_grad_(True)
    train(network, sgd(network), 5)
    assert_still_pruned(network)


def deep_copied(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network)


def saved_whole(network: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(nn.ModuleDict(dict(network.named_children())), stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)
    again = copy.deepcopy(network)
    for name, module in loaded.items():
        setattr(again, name, module)
    return again


def loaded_state(network: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    stream.seek(0)
    again = copy.deepcopy(network)
    forget_masks(again)
    load_with_masks(again, torch.load(stream, weights_only=True))
    return again


def in_float32(network: nn.Module) -> nn.Module:
    return network.float().double()


@pytest.mark.parametrize(
    "way", [deep_copied, saved_whole, loaded_state, in_float32], ids=lambda way: way.__name__
)
def test_a_copy_is_pruned_and_stays_so(way: Callable[[nn.Module], nn.Module]) -> None:
    network = masked(BY_NAME["residual"])
    train(network, sgd(network), 2)
    output = network.eval()(IMAGES).detach()
    again = way(network)
    again.eval()
    assert torch.allclose(again(IMAGES), output, rtol=1e-5, atol=1e-5)
    expected = kept_entries(network)
    assert {name: keep.tolist() for name, keep in kept_entries(again).items()} == {
        name: keep.tolist() for name, keep in expected.items()
    }
    train(again, sgd(again), 5)
    assert_still_pruned(again)


def test_pruning_again_keeps_what_was_pruned() -> None:
    network = BY_NAME["conv bn relu"].whole()
    pruner = Pruner(network, IMAGES)
    pruner.prune_filters({"c1": [1]})
    pruner.prune_filters({"c1": [3]})
    pruner.prune_filters({"c1": [1]})
    assert pruned_rows(network, "c1.weight").tolist() == [False, True, False, True]
    assert Pruner(network, IMAGES).gone == 2
    assert (
        kept_of(network.bn1, "weight").tolist()
        == kept_of(network.bn1, "bias").tolist()
        == [True, False, True, False]
    )
    assert network.bn1.running_mean[[1, 3]].tolist() == [0, 0]
    assert network.bn1.running_var[[1, 3]].tolist() == [1, 1]


def test_kept_entries_of_a_module_are_set_and_forgotten() -> None:
    module = nn.Linear(2, 3)
    kept = torch.tensor([True, False, True])
    plain = set(module.state_dict())
    assert kept_of(module, "bias") is None
    set_kept(module, "bias", kept)
    assert kept_of(module, "bias") is kept
    assert set(module.state_dict()) == plain
    for _ in range(2):
        set_kept(module, "bias", None)
        assert kept_of(module, "bias") is None
    assert not module._forward_pre_hooks and not module._state_dict_hooks
    assert not module._load_state_dict_pre_hooks and not module._load_state_dict_post_hooks
