"""VGG-13 for small images: ten convolutions in the order convolution, ReLU, batch norm, and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from pruneviz.experiment.networks.width import channels, check_sizes

PUBLISHED_CHANNELS = (
    (64, 64),
    (128, 128),
    (256, 256),
    (512, 512),
    (512, 512),
)  # a 2x2 max pooling follows each group


class VGG13(nn.Module):
    """VGG-13: `features.conv1` ... `features.conv10`, global pooling, `classifier`."""

    def __init__(self, num_classes: int, width: float, in_channels: int) -> None:
        super().__init__()
        groups = [
            [channels(published, width) for published in group] for group in PUBLISHED_CHANNELS
        ]
        self.features = _features(groups, in_channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(groups[-1][-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)).flatten(1))


def _features(groups: list[list[int]], in_channels: int) -> nn.Sequential:
    features, number = nn.Sequential(), 0
    for group, filters_of_group in enumerate(groups, start=1):
        for filters in filters_of_group:
            number += 1
            features.add_module(
                f"conv{number}",
                nn.Conv2d(in_channels, filters, kernel_size=3, padding=1, bias=False),
            )
            features.add_module(f"relu{number}", nn.ReLU())
            features.add_module(f"norm{number}", nn.BatchNorm2d(filters))
            in_channels = filters
        features.add_module(f"pool{group}", nn.MaxPool2d(2))
    return features


def vgg13(num_classes: int = 100, *, width: float = 1.0, in_channels: int = 3) -> VGG13:
    """VGG-13 with torch's default initialisation; images [N, in_channels, H, W] to logits [N, num_classes].

    `width` is the fraction of the published channels. H and W are 32 or more; at 32 the global pooling does nothing, as
    published. Full width and 100 classes: 9,459,236 parameters, 2,944 filters in 10 convolutions. Errors: `PresetError` for
    impossible sizes. Source: E. S. Lubana, R. P. Dick, ICLR 2021, and the code published with it.
    """
    check_sizes(num_classes, width, in_channels)
    return VGG13(num_classes, width, in_channels)
