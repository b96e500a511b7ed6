"""Removal: the smaller network computes and trains as the masked one, and reports what changed."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis.strategies import randoms
from torch import Tensor, nn
from torchvision import models

import pruneviz as pv
from pruneviz.errors import DataError, PrunevizError, PruningError
from pruneviz.experiment.networks.registry import build_network
from pruneviz.model.filters import NUMBERS, find_layers
from pruneviz.pruning.cost import cost
from pruneviz.pruning.held_entries import hold_pruned, kept_entries, kept_of, prune_entries
from pruneviz.pruning.pruner import Pruner
from pruneviz.pruning.removal import Removed, remove
from tests.support.cases import BY_NAME, Net, as_pair, digit_batches, head, norm2d, randomise
from tests.support.properties import for_all
from tests.support.random_graphs import PLANS, Graph, Plan

Filters = Mapping[str, tuple[int, ...]]
IMAGES, LABELS = as_pair(digit_batches((6, 6)))


def small() -> nn.Module:
    """Two convolutions with bias and norm; a linear layer reads each channel at four places."""
    first = [nn.Conv2d(1, 6, 3, padding=1), norm2d(6), nn.ReLU()]
    second = [nn.Conv2d(6, 4, 3, padding=1), norm2d(4), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten()]
    return randomise(nn.Sequential(*first, *second, nn.Linear(16, 5))).double()


def masked_small() -> nn.Module:
    """`small` without filters 1, 4 of the first and 0 of the second layer, entry by entry."""
    network = small()
    keep = {name: torch.ones(p.shape, dtype=torch.bool) for name, p in network.named_parameters()}
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        keep[name][[1, 4]] = False
    for name in ("3.weight", "3.bias", "4.weight", "4.bias"):
        keep[name][0] = False
    keep["3.weight"][:, [1, 4]] = False
    keep["8.weight"][:, :4] = False
    del keep["8.bias"]
    prune_entries(network, keep)
    return network


def pruned(network: nn.Module, example: Tensor, filters: Filters) -> nn.Module:
    """The network with these filters masked."""
    Pruner(network, example).prune_filters(filters)
    return network


def third(network: nn.Module, example: Tensor) -> Filters:
    """About a third of the filters of every layer, but never all; the same in each call."""
    rng = np.random.default_rng(0)
    layers = find_layers(network, example)
    return {
        layer.name: tuple(map(int, rng.permutation(layer.filters)[: (layer.filters + 1) // 3]))
        for layer in layers
    }


def stream() -> nn.Module:
    """A residual stream of four channels: the stem and two blocks write to it."""

    def forward(net: Net, x: Tensor) -> Tensor:
        x = F.relu(net.bn0(net.stem(x)))
        x = x + net.bn2(net.out1(F.relu(net.bn1(net.in1(x)))))
        x = F.relu(x + net.bn4(net.out2(F.relu(net.bn3(net.in2(x))))))
        return net.fc(x.mean((2, 3)))

    convs = {
        "in1": nn.Conv2d(4, 5, 3, padding=1, bias=False),
        "out1": nn.Conv2d(5, 4, 1, bias=False),
    }
    convs |= {
        "in2": nn.Conv2d(4, 3, 1),
        "out2": nn.Conv2d(3, 4, 3, padding=1),
        "stem": nn.Conv2d(1, 4, 2),
    }
    norms = {f"bn{i}": norm2d(channels) for i, channels in enumerate((4, 5, 4, 3, 4))}
    return randomise(Net(forward, fc=nn.Linear(4, 3), **norms, **convs)).double()


def outputs(network: nn.Module, images: Tensor, *, training: bool) -> Tensor:
    """Outputs of a copy, and its outputs in evaluation mode with the statistics this leaves."""
    network = copy.deepcopy(network).train(training)
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0  # masks of dropout are drawn per channel and differ with their number
    with torch.no_grad():
        return torch.cat([network(images), network.eval()(images)])


def assert_same_outputs(
    first: nn.Module, second: nn.Module, images: Tensor, tolerance: float
) -> None:
    for training in (False, True):
        want, got = (outputs(network, images, training=training) for network in (first, second))
        assert want.isfinite().all() and want.abs().max() > 1e-6
        assert (want - got).abs().max() <= tolerance * (1 + want.abs().max())


@for_all(few=5, many=300, plan=PLANS, drawn=randoms(use_true_random=False))
def test_random_networks_compute_without_pruned_filters_as_with_them_masked(
    plan: Plan, drawn: random.Random
) -> None:
    network, images = Graph(plan), torch.linspace(-2, 2, 36).sin().view(4, 1, 3, 3).double()
    try:
        pruner = Pruner(network, images)
        filters = list(pruner.coupling.leads)
        chosen = drawn.sample(filters, drawn.randint(1, (1 + len(filters)) // 2))
        pruner.prune_filters(
            {layer: [p for name, p in chosen if name == layer] for layer, _ in chosen}
        )
    except PruningError as error:
        assert "no filter that can be pruned" in str(error) or "nothing would reach" in str(error)
        assume(False)
    before = copy.deepcopy(network.state_dict())
    removed = remove(network, images)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert removed.removed + removed.masked >= len(chosen)
    for training in (False, True):
        want, got = (
            outputs(each, images, training=training) for each in (network, removed.network)
        )
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


def gone_in(removed: Removed, network: nn.Module, example: Tensor) -> int:
    before = sum(layer.filters for layer in find_layers(network, example))
    return before - sum(map(len, removed.filters.values()))


def train(network: nn.Module, images: Tensor, labels: Tensor, steps: int = 5) -> nn.Module:
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        part = slice(step % 2, None, 2)
        F.cross_entropy(network(images[part]), labels[part]).backward()
        optimizer.step()
    return network


def assert_same_state(first: nn.Module, second: nn.Module) -> None:
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def assert_survivors_agree(masked: nn.Module, removed: Removed) -> None:
    """Entries taken out are zeros in the masked network, and the others are equal in both."""
    smaller = dict(removed.network.named_parameters())
    for name, parameter in masked.named_parameters():
        there = torch.zeros(parameter.numel(), dtype=torch.bool)
        there[removed.entries[name]] = True
        torch.testing.assert_close(
            parameter.flatten()[there], smaller[name].flatten(), rtol=1e-10, atol=1e-12
        )
        assert not parameter.flatten()[~there].any()


def test_parameters_multiplications_and_filters_are_those_counted_by_hand() -> None:
    network = masked_small()
    removed = remove(network, IMAGES)
    assert removed.filters == {"0": (0, 2, 3, 5), "3": (1, 2, 3)}
    assert (removed.removed, removed.masked) == (3, 0)
    assert removed.masked_filters == removed.reasons == {}
    # conv 1: 6 x 9 weights + 6, norm 12; conv 2: 4 x 6 x 9 + 4, norm 8; linear: 5 x 16 + 5
    assert removed.before.parameters == 54 + 6 + 12 + 216 + 4 + 8 + 80 + 5
    assert removed.after.parameters == 36 + 4 + 8 + 108 + 3 + 6 + 60 + 5
    # 16 places of an image of 4 x 4, padded
    assert removed.before.macs == 16 * 54 + 16 * 216 + 80
    assert removed.after.macs == 16 * 36 + 16 * 108 + 60
    assert removed.before.seconds > 0 and removed.after.seconds > 0
    assert not kept_entries(removed.network)
    smaller = removed.network
    shapes = [tuple(smaller[i].weight.shape) for i in (0, 3, 8)]
    assert shapes == [(4, 1, 3, 3), (3, 4, 3, 3), (5, 12)]
    assert torch.equal(smaller[3].weight, network[3].weight[1:][:, [0, 2, 3, 5]])
    assert torch.equal(smaller[1].running_var, network[1].running_var[[0, 2, 3, 5]])
    assert smaller[0].out_channels == smaller[1].num_features == 4
    assert smaller[8].in_features == 12


def test_a_network_masked_by_hand_and_the_pruner_lead_to_the_same_removed_network() -> None:
    by_hand = remove(masked_small(), IMAGES).network
    masked = pruned(small(), IMAGES, {"0": (1, 4), "3": (0,)})
    assert_same_state(remove(masked, IMAGES).network, by_hand)


CASES = [name for name in BY_NAME if name not in ("group_norm", "shared_norm", "reused_conv")]


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_the_same_in_evaluation_and_in_training(name: str) -> None:
    network = BY_NAME[name].model(seed=1)
    pruned(network, IMAGES, third(network, IMAGES))
    removed = remove(network, IMAGES)
    assert_same_outputs(network, removed.network, IMAGES, 1e-12)
    assert removed.removed == gone_in(removed, network, IMAGES)
    assert removed.removed + removed.masked > 0


def test_what_is_normalised_together_or_used_twice_stays() -> None:
    for name in ("group_norm", "reused_conv"):
        network = BY_NAME[name].model()
        chosen = third(network, IMAGES)
        layers = [layer.name for layer in Pruner(network, IMAGES).coupling.layers]
        pruned(network, IMAGES, {layer: chosen[layer] for layer in layers})
        assert_same_outputs(network, remove(network, IMAGES).network, IMAGES, 1e-12)


@pytest.mark.parametrize(
    ("name", "width", "dtype", "tolerance"),
    [
        ("vgg13", 0.125, torch.float64, 1e-12),
        ("mobilenet_v1", 0.125, torch.float64, 1e-12),
        ("mobilenet_v1", 0.125, torch.float32, 1e-5),
        ("resnet56", 0.25, torch.float64, 1e-12),
    ],
)
def test_the_networks_of_the_paper_are_the_same_without_their_pruned_filters(
    name: str, width: float, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    network = build_network(name, num_classes=10, width=width).to(dtype)
    images = torch.rand(4, 3, 32, 32, dtype=dtype)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # at initialisation the norms do nothing
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    pruned(network, images, third(network, images))
    removed = remove(network, images)
    assert_same_outputs(network, removed.network, images, tolerance)
    assert removed.removed == gone_in(removed, network, images) > 0
    assert (removed.masked > 0) == (name == "resnet56")  # the only one with sums
    assert removed.after.parameters < removed.before.parameters
    assert removed.after.macs < removed.before.macs


@pytest.mark.parametrize("case", ["small", "stream", "grouped", "concatenated"])
def test_the_masked_network_and_its_removed_twin_train_to_the_same_weights(case: str) -> None:
    own = {"small": small, "stream": stream}
    network = own[case]() if case in own else BY_NAME[case].model()
    pruned(network, IMAGES, third(network, IMAGES))
    removed = remove(network, IMAGES)
    before = {name: value.detach().clone() for name, value in removed.network.named_parameters()}
    train(network, IMAGES, LABELS)
    train(removed.network, IMAGES, LABELS)
    assert_survivors_agree(network, removed)
    moved = dict(removed.network.named_parameters())
    assert any(not torch.equal(moved[name], value) for name, value in before.items())


def test_filters_of_a_stream_stay_as_zeros_are_named_and_are_held_while_training() -> None:
    network = pruned(
        stream(), IMAGES, {"stem": (0, 2), "out1": (2, 3), "out2": (2,), "in1": (1,), "in2": ()}
    )
    removed = remove(network, IMAGES)
    # nothing alive writes to channel 2, unlike 0 and 3
    assert removed.filters == {
        "stem": (0, 1, 3),
        "in1": (0, 2, 3, 4),
        "out1": (0, 1, 3),
        "in2": (0, 1, 2),
        "out2": (0, 1, 3),
    }
    assert removed.masked_filters == {"stem": (0,), "out1": (3,)}
    assert removed.masked_layers == {"stem": 1, "out1": 1}
    assert (removed.removed, removed.masked) == (4, 2)
    assert removed.reasons == {
        "stem": ("other layers meet them in a sum or product and are alive there (out1, out2)",),
        "out1": ("other layers meet them in a sum or product and are alive there (out2, stem)",),
    }
    kept = kept_entries(removed.network)
    stem = {"stem.weight", "stem.bias", "bn0.weight", "bn0.bias"}
    block = {"out1.weight", "bn2.weight", "bn2.bias"}
    assert set(kept) == {*stem, *block, "in1.weight"}  # in1 reads what only the stem wrote
    assert kept["stem.bias"].tolist() == [False, True, True]
    assert kept["bn2.weight"].tolist() == [True, True, False]
    train(removed.network, IMAGES, LABELS)
    assert all(not removed.network.get_parameter(name)[~keep].any() for name, keep in kept.items())
    lines = removed.summary().splitlines()
    assert "4 of 20 filters were taken out; 2 more are pruned and stay as zeros" in lines
    assert f"  out1: 1 of 3, because {removed.reasons['out1'][0]}" in lines


def test_the_summary_shows_what_was_gained() -> None:
    removed = remove(masked_small(), IMAGES)
    removed = dataclasses.replace(
        removed,
        before=dataclasses.replace(removed.before, seconds=0.5),
        after=dataclasses.replace(removed.after, seconds=0.2),
    )
    rows = [line.split() for line in removed.summary().splitlines()]
    assert rows[0] == ["before", "after", "ratio"]
    assert rows[1] == ["parameters", "385", "230", "0.597"]
    assert rows[2] == ["MACs", "an", "example", "4,400", "2,364", "0.537"]
    assert rows[3] == ["seconds", "a", "batch", "0.5", "0.2", "0.400"]
    taken_out = "3 of 10 filters were taken out; 0 more are pruned and stay as zeros"
    assert rows[4] == taken_out.split()


def test_removing_twice_is_removing_at_once_and_filters_keep_their_numbers() -> None:
    network = pruned(small(), IMAGES, {"0": (1,), "3": (0,)})
    first = remove(network, IMAGES)
    pruned(first.network, IMAGES, {"0": (3,)})  # the fourth of 0, 2, 3, 4, 5
    second = remove(first.network, IMAGES)
    assert second.filters == {"0": (0, 2, 3, 5), "3": (1, 2, 3)}
    assert (first.removed, second.removed) == (2, 1)
    at_once = remove(masked_small(), IMAGES).network
    assert_same_state(second.network, at_once)
    assert second.network[0].get_buffer(NUMBERS).tolist() == [0, 2, 3, 5]


def test_measuring_a_removed_network_names_its_filters_by_their_original_numbers() -> None:
    network = masked_small()
    network[8] = nn.Linear(16, 3, dtype=torch.float64)  # one output per class of the sample
    prune_entries(network, {"8.weight": torch.arange(16).expand(3, 16) >= 4})
    masked = pv.measure(network, (IMAGES, LABELS))
    removed = pv.measure(remove(network, IMAGES).network, (IMAGES, LABELS))
    left = [*(("0", p) for p in (0, 2, 3, 5)), *(("3", p) for p in (1, 2, 3))]
    assert list(zip(removed["layer"], removed["filter"], strict=True)) == left
    same = masked[masked["kept"]].reset_index(drop=True)
    for column in ("theta_norm2", "theta_g", "theta2_abs_g", "theta_hg", "sigma"):
        np.testing.assert_allclose(removed[column], same[column], rtol=1e-9, atol=1e-12)


TORCHVISION: Mapping[str, Callable[[], nn.Module]] = {
    "resnet10": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=4, width_mult=0.5),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision_is_pruned_removed_and_trained_on(name: str) -> None:
    torch.manual_seed(0)
    network = TORCHVISION[name]()
    images, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    pruner = Pruner(network, images, keep_at_least=0.05)
    table = pv.measure(network, (images, labels), columns=["theta_g", "theta2_abs_g"])
    pruner.prune(table, "proposed", pruner.groups // 2)
    train(network, images, labels, steps=1)
    removed = remove(network, images)
    assert_same_outputs(network, removed.network, images, 1e-5)
    assert removed.removed == gone_in(removed, network, images) > 0
    numbers = {layer.name: layer.numbers for layer in find_layers(removed.network, images)}
    assert numbers == dict(removed.filters)
    held = {name: keep.clone() for name, keep in kept_entries(removed.network).items()}
    assert held
    train(removed.network, images, labels, steps=2)
    for name, keep in held.items():
        assert not removed.network.get_parameter(name)[~keep].any(), name
    assert all(value.isfinite().all() for value in removed.network.state_dict().values())


def test_a_copy_and_a_loaded_state_are_the_removed_network() -> None:
    filters = {"stem": (0, 2), "out1": (2, 3), "out2": (2,)}
    removed = remove(pruned(stream(), IMAGES, filters), IMAGES).network
    twin = copy.deepcopy(removed)
    with torch.no_grad():
        for value in twin.parameters():
            value.add_(1.0)
    twin.load_state_dict(removed.state_dict())
    hold_pruned(twin)
    assert_same_state(removed, twin)
    train(removed, IMAGES, LABELS)
    train(twin, IMAGES, LABELS)
    assert_same_state(removed, twin)


def test_nothing_of_the_masked_network_or_of_the_world_changes() -> None:
    network = pruned(stream(), IMAGES, {"stem": (0, 2), "out1": (2, 3), "out2": (2,)})
    network.in1.eval()
    network.fc.requires_grad_(False)
    network(IMAGES).sum().backward()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes, images = [module.training for module in network.modules()], IMAGES.clone()
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    parameters = list(network.parameters())
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    removed = remove(network, images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (
        [module.training for module in network.modules()]
        == modes
        == [module.training for module in removed.network.modules()]
    )
    assert torch.equal(images, IMAGES) and torch.is_grad_enabled()
    after = list(network.parameters())
    assert all(a is b for a, b in zip(parameters, after, strict=True))
    assert all(
        p.grad is None if g is None else torch.equal(p.grad, g)
        for p, g in zip(after, gradients, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), generators[0]) and random.getstate() == generators[1]
    assert (np.random.get_state()[1] == generators[2]).all()  # noqa: NPY002
    frozen = {name for name, p in removed.network.named_parameters() if not p.requires_grad}
    assert frozen == {"fc.weight", "fc.bias"}
    assert not {id(p) for p in removed.network.parameters()} & {id(p) for p in after}
    assert all(p.grad is None and p.dtype == torch.float64 for p in removed.network.parameters())


def test_without_pruned_filters_the_removed_network_is_a_copy() -> None:
    network = small()
    removed = remove(network, IMAGES)
    assert (removed.removed, removed.masked, removed.reasons) == (0, 0, {})
    assert removed.network is not network and removed.before.macs == removed.after.macs
    assert_same_state(removed.network, network)


def test_a_layer_pruned_whole_leaves_one_filter_of_zeros() -> None:
    network = pruned(stream(), IMAGES, {"in1": (0, 1, 2, 3, 4)})
    removed = remove(network, IMAGES)
    assert_same_outputs(network, removed.network, IMAGES, 1e-12)
    assert removed.filters["in1"] == removed.masked_filters["in1"] == (0,)
    assert "left without a channel" in removed.reasons["in1"][0]
    # nothing feeds out1 any more, but the stem still writes to its channels
    assert removed.masked_layers["out1"] == 4


def test_a_filter_whose_readers_are_alive_stays() -> None:
    network = small()
    keep = torch.ones(6, 1, 3, 3, dtype=torch.bool)
    keep[2] = False  # all its single weights, but its bias is alive and so is what reads it
    prune_entries(network, {"0.weight": keep})
    removed = remove(network, IMAGES)
    assert (removed.removed, removed.masked_filters) == (0, {"0": (2,)})
    assert removed.reasons == {"0": ("layers that read the channels are alive there (3)",)}
    assert_same_outputs(network, removed.network, IMAGES, 0.0)
    assert torch.equal(kept_of(removed.network[0], "weight"), keep)


class Softmax(nn.Module):
    """Share of each channel; a channel of zeros contributes to it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, 1)


def test_filters_that_something_unseen_mixes_stay_masked_and_the_others_go() -> None:
    first, second = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 1)
    network = randomise(nn.Sequential(first, nn.ReLU(), second, Softmax(), *head(4))).double()
    pruned(network, IMAGES, {"0": (2, 3)})
    alive = torch.tensor([True, False, True, True])
    by_hand = {
        "2.weight": alive.view(4, 1, 1, 1).expand(4, 6, 1, 1),
        "2.bias": alive,
        "5.weight": alive.expand(3, 4),
    }
    prune_entries(network, by_hand)
    late = remove(network, IMAGES, limit=0.0)
    assert late.masked_filters == {"0": (2, 3), "2": (1,)}
    over = ("the time limit was over before their removal was tried",)
    assert late.reasons == {"0": over, "2": over}
    removed = remove(network, IMAGES)
    assert_same_outputs(network, removed.network, IMAGES, 1e-12)
    assert removed.filters == {"0": (0, 1, 4, 5), "2": (0, 1, 2, 3)}
    assert removed.masked_filters == {"2": (1,)}
    assert removed.reasons == {"2": ("without them the network would compute something else",)}


def test_a_wrapped_network_is_unwrapped() -> None:
    network = masked_small()
    removed = remove(nn.DataParallel(network), IMAGES)
    assert isinstance(removed.network, nn.Sequential)
    assert_same_outputs(network, removed.network, IMAGES, 1e-12)
    assert cost(nn.DataParallel(network), IMAGES).parameters == removed.before.parameters


def test_an_example_of_another_dtype_will_do() -> None:
    assert remove(masked_small(), IMAGES.float()).removed == 3


def test_channels_that_are_split_and_shuffled_can_go() -> None:
    images = torch.randn(2, 3, 64, 64)
    network = models.shufflenet_v2_x0_5(weights=None, num_classes=4)
    pruned(network, images, {"conv1.0": (1,), "conv5.0": (3,)})
    removed = remove(network, images)
    assert_same_outputs(network, removed.network, images, 1e-6)
    assert (removed.removed, removed.masked) == (3, 0)  # and a depthwise filter


def test_branches_that_run_only_in_training_lose_the_channels_too() -> None:
    torch.manual_seed(0)
    network = models.googlenet(weights=None, init_weights=False, num_classes=4).double()
    images = torch.randn(2, 3, 64, 64).double()
    pruned(network, images, {"inception4a.branch1.conv": tuple(range(50))})
    removed = remove(network, images)
    assert (removed.removed, removed.masked) == (50, 0)
    assert removed.network.aux1.conv.conv.in_channels == 512 - 50
    for module in (*network.modules(), *removed.network.modules()):
        module.training = next(module.children(), None) is not None
    for ours, smaller in zip(network(images), removed.network(images), strict=True):
        torch.testing.assert_close(ours, smaller, rtol=1e-9, atol=1e-9)


class Arguments(nn.Module):
    """A network of two arguments that returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"logits": self.fc(F.relu(self.a(x + scale))), "hidden": x * 2}


@pytest.mark.parametrize("form", [dict, tuple], ids=lambda form: form.__name__)
def test_examples_are_keyword_or_positional_arguments_and_outputs_any_tree(
    form: Callable[..., object],
) -> None:
    network, x, scale = Arguments(), torch.randn(2, 4), torch.ones(2, 1)
    example = form({"x": x, "scale": scale}) if form is dict else (x, scale)
    Pruner(network, example).prune_filters({"a": (1, 2)})
    removed = remove(network, example)
    assert removed.filters == {"a": (0, 3, 4, 5)}
    assert removed.after.macs == 4 * 4 + 4 * 3
    want, got = network(x, scale), removed.network(x, scale)
    torch.testing.assert_close(got, want)


def test_a_single_input_without_batch_dimension_and_what_does_not_fit_are_refused() -> None:
    network, images = models.resnet18(num_classes=4), torch.randn(2, 3, 32, 32)
    with pytest.raises(DataError, match=r"a single input of shape \(3, 32, 32\).*images\[:2\]"):
        pv.Pruner(network, images[0])
    with pytest.raises(DataError, match=r"got Tensor of shape \(2, 1, 32, 32\), on which ResNet"):
        pv.remove(network, images[:, :1])
    with pytest.raises(DataError, match=r"batch of inputs alone, such as images\[:2\], got int"):
        pv.Pruner(network, 3)
    with pytest.raises(DataError, match="must hold one input or more"):
        pv.Pruner(network, images[:0])


def test_a_network_without_filters_is_refused() -> None:
    with pytest.raises(PrunevizError, match="no filters"):
        remove(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double(), IMAGES)


class WithFlag(nn.Module):
    """A network that also returns a boolean tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(x).mean((2, 3)), x.mean((1, 2, 3)) > 0


def test_a_network_that_returns_flags_beside_its_outputs_can_be_made_smaller() -> None:
    torch.manual_seed(0)
    network, example = WithFlag().eval(), torch.randn(2, 1, 8, 8)
    kept = torch.ones_like(network.body[0].weight, dtype=torch.bool)
    kept[0] = False
    readers = torch.ones_like(network.body[2].weight, dtype=torch.bool)
    readers[:, 0] = False
    bias = kept[:, 0, 0, 0]
    prune_entries(network, {"body.0.weight": kept, "body.0.bias": bias, "body.2.weight": readers})
    removed = remove(network, example)
    assert (removed.removed, removed.masked) == (1, 0)
    for mine, smaller in zip(network(example), removed.network(example), strict=True):
        torch.testing.assert_close(mine, smaller)


def test_a_network_whose_pruned_entries_moved_is_refused() -> None:
    network, example = WithFlag().eval(), torch.randn(2, 1, 8, 8)
    kept = torch.ones_like(network.body[0].weight, dtype=torch.bool)
    kept[1] = False
    prune_entries(network, {"body.0.weight": kept})
    with torch.no_grad():
        network.body[0].weight[1] += 0.1
    with pytest.raises(PruningError, match=r"of body\.0\.weight are no longer zero.*hold_pruned"):
        remove(network, example)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.d, self.fc = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        return self.fc((self.d(y) if x.shape[-1] > 4 else y).mean((2, 3)))


def test_layers_that_the_example_did_not_run_are_named() -> None:
    network, x = Branching(), torch.randn(2, 3, 4, 4)
    Pruner(network, x).prune_filters({"a": [1]})
    removed = remove(network, x)
    assert removed.not_run == ("d",)
    assert "d were not called with this example" in removed.summary()
    other = remove(network, torch.randn(2, 3, 6, 6))
    assert other.not_run == ()
    assert "not called" not in other.summary()
