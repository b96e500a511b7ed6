"""Coupled filters found by tracing one forward pass, and filters that must stay."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from random import Random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis.strategies import randoms
from torch import Tensor, nn
from torchvision import models
from torchvision.ops.misc import SqueezeExcitation

from pruneviz.errors import MeasureError, PruningError
from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.experiment.networks.resnet56 import resnet56
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.pruner import Pruner
from pruneviz.pruning.selection import with_dependents
from tests.support.cases import BY_NAME, CASES, CLASSES, Case, Net, digit_batches, head, norm2d
from tests.support.properties import for_all
from tests.support.random_graphs import PLANS, Graph, Plan, closed, groups_of, outputs_without

Forward = Callable[[Net, Tensor], Tensor]
DIGITS = digit_batches((2,), torch.float32)[0][0]
SMALL = torch.linspace(-2, 2, 3 * 9, dtype=torch.float64).sin().view(3, 1, 3, 3)
PHOTOS = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)


def leads_of_layers(coupling: Coupling) -> dict[str, list[tuple[str, int]]]:
    return {
        layer.name: [coupling.leads[layer.name, p] for p in range(layer.filters)]
        for layer in coupling.layers
    }


def own(layer: str, filters: int) -> list[tuple[str, int]]:
    return [(layer, p) for p in range(filters)]


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.name not in ("grouped", "bias_free", "group_norm", "shared_norm")],
    ids=lambda case: case.name,
)
def test_without_grouped_layers_every_filter_decides_for_itself(case: Case) -> None:
    coupling = Coupling(case.model(), DIGITS)
    assert list(leads_of_layers(coupling)) == list(case.layers)
    assert all(lead == filter_ for filter_, lead in coupling.leads.items())
    assert all(coupling.coupled_to(layer) is None for layer in coupling.layers)
    assert not coupling.left_out


def test_only_a_grouped_filter_that_reads_a_single_filter_depends_on_it() -> None:
    coupling = Coupling(BY_NAME["grouped"].model(), DIGITS)
    expected = {"0": own("0", 4), "3": own("3", 4), "6": [("3", p // 2) for p in range(8)]}
    assert leads_of_layers(coupling) == expected
    assert {layer.name: coupling.coupled_to(layer) for layer in coupling.layers} == {
        "0": None,
        "3": None,
        "6": "3",
    }
    assert coupling.members["3", 1] == [("3", 1), ("6", 2), ("6", 3)]
    assert coupling.count_groups([("6", 2), ("6", 3), ("3", 1), ("0", 1), ("10", 0)]) == 2


def test_a_chain_of_depthwise_layers_follows_its_first_filter() -> None:
    convs = [
        nn.Conv2d(1, 3, 1),
        nn.Conv2d(3, 3, 1, groups=3),
        norm2d(3),
        nn.Conv2d(3, 6, 1, groups=3),
    ]
    coupling = Coupling(nn.Sequential(*convs, *head(6)), DIGITS)
    assert leads_of_layers(coupling)["3"] == [("0", p // 2) for p in range(6)]
    assert coupling.coupled_to(coupling.layers[2]) == "0"


def test_a_depthwise_filter_on_a_residual_sum_or_on_the_input_decides_for_itself() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        y = net.a(x.repeat(1, 3, 1, 1))
        return net.fc(net.b(y + net.c(y)).mean((2, 3)))

    convs = {name: nn.Conv2d(3, 3, 1, groups=3 if name in "ab" else 1) for name in "abc"}
    coupling = Coupling(Net(forward, fc=nn.Linear(3, CLASSES), **convs), DIGITS)
    assert all(lead == filter_ for filter_, lead in coupling.leads.items())
    assert coupling.has_sums
    assert with_dependents(coupling, [("a", 0)]) == {("a", 0)}
    assert with_dependents(coupling, [("a", 0), ("c", 0)]) == {("a", 0), ("b", 0), ("c", 0)}


def gated(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.fc((x * torch.sigmoid(net.b(x))).mean((2, 3)))


def gated_twice(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.fc((x * torch.sigmoid(net.b(x)) + x * torch.tanh(net.c(x))).mean((2, 3)))


def gated_by_one(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.fc((x * torch.sigmoid(net.s(x))).mean((2, 3)))


def gated_stream(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    x = x + net.c(x)
    return net.fc((x * torch.sigmoid(net.b(x))).mean((2, 3)))


def swish(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.fc((x * torch.sigmoid(x) + net.b(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "coupled", "sums"),
    [
        (gated, True, False),
        (gated_twice, False, True),
        (gated_by_one, False, True),
        (gated_stream, False, True),
        (swish, False, True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_gate_goes_with_the_one_filter_that_it_is_multiplied_with(
    forward: Forward, coupled: bool, sums: bool
) -> None:
    convs = {
        "a": nn.Conv2d(1, 3, 1),
        "b": nn.Conv2d(3, 3, 1),
        "c": nn.Conv2d(3, 3, 1),
        "s": nn.Conv2d(3, 1, 1),
    }
    coupling = Coupling(Net(forward, fc=nn.Linear(3, CLASSES), **convs), DIGITS)
    leads = leads_of_layers(coupling)
    for name in set(leads) & {"b", "c"}:
        assert leads[name] == own("a" if coupled else name, 3)
    assert coupling.has_sums is sums
    if coupled:
        assert with_dependents(coupling, [("b", 1)]) == {("a", 1), ("b", 1)}


def by_hand(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1).sqrt()
    return net.fc(net.b(x).mean((2, 3)))


def functional(net: Net, x: Tensor) -> Tensor:
    return net.fc(net.b(F.layer_norm(net.a(x), [3, 4, 4])).mean((2, 3)))


def channels_last(net: Net, x: Tensor) -> Tensor:
    return net.fc(net.b(net.n(net.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).mean((2, 3)))


def plain(net: Net, x: Tensor) -> Tensor:
    return net.fc(net.b(net.n(net.a(x))).mean((2, 3)))


SHARED: Mapping[str, tuple[Forward, nn.Module, str]] = {
    "by hand": (by_hand, nn.Identity(), "(mean|var)"),
    "functional": (functional, nn.Identity(), "layer_norm"),
    "channels last": (channels_last, nn.LayerNorm(3), "layer_norm"),
    "whole image": (plain, nn.LayerNorm([3, 4, 4]), "layer_norm"),
    "root mean square": (plain, nn.RMSNorm([3, 4, 4]), "(mean|rms_norm)"),
    "group": (plain, nn.GroupNorm(1, 3), "group_norm"),
    "group of one": (plain, nn.GroupNorm(3, 3), "group_norm"),
    "softmax": (plain, nn.Softmax(1), "softmax"),
}


@pytest.mark.parametrize("name", SHARED)
def test_filters_that_are_normalised_together_are_left_out_and_it_is_said_why(name: str) -> None:
    forward, norm, operation = SHARED[name]
    network = Net(
        forward, a=nn.Conv2d(1, 3, 1), n=norm, b=nn.Conv2d(3, 3, 1), fc=nn.Linear(3, CLASSES)
    )
    coupling = Coupling(network, DIGITS)
    assert [layer.name for layer in coupling.layers] == ["b"]
    assert list(coupling.left_out) == ["a"]
    # with b as classifier, a is the only layer to prune
    network.b, network.fc = nn.Conv2d(3, CLASSES, 1), nn.Identity()
    why = (
        f"the filters of a share the statistics of a {operation}, "
        "so that removing one changes the others"
    )
    with pytest.raises(PruningError, match=f"Net has no filter that can be pruned: {why}"):
        Coupling(network, DIGITS)


@pytest.mark.parametrize(
    "norm",
    [nn.InstanceNorm2d(3, affine=True), nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.LPPool2d(2, 2)],
    ids=repr,
)
def test_filters_that_are_normalised_each_by_itself_are_not(norm: nn.Module) -> None:
    coupling = Coupling(
        nn.Sequential(nn.Conv2d(1, 3, 1), norm, nn.Conv2d(3, 3, 1), *head(3)), DIGITS
    )
    assert not coupling.left_out
    assert [layer.name for layer in coupling.layers] == ["0", "2"]


def test_branches_that_are_averaged_are_no_common_statistic_of_a_layer() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc(torch.stack([net.a(x), net.b(x)]).mean(0).mean((2, 3)))

    coupling = Coupling(
        Net(forward, a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(1, 3, 1), fc=nn.Linear(3, CLASSES)), DIGITS
    )
    assert not coupling.left_out


def test_an_output_that_cannot_be_followed_still_has_its_last_layer_for_classifier() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return torch.fft.fft(net.fc(net.a(x).mean((2, 3)))).real

    coupling = Coupling(Net(forward, a=nn.Conv2d(1, 3, 1), fc=nn.Linear(3, CLASSES)), DIGITS)
    with pytest.raises(PruningError, match="nothing would reach the output layer fc"):
        with_dependents(coupling, own("a", 3))


def test_what_reads_a_constant_has_no_part_in_it() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc((net.a(net.start.expand(len(x), 3, 4, 4)) + net.b(x)).mean((2, 3)))

    network = Net(
        forward, a=nn.Conv2d(3, 3, 1, groups=3), b=nn.Conv2d(1, 3, 1), fc=nn.Linear(3, CLASSES)
    )
    network.start = nn.Parameter(torch.ones(1, 3, 1, 1))
    coupling = Coupling(network, DIGITS)
    assert with_dependents(coupling, [("b", 0)]) == {("b", 0)}
    assert set(coupling.kept([("b", 0)])) == {"b.weight", "b.bias"}


class Encoder(nn.Module):
    """A transformer on the rows of an image, as torch builds it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.embed(x.squeeze(1))).mean(1))


def test_the_multilayer_perceptron_of_a_transformer_loses_its_columns_and_nothing_else() -> None:
    coupling = Coupling(Encoder(), DIGITS)
    gone = with_dependents(coupling, [("block.linear1", 3)])
    kept = coupling.kept(gone)
    assert gone == {("block.linear1", 3)}
    assert {name: (~keep).nonzero().tolist() for name, keep in kept.items()} == {
        "block.linear1.weight": [[3, i] for i in range(8)],
        "block.linear1.bias": [[3]],
        "block.linear2.weight": [[i, 3] for i in range(8)],
    }


@for_all(few=8, many=1_000, plan=PLANS, drawn=randoms(use_true_random=False))
def test_random_networks_couple_and_compute_as_worked_out_channel_by_channel(
    plan: Plan, drawn: Random
) -> None:
    network, x = Graph(plan), SMALL
    try:
        coupling = Coupling(network, x)
    except PruningError as error:
        assert "has no filter that can be pruned" in str(error)  # all are left out
        assume(False)
    groups = groups_of(plan, coupling.leads)
    found = {own: set(coupling.members[lead]) for own, lead in coupling.leads.items()}
    assert found == groups
    filters = list(coupling.leads)
    chosen = drawn.sample(filters, drawn.randint(1, (1 + len(filters)) // 2))
    gone = closed(plan, groups, chosen)
    try:
        assert with_dependents(coupling, chosen) == gone
    except PruningError:
        assert outputs_without(network, gone, x).std(0).max() < 1e-12  # only constants are left
        assume(False)
    expected = outputs_without(network, gone, x)
    Pruner(network, x).prune_filters(
        {layer.name: [p for name, p in chosen if name == layer.name] for layer in coupling.layers}
    )
    torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-9)


def depthwise_filters(network: nn.Module) -> int:
    return sum(
        m.out_channels
        for m in network.modules()
        if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1
    )


def gates(network: nn.Module) -> int:
    return sum(m.fc2.out_channels for m in network.modules() if isinstance(m, SqueezeExcitation))


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], bool]] = {
    "mobilenet_v1": (functools.partial(mobilenet_v1, 10, width=0.25), False),
    "resnet56": (functools.partial(resnet56, 10), True),
    "mobilenet_v2": (functools.partial(models.mobilenet_v2, width_mult=0.25), True),
    "shufflenet": (models.shufflenet_v2_x0_5, False),
    "efficientnet_b0": (models.efficientnet_b0, True),
    "mobilenet_v3": (models.mobilenet_v3_small, True),
    "regnet_y": (models.regnet_y_400mf, True),
    "densenet": (functools.partial(models.DenseNet, 8, (2, 3), 16), False),
    "squeezenet": (models.squeezenet1_1, False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_depthwise_filters_and_gates_of_real_networks_are_counted_with_the_filter_that_they_serve(
    name: str,
) -> None:
    build, sums = NETWORKS[name]
    network = build()
    coupling = Coupling(network, PHOTOS)
    dependent = depthwise_filters(network) + gates(network)
    assert len(coupling.members) == len(coupling.leads) - dependent
    assert all(lead == coupling.leads[lead] for lead in coupling.leads.values())
    members = [member for members in coupling.members.values() for member in members]
    assert sorted(members) == sorted(coupling.leads)
    assert coupling.has_sums is sums
    assert not coupling.left_out


def test_a_gate_made_by_a_depthwise_layer_brings_its_feeder_along() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc((net.a(x) * torch.sigmoid(net.d(net.b(x)))).mean((2, 3)))

    convs = {"a": nn.Conv2d(1, 3, 1), "b": nn.Conv2d(1, 3, 1), "d": nn.Conv2d(3, 3, 1, groups=3)}
    coupling = Coupling(Net(forward, fc=nn.Linear(3, CLASSES), **convs), DIGITS)
    assert set(leads_of_layers(coupling)) == {"a", "b", "d"}
    assert [sorted(members) for members in coupling.members.values()] == [
        [("a", p), ("b", p), ("d", p)] for p in range(3)
    ]


def test_the_layer_norms_of_a_convnext_keep_what_they_normalise() -> None:
    network = models.convnext_tiny()
    coupling = Coupling(network, PHOTOS)
    normalised = {name for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    downsampling = {
        name for name in normalised if name.split(".")[-1] == "1" and name.split(".")[1] in "246"
    }
    assert set(coupling.left_out) == normalised - downsampling
    assert {layer.name for layer in coupling.layers} >= downsampling


def test_a_network_whose_weights_are_no_filters_is_told_of_units() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(1, 3, 2), nn.Flatten(), nn.Linear(75, CLASSES))
    with pytest.raises(MeasureError, match=r"has no filters.*transposed.*unit='neuron'"):
        Coupling(network, DIGITS)


def test_layers_with_computed_weights_and_transposed_ones_are_named() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = nn.Sequential(nn.Conv2d(3, 4, 1), normed, nn.ConvTranspose2d(4, 4, 1), mean)
    coupling = Coupling(network, torch.randn(2, 3, 4, 4))
    assert [layer.name for layer in coupling.layers] == ["0"]
    assert set(coupling.left_out) == {"1", "2"}
    assert "weight of 1 is computed" in coupling.left_out["1"]
    assert "transposed convolution" in coupling.left_out["2"]
    with pytest.raises(MeasureError, match=r"no weight that acts .* weight of 0 is computed"):
        Coupling(nn.Sequential(copy.deepcopy(normed), mean), torch.randn(2, 4, 4, 4))
