"""The networks of the paper: VGG-13, MobileNet-V1 and ResNet-56 for small images (E. S. Lubana, R. P. Dick, ICLR 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from pruneviz.errors import PresetError
from pruneviz.experiment.networks.mobilenet_v1 import mobilenet_v1
from pruneviz.experiment.networks.resnet56 import resnet56
from pruneviz.experiment.networks.vgg13 import vgg13

__all__ = ["NETWORKS", "build_network", "mobilenet_v1", "resnet56", "vgg13"]

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "vgg13": vgg13,
    "mobilenet_v1": mobilenet_v1,
    "resnet56": resnet56,
}


def build_network(
    name: str, *, num_classes: int, width: float = 1.0, in_channels: int = 3
) -> nn.Module:
    """The network called `name`, freshly initialised from torch's global generator; `width` is the fraction of its channels.

    Errors: `PresetError` for an unknown name (it lists those that exist) and for impossible sizes.
    """
    if name not in NETWORKS:
        raise PresetError(f"there is no network {name!r}; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name](num_classes, width=width, in_channels=in_channels)
