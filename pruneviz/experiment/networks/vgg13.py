"""VGG-13 for small images: ten times convolution, ReLU, batch norm, then a linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from pruneviz.experiment.networks.width import channels, check_sizes

# A 2x2 max pooling follows each stage.
PUBLISHED_CHANNELS = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))


class VGG13(nn.Module):
    """Layers `features.conv1` ... `features.conv10`, global pooling, `classifier`."""

    def __init__(self, num_classes: int, width: float, in_channels: int) -> None:
        super().__init__()
        stages = []
        for published in PUBLISHED_CHANNELS:
            stages.append([channels(number, width) for number in published])
        self.features = _features(stages, in_channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(stages[-1][-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)).flatten(1))


def _features(stages: list[list[int]], in_channels: int) -> nn.Sequential:
    features, number = nn.Sequential(), 0
    for stage, filters_of_stage in enumerate(stages, start=1):
        for filters in filters_of_stage:
            number += 1
            conv = nn.Conv2d(in_channels, filters, kernel_size=3, padding=1, bias=False)
            features.add_module(f"conv{number}", conv)
            features.add_module(f"relu{number}", nn.ReLU())
            features.add_module(f"norm{number}", nn.BatchNorm2d(filters))
            in_channels = filters
        features.add_module(f"pool{stage}", nn.MaxPool2d(2))
    return features


def vgg13(num_classes: int = 100, *, width: float = 1.0, in_channels: int = 3) -> VGG13:
    """VGG-13 with PyTorch's default initialisation.

    Full width and 100 classes: 9,459,236 parameters, 2,944 filters in 10 convolutions.

    Args:
        num_classes: Number of logits.
        width: Fraction of the published channels.
        in_channels: Channels of the input images.

    Returns:
        A module from images [N, in_channels, H, W] to logits [N, num_classes]. H and W are 32 or
        more; at 32 the global pooling does nothing, as published.

    Raises:
        PresetError: If a size is out of range.

    References:
        Lubana and Dick, ICLR 2021, and its published code.
    """
    check_sizes(num_classes, width, in_channels)
    return VGG13(num_classes, width, in_channels)
