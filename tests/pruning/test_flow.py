"""A filter is pruned only if zero is as good as absent, which an ablation decides."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from pruneviz.errors import PruningError
from pruneviz.pruning.coupling import Coupling
from pruneviz.pruning.flow import Flow
from pruneviz.pruning.pruner import Pruner
from tests.support.cases import CLASSES, Net, digit_batches, norm2d, randomise

Forward = Callable[[Net, Tensor], Tensor]
X = digit_batches((4,))[0][0]


class GlobalResponseNorm(nn.Module):
    """As in ConvNeXt V2, for channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(1, 2), keepdim=True)
        return x + torch.addcmul(self.bias, self.weight, x * (size / (size.mean(-1, True) + 1e-6)))


def build(forward: Forward, **more: nn.Module) -> nn.Module:
    convs = {"stem": nn.Conv2d(1, 3, 1), "a": nn.Conv2d(3, 3, 1), "c": nn.Conv2d(3, 4, 1)}
    return randomise(Net(forward, fc=nn.Linear(4, CLASSES), **convs, **more)).double()


def stream(activation: Callable[[Net, Tensor], Tensor]) -> Forward:
    """A residual sum of the stem and an activation of a, read by c."""

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = x + activation(net, net.a(x))
        return net.fc(F.relu(net.c(x)).mean((2, 3)))

    return forward


def chain(activation: Callable[[Net, Tensor], Tensor]) -> Forward:
    """The same activation of a, which c alone reads."""

    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc(F.relu(net.c(activation(net, net.a(net.stem(x))))).mean((2, 3)))

    return forward


def grn(net: Net, y: Tensor) -> Tensor:
    return net.grn(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


ACTIVATIONS: Mapping[str, Callable[[Net, Tensor], Tensor]] = {
    "relu": lambda net, y: F.relu(y),
    "gelu": lambda net, y: F.gelu(y),
    "elu": lambda net, y: F.elu(y),
    "silu": lambda net, y: F.silu(y),
    "tanh": lambda net, y: torch.tanh(y),
    "mish": lambda net, y: F.mish(y),
    "hardswish": lambda net, y: F.hardswish(y),
    "sigmoid": lambda net, y: torch.sigmoid(y),
    "softplus": lambda net, y: F.softplus(y),
    "hardsigmoid": lambda net, y: F.hardsigmoid(y),
    "exp": lambda net, y: torch.exp(y),
    "cos": lambda net, y: torch.cos(y),
    "plus one": lambda net, y: y + 1,
    "bias after": lambda net, y: y + net.shift.weight.view(1, 3, 1, 1),
    "scale after": lambda net, y: y * net.shift.weight.view(1, 3, 1, 1),
    "sine of shifted": lambda net, y: torch.sin(y + 0.5),
    "clamp": lambda net, y: y.clamp(min=0.2),
    "batch norm": lambda net, y: net.bn(y),
    "softplus, then batch norm": lambda net, y: net.bn(F.softplus(y)),
    "plain batch norm": lambda net, y: net.plain(y),
    "softplus, then plain batch norm": lambda net, y: net.plain(F.softplus(y)),
    "instance norm by hand": lambda net, y: y / (y.std((2, 3), keepdim=True) + 1),
    "grn": grn,
    "layer norm": lambda net, y: F.layer_norm(y, list(y.shape[1:])),
    "softmax": lambda net, y: F.softmax(y, 1),
    "l2 norm": lambda net, y: F.normalize(y, dim=1),
    "maximum with another": lambda net, y: torch.maximum(y, net.other(X[: len(y)])),
    "maximum over channels": lambda net, y: y.amax(1, keepdim=True).expand_as(y),
    "reciprocal": lambda net, y: 1 / (1 + y.abs()),
}
MODULES: Mapping[str, nn.Module] = {
    "shift": nn.Linear(3, 1, bias=False),
    "bn": norm2d(3),
    "plain": nn.BatchNorm2d(3, affine=False),
    "grn": GlobalResponseNorm(3),
    "other": nn.Conv2d(1, 3, 1),
}
# zero is not as good as absent: in a sum with the stem, and if c alone reads it
LEFT_IN_SUMS = {
    "sigmoid", "softplus", "hardsigmoid", "exp", "cos", "plus one", "bias after", "sine of shifted",
    "clamp", "softplus, then plain batch norm", "grn", "layer norm", "softmax", "reciprocal",
    "maximum with another", "maximum over channels",
}  # fmt: skip
LEFT_ALONE = {"grn", "layer norm", "softmax", "maximum with another", "maximum over channels"}


def network(forward: Forward) -> nn.Module:
    return build(forward, **{name: copy.deepcopy(m) for name, m in MODULES.items()})


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", [stream, chain], ids=lambda place: place.__name__)
def test_layers_whose_zeros_are_not_absence_are_left_out_and_no_others(
    name: str, place: Callable[..., Forward]
) -> None:
    coupling = Coupling(network(place(ACTIVATIONS[name])), X)
    left = name in (LEFT_IN_SUMS if place is stream else LEFT_ALONE)
    assert ("a" in coupling.left_out) == left, coupling.left_out
    if left:
        assert "filters of a " in coupling.left_out["a"] or " of a " in coupling.left_out["a"]


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n not in LEFT_IN_SUMS])
@pytest.mark.parametrize("training", [False, True])
def test_a_pruned_filter_adds_nothing_to_the_stream(name: str, training: bool) -> None:
    """Without filter 1 of a, channel 1 of the sum is the stem's alone."""
    activation = ACTIVATIONS[name]

    def without(net: Net, y: Tensor) -> Tensor:
        return activation(net, y) * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)

    pruned, expected = network(stream(activation)), network(stream(without))
    expected.load_state_dict(pruned.state_dict())
    Pruner(pruned, X).prune_filters({"a": [1]})
    if name == "l2 norm":  # the length without the filter
        expected.a.weight.data[1], expected.a.bias.data[1] = 0, 0
    for net in (pruned, expected):
        net.train(training)
    torch.testing.assert_close(pruned(X), expected(X), rtol=1e-12, atol=1e-12)


def test_gates_are_left_out_unless_they_go_with_what_they_multiply() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = x * torch.sigmoid(net.a(x))
        return net.fc(F.relu(net.c(x)).mean((2, 3)))

    def of_sum(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = (x + net.other(X[: len(x)])) * torch.sigmoid(net.a(x))
        return net.fc(F.relu(net.c(x)).mean((2, 3)))

    def of_normalised(net: Net, x: Tensor) -> Tensor:
        x = F.layer_norm(net.stem(x), [3, 4, 4])
        x = x * torch.sigmoid(net.a(x))
        return net.fc(F.relu(net.c(x)).mean((2, 3)))

    assert not Coupling(network(forward), X).left_out
    coupling = Coupling(network(of_sum), X)
    assert list(coupling.left_out) == ["a"]
    assert "constant factor" in coupling.left_out["a"]
    assert list(Coupling(network(of_normalised), X).left_out) == ["stem", "a"]


def test_a_sum_that_leaves_a_constant_matters_only_if_all_its_filters_can_be_pruned() -> None:
    def of_both(net: Net, x: Tensor) -> Tensor:
        y = net.stem(x)
        y = y + torch.sigmoid(net.a(y) + net.other(X[: len(x)]))
        return net.fc(F.relu(net.c(y)).mean((2, 3)))

    def with_position(net: Net, x: Tensor) -> Tensor:
        y = net.stem(x) + net.shift.weight.view(1, 3, 1, 1)
        y = y + net.a(y)
        y = y + net.other(X[: len(x)])
        return net.fc(F.relu(net.c(y)).mean((2, 3)))

    both = Coupling(network(of_both), X).left_out
    assert set(both) == {"a", "other"} and "constant in the operation add" in both["a"]
    assert list(Coupling(network(with_position), X).left_out) == ["stem"]


def test_a_norm_that_two_layers_share_leaves_its_shift_for_either() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.fc(F.relu(net.c(net.bn(net.a(net.bn(net.stem(x)))))).mean((2, 3)))

    assert set(Coupling(network(forward), X).left_out) == {"stem", "a"}


def test_branches_that_run_only_in_training_are_found_and_lose_their_columns() -> None:
    net = models.googlenet(weights=None, init_weights=False, num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    flow = Flow(net, x)
    assert {"aux1.conv.conv", "aux2.fc2"} <= flow.only_training
    assert flow.read["aux1.conv.conv"][0] == {("inception4a.branch1.conv", 0)}
    kept = Coupling(net, x).kept([("inception4a.branch1.conv", 0)])
    assert not kept["aux1.conv.conv.weight"][:, 0].any()
    assert kept["aux1.conv.conv.weight"][:, 1:].all()
    assert not net.training


def test_nothing_moves_and_a_network_that_cannot_run_silenced_is_named() -> None:
    def refuses_zeros(net: Net, x: Tensor) -> Tensor:
        y = net.stem(x)
        if not y.any():
            raise RuntimeError("dead")
        return net.fc(net.c(y).mean((2, 3)))

    net = network(stream(ACTIVATIONS["batch norm"])).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    Flow(net, X)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and net.training and net.bn.training
    with pytest.raises(PruningError, match=r"Net cannot run with all filters at zero .*dead"):
        Flow(network(refuses_zeros), X)
