"""What one row of a table stands for: a filter, or a single weight.

Every column is made of one number per weight. A filter's is the sum over its weights; a single weight's is that number itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.model.filters import Layer
from pruneviz.pruning.held_entries import kept_entries, pruned_rows


def over_filters(values: Tensor) -> Tensor:
    """One number per filter, from one per weight [filters, ...]: their sum."""
    return values.flatten(1).sum(1)


def over_weights(values: Tensor) -> Tensor:
    """One number per weight, filter after filter."""
    return values.flatten()


REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "filter": over_filters,
    "weight": over_weights,
}


def weights_per_filter(model: nn.Module, layer: Layer) -> int:
    """How many weights each filter of a layer has."""
    return model.get_parameter(layer.weight)[0].numel()


def key_columns(model: nn.Module, layers: Sequence[Layer], unit: str) -> dict[str, object]:
    """`layer` and `filter` of every row, and for unit "weight" the `weight`, its position in the filter's flattened weights."""
    sizes = [weights_per_filter(model, layer) if unit == "weight" else 1 for layer in layers]
    names = [layer.name for layer in layers]
    codes = np.repeat(
        np.arange(len(layers)),
        [layer.filters * size for layer, size in zip(layers, sizes, strict=True)],
    )
    filters = [
        np.repeat(np.array(layer.numbers), size) for layer, size in zip(layers, sizes, strict=True)
    ]
    keys: dict[str, object] = {
        "layer": pd.Categorical.from_codes(codes, categories=pd.Index(names)),
        "filter": np.concatenate(filters),
    }
    if unit == "weight":
        keys["weight"] = np.concatenate(
            [np.tile(np.arange(n), layer.filters) for layer, n in zip(layers, sizes, strict=True)]
        )
    return keys


def pruned_units(model: nn.Module, layer: Layer, unit: str) -> Tensor | None:
    """Which rows of a layer `pruneviz.pruning.held_entries` pruned: boolean, on the CPU; None where nothing of the layer is pruned."""
    if unit == "weight":
        kept = kept_entries(model).get(layer.weight)
        return None if kept is None else ~kept.flatten().cpu()
    pruned = pruned_rows(model, layer.weight)
    return None if pruned is None else pruned.cpu()


def scale_of_units(model: nn.Module, layer: Layer, scales: Tensor, unit: str) -> Tensor:
    """The scales of a layer's filters [filters] beside every row; a weight has that of its filter."""
    return (
        torch.repeat_interleave(scales, weights_per_filter(model, layer))
        if unit == "weight"
        else scales
    )
