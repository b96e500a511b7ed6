"""The rows of a table: one per filter, per single weight, or per unit of several parameters.

Every column is computed from one number per weight: a row of a filter or unit holds their sum, a
row of a weight the number itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.model.filters import Layer
from pruneviz.model.units import Units
from pruneviz.pruning.held_entries import kept_of

AnyLayer: TypeAlias = Layer | Units
PerEntry: TypeAlias = Callable[[str], Tensor]  # parameter -> one number per entry


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


def reduced(layer: AnyLayer, per_entry: PerEntry, kind: str) -> Tensor:
    """One number per row of a layer, from one per entry of its parameters."""
    if isinstance(layer, Units):
        return layer.sums({name: per_entry(name) for name in layer.parameters})
    return REDUCTIONS[kind](layer.rows(per_entry(layer.weight)))


def parameters_of(layers: Sequence[AnyLayer]) -> list[str]:
    """Names of all parameters with entries in these layers, each once."""
    held = [
        name
        for layer in layers
        for name in (layer.parameters if isinstance(layer, Units) else (layer.weight,))
    ]
    return list(dict.fromkeys(held))


def rows_per_filter(model: nn.Module, layer: AnyLayer, kind: str) -> int:
    """Number of rows per filter in a layer."""
    if kind != "weight" or isinstance(layer, Units):
        return 1
    return model.get_parameter(layer.weight).numel() // max(1, layer.filters)


def key_columns(model: nn.Module, layers: Sequence[AnyLayer], kind: str) -> dict[str, object]:
    """`layer` and `filter` of every row, and of single weights their `weight`.

    `weight` is the position in the filter's flattened weights, from 0.
    """
    sizes = [rows_per_filter(model, layer, kind) for layer in layers]
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
    if kind == "weight":
        keys["weight"] = np.concatenate(
            [np.tile(np.arange(n), layer.filters) for layer, n in zip(layers, sizes, strict=True)]
        )
    return keys


class PrunedRows:
    """Which rows of a layer are pruned, read from the masks of pruned entries.

    Only entries pruned by `pruneviz.pruning` count, not weights that happen to be zero. A filter or
    unit is pruned once all its entries are.

    Args:
        model: The network.
        layer: One of its layers.
        kind: Row kind.
    """

    def __init__(self, model: nn.Module, layer: AnyLayer, kind: str) -> None:
        self._layer, self._kind = layer, kind
        self._parameters = {name: model.get_parameter(name) for name in parameters_of([layer])}
        # looked up once, because walking the modules takes longer than everything else
        self._places = {
            name: (
                model.get_submodule(name.rpartition(".")[0]),
                name.rpartition(".")[2],
            )
            for name in self._parameters
        }

    def mask(self) -> Tensor | None:
        """Boolean tensor, True at pruned rows, on the network's device; None if none is pruned."""
        kept = {
            name: found
            for name, (module, own) in self._places.items()
            if (found := kept_of(module, own)) is not None
        }
        if not kept:
            return None

        def remaining(name: str) -> Tensor:
            if name in kept:
                return kept[name].double()
            return torch.ones_like(self._parameters[name], dtype=torch.float64)

        return reduced(self._layer, remaining, self._kind) == 0


def pruned_mask(model: nn.Module, layer: AnyLayer, kind: str) -> Tensor | None:
    """The mask of `PrunedRows` on the CPU."""
    pruned = PrunedRows(model, layer, kind).mask()
    return None if pruned is None else pruned.cpu()
