"""The three networks: counts of the paper, both input sizes, widths, order of layers, names."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from pruneviz.errors import PresetError
from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.experiment.networks.registry import NETWORKS, build_network
from pruneviz.experiment.networks.resnet56 import resnet56
from pruneviz.experiment.networks.vgg13 import vgg13

COUNTS = {
    "vgg13": (9_459_236, 2_944, 10),
    "mobilenet_v1": (3_309_476, 10_944, 27),
    "resnet56": (861_620, 2_128, 57),
}

every_network = pytest.mark.parametrize("name", NETWORKS)


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    }


def images(size: int, in_channels: int = 3) -> Tensor:
    return torch.rand(2, in_channels, size, size, generator=torch.Generator().manual_seed(0))


def applied_modules(network: nn.Module, given: Tensor) -> list[nn.Module]:
    """Modules without children, in execution order."""
    applied: list[nn.Module] = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda own, *_: applied.append(own))
    with torch.no_grad():
        network(given)
    return applied


def input_of(module: nn.Module, network: nn.Module, given: Tensor) -> Tensor:
    seen: list[Tensor] = []
    with (
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
        torch.no_grad(),
    ):
        network(given)
    return seen[0]


@every_network
def test_full_width_counts_are_the_papers(name: str) -> None:
    network = build_network(name, num_classes=100)
    convs = convolutions(network).values()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert (parameters, sum(conv.out_channels for conv in convs), len(convs)) == COUNTS[name]


@every_network
def test_no_convolution_has_a_bias_and_no_relu_works_in_place(name: str) -> None:
    network = build_network(name, num_classes=10, width=0.25)
    assert all(conv.bias is None for conv in convolutions(network).values())
    assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))


@every_network
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(("width", "in_channels"), [(1.0, 3), (0.25, 3), (0.01, 1)])
def test_images_become_logits(name: str, size: int, width: float, in_channels: int) -> None:
    network = build_network(name, num_classes=7, width=width, in_channels=in_channels).eval()
    with torch.no_grad():
        logits = network(images(size, in_channels))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@every_network
@pytest.mark.parametrize("width", [0.25, 0.5, 2.0])
def test_width_scales_every_layer(name: str, width: float) -> None:
    full, scaled = (
        convolutions(build_network(name, num_classes=10, width=w)) for w in (1.0, width)
    )
    assert list(full) == list(scaled)
    assert [conv.out_channels for conv in scaled.values()] == [
        round(width * conv.out_channels) for conv in full.values()
    ]


@every_network
def test_a_handful_of_channels_remain_at_the_smallest_width(name: str) -> None:
    assert {
        conv.out_channels
        for conv in convolutions(build_network(name, num_classes=10, width=1e-6)).values()
    } == {4}


@every_network
def test_the_classifier_is_the_only_and_last_linear_layer(name: str) -> None:
    network = build_network(name, num_classes=10, width=0.1)
    assert [n for n, module in network.named_modules() if isinstance(module, nn.Linear)] == [
        "classifier"
    ]
    assert list(network.named_modules())[-1][0] == "classifier"


@every_network
def test_layers_run_in_the_published_order(name: str) -> None:
    follower = {"vgg13": nn.ReLU, "mobilenet_v1": nn.BatchNorm2d, "resnet56": nn.BatchNorm2d}[name]
    applied = applied_modules(build_network(name, num_classes=10, width=0.1).eval(), images(32))
    after = [following for module, following in pairwise(applied) if isinstance(module, nn.Conv2d)]
    assert len(after) == COUNTS[name][2]
    assert all(isinstance(module, follower) for module in after)
    expected = (
        [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
        if name == "vgg13"
        else [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    )
    assert [type(module) for module in applied[:3]] == expected


def test_pooling_at_32_is_the_published_one() -> None:
    for network, side in (
        (vgg13(10, width=0.1), 1),
        (mobilenet_v1(10, width=0.1), 2),
        (resnet56(10, width=0.1), 8),
    ):
        pooled = input_of(network.pool, network.eval(), images(32))
        assert pooled.shape[2:] == (side, side)
        torch.testing.assert_close(network.pool(pooled), nn.functional.avg_pool2d(pooled, side))


def test_submodule_names_are_readable() -> None:
    assert list(convolutions(vgg13(10, width=0.1))) == [f"features.conv{i}" for i in range(1, 11)]
    separable = [
        f"features.block{i}.{part}" for i in range(1, 14) for part in ("depthwise", "pointwise")
    ]
    assert list(convolutions(mobilenet_v1(10, width=0.1))) == ["features.conv0", *separable]
    residual = list(convolutions(resnet56(10, width=0.1)))
    assert residual[:3] == ["conv1", "stage1.block0.conv1", "stage1.block0.conv2"]
    assert [n for n in residual if "shortcut" in n] == [
        "stage2.block0.shortcut.conv",
        "stage3.block0.shortcut.conv",
    ]


def test_depthwise_convolutions_have_one_group_per_channel() -> None:
    for name, conv in convolutions(mobilenet_v1(10, width=0.3)).items():
        assert conv.groups == (conv.in_channels if "depthwise" in name else 1)


@every_network
def test_the_same_seed_gives_the_same_network(name: str) -> None:
    states = []
    with torch.random.fork_rng():
        for _ in range(2):
            torch.manual_seed(3)
            states.append(build_network(name, num_classes=10, width=0.1).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@every_network
def test_initialisation_is_torchs_default(name: str) -> None:
    network = build_network(name, num_classes=10, width=0.5)
    for conv in convolutions(network).values():
        bound = (conv.in_channels // conv.groups * conv.kernel_size[0] ** 2) ** -0.5
        assert bound * 0.5 < float(conv.weight.detach().abs().max()) <= bound * (1 + 1e-6)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()) for norm in norms)


def test_unknown_network_lists_those_that_exist() -> None:
    with pytest.raises(
        PresetError,
        match=r"no network 'vgg16'; did you mean 'vgg13'\? "
        "Choose one of vgg13, mobilenet_v1, resnet56",
    ):
        build_network("vgg16", num_classes=10)


@every_network
@pytest.mark.parametrize("width", [0.0, -0.5, float("nan"), float("inf")])
def test_bad_width_is_refused(name: str, width: float) -> None:
    with pytest.raises(PresetError, match=r"width is .*, expected a positive fraction"):
        build_network(name, num_classes=10, width=width)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(PresetError, match="num_classes is 0"):
        vgg13(0)
    with pytest.raises(PresetError, match="in_channels is 0"):
        vgg13(10, in_channels=0)
