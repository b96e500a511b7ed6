"""ResNet-56 for small images: three stages of nine basic blocks.

Batch norm follows every convolution; shortcuts that change the shape are 1x1 convolutions.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from pruneviz.experiment.networks.width import channels, check_sizes

PUBLISHED_CHANNELS = (16, 32, 64)
BLOCKS_PER_STAGE = 9


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution if the block changes the shape."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        same_shape = stride == 1 and inputs == filters
        self.shortcut = nn.Identity() if same_shape else _projection(inputs, filters, stride)
        self.relu2 = nn.ReLU()

    def forward(self, activations: Tensor) -> Tensor:
        branch = self.relu1(self.norm1(self.conv1(activations)))
        return self.relu2(self.norm2(self.conv2(branch)) + self.shortcut(activations))


class ResNet56(nn.Module):
    """Layers `conv1`, `stage1.block0.conv1`, ..., `stage2.block0.shortcut.conv`, ..., global
    pooling, `classifier`."""

    def __init__(self, num_classes: int, width: float, in_channels: int) -> None:
        super().__init__()
        first, second, third = (channels(published, width) for published in PUBLISHED_CHANNELS)
        self.conv1 = nn.Conv2d(in_channels, first, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(first)
        self.relu1 = nn.ReLU()
        self.stage1 = _stage(first, first, stride=1)
        self.stage2 = _stage(first, second, stride=2)
        self.stage3 = _stage(second, third, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(third, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.relu1(self.norm1(self.conv1(images)))
        return self.classifier(self.pool(self.stage3(self.stage2(self.stage1(stem)))).flatten(1))


def _projection(inputs: int, filters: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, filters, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(filters)))


def _stage(inputs: int, filters: int, stride: int) -> nn.Sequential:
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    blocks["block0"] = BasicBlock(inputs, filters, stride)
    for number in range(1, BLOCKS_PER_STAGE):
        blocks[f"block{number}"] = BasicBlock(filters, filters, stride=1)
    return nn.Sequential(blocks)


def resnet56(num_classes: int = 100, *, width: float = 1.0, in_channels: int = 3) -> ResNet56:
    """ResNet-56 with PyTorch's default initialisation.

    Full width and 100 classes: 861,620 parameters, 2,128 filters in 57 convolutions.

    Args:
        num_classes: Number of logits.
        width: Fraction of the published channels.
        in_channels: Channels of the input images.

    Returns:
        A module from images [N, in_channels, H, W] to logits [N, num_classes]. The pooling is
        global at any image size, as published.

    Raises:
        PresetError: If a size is out of range.

    References:
        Lubana and Dick, ICLR 2021, and its published code.
    """
    check_sizes(num_classes, width, in_channels)
    return ResNet56(num_classes, width, in_channels)
