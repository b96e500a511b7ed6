"""The rows of a table: one per filter, or one per single weight.

Every column is computed from one number per weight: a row of a filter holds their sum, a row of a
weight the number itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn

from pruneviz.model.filters import Layer
from pruneviz.pruning.held_entries import kept_entries, pruned_rows


def over_filters(values: Tensor) -> Tensor:
    """Sum of the values per weight [filters, ...] over each filter: [filters]."""
    return values.flatten(1).sum(1)


def over_weights(values: Tensor) -> Tensor:
    """Values per weight [filters, ...], filter after filter: [weights]."""
    return values.flatten()


REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "filter": over_filters,
    "weight": over_weights,
}


def weights_per_filter(model: nn.Module, layer: Layer) -> int:
    """Number of weights per filter in a layer."""
    return model.get_parameter(layer.weight)[0].numel()


def rows_per_filter(model: nn.Module, layer: Layer, unit: str) -> int:
    """Number of rows per filter in a layer."""
    return weights_per_filter(model, layer) if unit == "weight" else 1


def key_columns(model: nn.Module, layers: Sequence[Layer], unit: str) -> dict[str, object]:
    """`layer` and `filter` of every row, and with unit "weight" its `weight`.

    `weight` is the position in the filter's flattened weights, from 0.
    """
    sizes = [rows_per_filter(model, layer, unit) for layer in layers]
    rows = [layer.filters * size for layer, size in zip(layers, sizes, strict=True)]
    names = pd.Index([layer.name for layer in layers])
    layer_codes = np.repeat(np.arange(len(layers)), rows)
    filters = [
        np.repeat(np.array(layer.numbers), size) for layer, size in zip(layers, sizes, strict=True)
    ]
    keys: dict[str, object] = {
        "layer": pd.Categorical.from_codes(layer_codes, categories=names),
        "filter": np.concatenate(filters),
    }
    if unit == "weight":
        keys["weight"] = np.concatenate(
            [np.tile(np.arange(n), layer.filters) for layer, n in zip(layers, sizes, strict=True)]
        )
    return keys


def pruned_mask(model: nn.Module, layer: Layer, unit: str) -> Tensor | None:
    """Mask of a layer's pruned rows: boolean, on the CPU; None if none is pruned.

    Only entries pruned by `pruneviz.pruning` count, not weights that happen to be zero.
    """
    if unit == "weight":
        kept = kept_entries(model).get(layer.weight)
        return None if kept is None else ~kept.flatten().cpu()
    pruned = pruned_rows(model, layer.weight)
    return None if pruned is None else pruned.cpu()
