"""The width of a network: which fraction of the published channels each layer has."""

from __future__ import annotations

import math

from pruneviz.errors import PresetError

MIN_CHANNELS = 4  # a layer of one or two channels leaves nothing to prune and often does not train


def channels(published: int, width: float) -> int:
    """The number of channels of a layer that has `published` ones at width 1: rounded, and at least `MIN_CHANNELS`."""
    return max(MIN_CHANNELS, round(published * width))


def check_sizes(num_classes: int, width: float, in_channels: int) -> None:
    """Refuse sizes that build no network. Errors: `PresetError` naming the size, its value and what is allowed."""
    if not (math.isfinite(width) and width > 0):
        raise PresetError(
            f"width is {width}, expected a positive fraction of the channels; 1.0 is the published network"
        )
    for name, size in (("num_classes", num_classes), ("in_channels", in_channels)):
        if size < 1:
            raise PresetError(f"{name} is {size}, expected a whole number from 1")
