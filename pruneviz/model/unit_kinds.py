"""The units that people prune in transformers, found in any network that has them.

A kind is found by structure: by what a traced forward pass shows, by the type of a module, and by
attributes such as `num_heads`. What is not understood is refused with the names that were looked
for; an explicit grouping (`pruneviz.model.units.grouped`) can always be given instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from pruneviz.errors import MeasureError
from pruneviz.model.filters import Trace
from pruneviz.model.units import Slices, Units


def find_units(model: nn.Module, kind: str, trace: Trace) -> list[Units]:
    """The units of a kind, layer by layer.

    Args:
        model: Any network; it does not change.
        kind: A key of `KINDS`.
        trace: Trace of the network.

    Raises:
        MeasureError: If the network has no such units, or they are not understood.
    """
    return KINDS[kind](model, trace)


def embedding_channels(model: nn.Module, trace: Trace) -> list[Units]:
    """Embedding channels: the columns of every `nn.Embedding` and `nn.EmbeddingBag`."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            index = torch.arange(module.embedding_dim)
            part = Slices(names[id(module.weight)], 1, index, index)
            found.append(Units(path, "channel", len(index), (part,)))
    if not found:
        raise MeasureError(
            f"{type(model).__name__} has no channels: no nn.Embedding or nn.EmbeddingBag; give the "
            "grouping {name: [(parameter, dim, indices), ...]} as unit"
        )
    return found


Finder = Callable[[nn.Module, Trace], list[Units]]

KINDS: Mapping[str, Finder] = {"channel": embedding_channels}
