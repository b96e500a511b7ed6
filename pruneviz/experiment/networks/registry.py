"""Build a network of the paper by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from pruneviz.errors import PresetError, unknown_name
from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.experiment.networks.resnet56 import resnet56
from pruneviz.experiment.networks.vgg13 import vgg13

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "vgg13": vgg13,
    "mobilenet_v1": mobilenet_v1,
    "resnet56": resnet56,
}


def build_network(
    name: str, *, num_classes: int, width: float = 1.0, in_channels: int = 3
) -> nn.Module:
    """Build a network of the paper, initialised from PyTorch's global generator.

    Args:
        name: "vgg13", "mobilenet_v1" or "resnet56".
        num_classes: Number of logits.
        width: Fraction of the published channels in every layer; 1.0 is the published network.
        in_channels: Channels of the input images.

    Returns:
        A module from images [N, in_channels, H, W] to logits [N, num_classes].

    Raises:
        PresetError: If the name is unknown, or a size is out of range.

    References:
        Lubana and Dick, ICLR 2021, and its published code.
    """
    if name not in NETWORKS:
        raise PresetError(unknown_name("network", name, tuple(NETWORKS)))
    return NETWORKS[name](num_classes, width=width, in_channels=in_channels)
