"""Network width: the fraction of the published channels in each layer."""

from __future__ import annotations

import math

from pruneviz.errors import PresetError

MIN_CHANNELS = 4  # a layer with one or two has nothing to prune and often does not train


def channels(published: int, width: float) -> int:
    """Channels of a layer that has `published` at width 1; rounded, at least `MIN_CHANNELS`."""
    return max(MIN_CHANNELS, round(published * width))


def check_sizes(num_classes: int, width: float, in_channels: int) -> None:
    """Check the sizes of a network.

    Raises:
        PresetError: If a size is out of range.
    """
    if not (math.isfinite(width) and width > 0):
        raise PresetError(
            f"width is {width}, expected a positive fraction of the channels; "
            "1.0 is the published network"
        )
    for name, size in (("num_classes", num_classes), ("in_channels", in_channels)):
        if size < 1:
            raise PresetError(f"{name} is {size}, expected a whole number from 1")
