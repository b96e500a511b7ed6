"""Pruned entries stay zero under every optimiser of torch, in copies, averages and pickles."""

from __future__ import annotations

import copy
import io
import itertools
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pruneviz as pv
from pruneviz.errors import PruningError
from pruneviz.pruning.held_entries import check_held, forget_masks, kept_entries, prune_entries
from pruneviz.pruning.mask_hooks import set_mask
from pruneviz.pruning.pruner import Pruner
from tests.support.removed_twins import IMAGES, LABELS, TWINS

BY_NAME = {twin.name: twin for twin in TWINS}
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
optim = torch.optim


def groups(parameters: list[nn.Parameter]) -> list[dict[str, object]]:
    """Three groups with options of their own."""
    return [
        {"params": parameters[i::3], "lr": 0.01 * (i + 1), "weight_decay": 0.01 * i}
        for i in range(3)
    ]


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2, foreach=False),
    "sgd foreach": lambda p: optim.SGD(p, 0.05, 0.9, nesterov=True, foreach=True),
    "sgd fused": lambda p: optim.SGD(p, 0.05, 0.9, nesterov=True, fused=True),
    "sgd dampened": lambda p: optim.SGD(p, 0.05, 0.9, dampening=0.5, weight_decay=1e-2),
    "adam": lambda p: optim.Adam(p, 0.01, weight_decay=1e-2, amsgrad=True, foreach=False),
    "adam foreach": lambda p: optim.Adam(p, 0.01, foreach=True),
    "adam fused": lambda p: optim.Adam(p, 0.01, fused=True),
    "adam tensor rate": lambda p: optim.Adam(p, torch.tensor(0.01)),
    "adamw": lambda p: optim.AdamW(p, 0.01, weight_decay=0.1),
    "adamw fused": lambda p: optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
    "radam": lambda p: optim.RAdam(p, 0.01),
    "nadam": lambda p: optim.NAdam(p, 0.01),
    "adamax": lambda p: optim.Adamax(p, 0.01),
    "adagrad": lambda p: optim.Adagrad(p, 0.01, initial_accumulator_value=0.1),
    "adadelta": lambda p: optim.Adadelta(p, 1.0),
    "adafactor": lambda p: optim.Adafactor(p, 0.01),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.9, weight_decay=1e-2),
    "rmsprop centered": lambda p: optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "rprop": lambda p: optim.Rprop(p, 0.01),
    "asgd": lambda p: optim.ASGD(p, 0.05, t0=2),
    "lbfgs": lambda p: optim.LBFGS(p, 0.05, max_iter=3),
    "lbfgs wolfe": lambda p: optim.LBFGS(p, 0.5, max_iter=3, line_search_fn="strong_wolfe"),
    "muon": lambda p: optim.Muon(p, 0.01, momentum=0.9),
    "groups": lambda p: optim.SGD(groups(p), momentum=0.9),
    "adam groups": lambda p: optim.Adam(groups(p), amsgrad=True),
}


def matrices() -> nn.Module:
    """A perceptron without biases: some optimisers only take matrices."""
    torch.manual_seed(0)
    sizes = [16, 8, 7, 3]
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1], nn.ReLU(), layers[2])


def case(name: str) -> tuple[nn.Module, Mapping[str, list[int]]]:
    if name == "muon":
        return matrices().double(), {"1": [2, 5], "3": [0]}
    twin = BY_NAME["residual"]
    return twin.whole(), twin.prune


def train(network: nn.Module, optimizer: optim.Optimizer, steps: int) -> None:
    network.train()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(IMAGES), LABELS)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def pruned_values(network: nn.Module) -> Tensor:
    kept = kept_entries(network)
    assert kept
    return torch.cat([network.get_parameter(name).detach()[~keep] for name, keep in kept.items()])


def assert_held(network: nn.Module) -> None:
    assert torch.equal(pruned_values(network), torch.zeros_like(pruned_values(network)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimiser_that_was_there_before_pruning_moves_nothing_that_is_pruned(
    name: str,
) -> None:
    network, filters = case(name)
    optimizer = OPTIMIZERS[name](list(network.parameters()))
    train(network, optimizer, 4)
    pruner = Pruner(network, IMAGES)
    pruner.prune_filters(filters)
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    for _ in range(3):
        train(network, optimizer, 1)
        assert_held(network)
    assert all(not torch.equal(p, before[key]) for key, p in network.named_parameters())
    table = pv.measure(network.eval(), (IMAGES, LABELS), columns=["theta_g"])
    assert (~table["kept"]).sum() == pruner.gone
    removed = pv.remove(network, IMAGES)
    torch.testing.assert_close(removed.network(IMAGES), network(IMAGES), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop centered", "asgd", "adadelta"])
def test_momentum_of_pruned_entries_does_not_linger(name: str) -> None:
    network, filters = case(name)
    optimizer = OPTIMIZERS[name](list(network.parameters()))
    train(network, optimizer, 4)
    Pruner(network, IMAGES).prune_filters(filters)
    train(network, optimizer, 1)
    for key, keep in kept_entries(network).items():
        state = optimizer.state[network.get_parameter(key)]
        moving = [v for v in state.values() if isinstance(v, Tensor) and v.shape == keep.shape]
        assert moving
        assert all(not value[~keep].any() for value in moving)
        assert keep.any() <= any(bool(value[keep].any()) for value in moving)


def test_what_is_left_trains_with_old_momentum_as_the_smaller_network_does_with_its_part() -> None:
    twin = BY_NAME["conv bn relu"]
    network, smaller = twin.whole(), twin.smaller()
    optimizer = OPTIMIZERS["sgd"](list(network.parameters()))
    other = OPTIMIZERS["sgd"](list(smaller.parameters()))
    train(network, optimizer, 4)
    Pruner(network, IMAGES).prune_filters(twin.prune)
    state = network.state_dict()
    for name, value in smaller.state_dict().items():
        value.copy_(twin.left(name, state[name]))
    for name, p in smaller.named_parameters():
        momentum = optimizer.state[network.get_parameter(name)]["momentum_buffer"]
        other.state[p]["momentum_buffer"] = twin.left(name, momentum).clone()
    for model, stepper in ((network, optimizer), (smaller, other)):
        train(model, stepper, 5)
    for name, value in smaller.named_parameters():
        left = twin.left(name, network.get_parameter(name))
        torch.testing.assert_close(left, value, rtol=1e-9, atol=1e-12)


def test_gradients_set_by_hand_and_weights_written_by_hand_are_masked() -> None:
    network, filters = case("sgd")
    Pruner(network, IMAGES).prune_filters(filters)
    optimizer = OPTIMIZERS["adam"](list(network.parameters()))
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert_held(network)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
    with pytest.raises(PruningError, match=r"no longer zero.*hold_pruned"):
        check_held(network)
    with torch.no_grad():
        network(IMAGES)
    assert_held(network)


def test_optimisers_of_other_networks_and_unpruned_parameters_are_left_alone() -> None:
    def trained() -> nn.Module:
        network = BY_NAME["residual"].whole()
        train(network, OPTIMIZERS["adam"](list(network.parameters())), 3)
        return network

    first = trained()
    pruned, filters = case("sgd")
    Pruner(pruned, IMAGES).prune_filters(filters)
    Pruner(pruned, IMAGES).prune_filters(filters)
    for hooks in (optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks):
        own = [hook for hook in hooks.values() if hook.__module__.startswith("pruneviz")]
        assert len(own) == 1
    for a, b in zip(first.parameters(), trained().parameters(), strict=True):
        assert torch.equal(a, b)


def pickled(network: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(network, stream)
    stream.seek(0)
    loaded: nn.Module = torch.load(stream, weights_only=False)
    return loaded


@pytest.mark.parametrize("way", [copy.deepcopy, pickled], ids=lambda way: way.__name__)
def test_a_copy_stays_pruned_under_an_optimiser_of_its_own(
    way: Callable[[nn.Module], nn.Module],
) -> None:
    network = matrices().double()
    Pruner(network, IMAGES).prune_filters({"1": [2]})
    again = way(network)
    for _ in range(2):
        train(again, OPTIMIZERS["rmsprop"](list(again.parameters())), 3)
        assert_held(again)
        again = way(again)
    pruner = Pruner(again, IMAGES)
    pruner.prune_filters({"1": [3]})
    assert pruner.gone == 2
    assert Pruner(network, IMAGES).gone == 1


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)], ids=["swa", "ema"])
def test_averages_of_a_pruned_network_are_pruned(use_buffers: bool, average: object) -> None:
    network, filters = case("sgd")
    optimizer = OPTIMIZERS["sgd"](list(network.parameters()))
    started_before = AveragedModel(network, multi_avg_fn=average, use_buffers=use_buffers)
    train(network, optimizer, 2)
    started_before.update_parameters(network)
    Pruner(network, IMAGES).prune_filters(filters)
    pv.prune_like(started_before.module, network)
    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=use_buffers)
    for _ in range(3):
        train(network, optimizer, 1)
        averaged.update_parameters(network)
        started_before.update_parameters(network)
    for copied in (averaged, started_before):
        assert_held(copied.module)
        assert copied(IMAGES).isfinite().all()
        assert pv.Pruner(copied.module, IMAGES).gone == pv.Pruner(network, IMAGES).gone


def test_an_average_of_another_architecture_is_refused() -> None:
    network = matrices()
    prune_entries(network, {"1.weight": torch.zeros(8, 16, dtype=torch.bool)})
    with pytest.raises(PruningError, match=r"1\.weight of shape .* has none"):
        pv.prune_like(nn.Flatten(), network)


def test_a_masked_state_dict_loads_into_a_plain_model_and_into_a_pruned_copy() -> None:
    network, filters = case("sgd")
    plain, copied = copy.deepcopy(network), copy.deepcopy(network)
    unpruned = {name: value.clone() for name, value in network.state_dict().items()}
    Pruner(network, IMAGES).prune_filters(filters)
    state = network.state_dict()
    plain.load_state_dict(state)
    assert not kept_entries(plain)
    torch.testing.assert_close(plain.eval()(IMAGES), network.eval()(IMAGES))
    Pruner(copied, IMAGES).prune_filters({"c2": [0]} if hasattr(copied, "c2") else filters)
    copied.load_state_dict(state)
    assert_held(copied)
    network.load_state_dict(unpruned)  # rewound to weights from before pruning, as lottery tickets
    assert_held(network)


def test_a_parameter_that_is_moved_or_replaced_is_masked_again() -> None:
    network = matrices()
    prune_entries(network, {"1.weight": torch.arange(128).view(8, 16) % 2 == 0})
    network = network.double().to(memory_format=torch.contiguous_format).half().float()
    state = {name: torch.ones_like(p) for name, p in network.named_parameters()}
    network.load_state_dict(state, assign=True)
    assert_held(network)
    network[1].weight = nn.Parameter(torch.ones(8, 16))
    network(torch.zeros(1, 1, 4, 4))
    assert_held(network)


def test_a_module_that_is_called_twice_in_a_forward_pass_can_be_trained() -> None:
    layer = nn.Linear(4, 4, bias=False)
    prune_entries(layer, {"weight": torch.arange(16).view(4, 4) % 3 > 0})
    optimizer = optim.SGD(layer.parameters(), 0.1, 0.9)
    for _ in range(2):
        layer(torch.tanh(layer(torch.ones(2, 4)))).sum().backward()
        optimizer.step()
    assert_held(layer)


def test_double_backward_and_functional_calls_pass_through_a_pruned_network() -> None:
    network = matrices()
    prune_entries(network, {"1.weight": torch.arange(128).view(8, 16) % 2 == 0})
    x = torch.randn(2, 16)
    parameters = dict(network.named_parameters())
    loss = torch.func.functional_call(network, parameters, (x,)).square().sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    sum(gradient.square().sum() for gradient in gradients).backward()
    assert not parameters["1.weight"].grad[:, 1::2].any()

    def value(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(network, values, (x,)).square().sum()

    gradient = torch.func.grad(value)({name: p.detach() for name, p in parameters.items()})
    assert gradient["1.weight"].isfinite().all()
    assert torch.func.vmap(network)(x.unsqueeze(1)).shape == (2, 1, 3)


def test_an_attention_whose_projection_is_never_called_stays_pruned_in_a_copy() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    keep = torch.ones(8, 8, dtype=torch.bool)
    keep[:, :4] = False
    prune_entries(attention, {"out_proj.weight": keep})
    again = copy.deepcopy(attention)
    optimizer = optim.AdamW(again.parameters(), 0.1)
    for _ in range(2):
        x = torch.randn(2, 3, 8)
        again(x, x, x)[0].square().sum().backward()
        optimizer.step()
    assert_held(again)


def test_wrappers_for_several_devices_and_compiled_networks_train_a_pruned_network() -> None:
    network, filters = case("sgd")
    Pruner(network, IMAGES).prune_filters(filters)
    optimizer = OPTIMIZERS["adam"](list(network.parameters()))
    train(nn.DataParallel(network), optimizer, 2)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    train(compiled, optimizer, 2)
    assert_held(network)
    again = copy.deepcopy(network)
    with torch.no_grad():
        for p in again.parameters():
            p.add_(1.0)
    torch.compile(again, backend="eager", fullgraph=True)(IMAGES)
    assert_held(again)


FRESH = """
import sys
import torch
network = torch.load(sys.argv[1], weights_only=False)
optimizer = torch.optim.RMSprop(network.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
for _ in range(3):
    optimizer.zero_grad()
    network(torch.ones(4, 16).double()).square().sum().backward()
    optimizer.step()
print(network[1].weight[2].abs().sum().item(), bool(network[1].weight[0].abs().sum() > 0))
"""


def test_a_saved_network_stays_pruned_in_a_fresh_process(tmp_path: Path) -> None:
    network = matrices().double()
    Pruner(network, IMAGES).prune_filters({"1": [2]})
    torch.save(network, tmp_path / "network.pt")
    command = [sys.executable, "-c", FRESH, str(tmp_path / "network.pt")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0.0", "True"]


def test_masks_can_be_forgotten_and_then_everything_moves() -> None:
    network = matrices().double()
    Pruner(network, IMAGES).prune_filters({"1": [2]})
    forget_masks(network)
    assert not kept_entries(network)
    optimizer = OPTIMIZERS["sgd"](list(network.parameters()))
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    network(IMAGES)
    assert network[1].weight[2].all()


def test_a_state_dict_has_zeros_whatever_wrote_to_the_weights() -> None:
    layer = nn.Linear(3, 2)
    set_mask(layer, "weight", torch.tensor([[True] * 3, [False] * 3]))
    with torch.no_grad():
        layer.weight.fill_(2.0)
    assert layer.state_dict()["weight"].tolist() == [[2.0] * 3, [0.0] * 3]
    set_mask(layer, "weight", None)
    assert not layer._state_dict_pre_hooks
