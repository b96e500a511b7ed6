"""MobileNet-V1 for small images: a stem and thirteen depthwise-separable blocks.

Batch norm and ReLU follow every convolution.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from pruneviz.experiment.networks.width import channels, check_sizes

PUBLISHED_STEM = 32
PUBLISHED_BLOCKS = (  # channels and stride of each block
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(nn.Module):
    """Layers `features.conv0`, `features.block1.depthwise`, `features.block1.pointwise`, ...,
    global pooling, `classifier`."""

    def __init__(self, num_classes: int, width: float, in_channels: int) -> None:
        super().__init__()
        stem = channels(PUBLISHED_STEM, width)
        blocks = [(channels(published, width), stride) for published, stride in PUBLISHED_BLOCKS]
        self.features = _features(stem, blocks, in_channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(blocks[-1][0], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)).flatten(1))


def _features(stem: int, blocks: list[tuple[int, int]], in_channels: int) -> nn.Sequential:
    features, inputs = nn.Sequential(), stem
    features.add_module("conv0", nn.Conv2d(in_channels, stem, kernel_size=3, padding=1, bias=False))
    features.add_module("norm0", nn.BatchNorm2d(stem))
    features.add_module("relu0", nn.ReLU())
    for number, (filters, stride) in enumerate(blocks, start=1):
        features.add_module(f"block{number}", _separable_block(inputs, filters, stride))
        inputs = filters
    return features


def _separable_block(inputs: int, filters: int, stride: int) -> nn.Sequential:
    depthwise = nn.Conv2d(
        inputs, inputs, kernel_size=3, stride=stride, padding=1, groups=inputs, bias=False
    )
    pointwise = nn.Conv2d(inputs, filters, kernel_size=1, bias=False)
    return nn.Sequential(
        OrderedDict(
            depthwise=depthwise,
            norm1=nn.BatchNorm2d(inputs),
            relu1=nn.ReLU(),
            pointwise=pointwise,
            norm2=nn.BatchNorm2d(filters),
            relu2=nn.ReLU(),
        )
    )


def mobilenet_v1(
    num_classes: int = 100, *, width: float = 1.0, in_channels: int = 3
) -> MobileNetV1:
    """MobileNet-V1 with PyTorch's default initialisation.

    Full width and 100 classes: 3,309,476 parameters, 10,944 filters in 27 convolutions.

    Args:
        num_classes: Number of logits.
        width: Fraction of the published channels.
        in_channels: Channels of the input images.

    Returns:
        A module from images [N, in_channels, H, W] to logits [N, num_classes]. At 32x32 the global
        pooling is the published 2x2 average pooling.

    Raises:
        PresetError: If a size is out of range.

    References:
        Lubana and Dick, ICLR 2021, and its published code.
    """
    check_sizes(num_classes, width, in_channels)
    return MobileNetV1(num_classes, width, in_channels)
