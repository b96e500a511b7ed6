"""The columns that need no derivative, read from a network at every epoch.

Reading takes few kernels and one device transfer: layers of equal shape are read together, because
a GPU needs longer to launch many small kernels than to run them. The table is then built on the
host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pruneviz.errors import MeasureError
from pruneviz.log import schema
from pruneviz.measuring.rows import key_columns, rows_per_filter
from pruneviz.model.filters import Layer

TERMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "theta": lambda theta: theta,
    "theta_norm2": Tensor.square,
    "theta_l1": Tensor.abs,
}
# from one number per weight [layers, filters, ...] to one per row, layer after layer
_ROWS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "filter": lambda terms: terms.flatten(2).sum(2).flatten(),
    "weight": Tensor.flatten,
}


@dataclass(frozen=True, eq=False)
class CheapValues:
    """Numbers read from a network, float64.

    Attributes:
        terms: {column: one number per row}.
        scales: One scale per channel of the batch norms.
        bounded: Whether the norm of all parameters is finite. If not, a parameter is not finite or
            too large to be squared.
    """

    terms: Mapping[str, np.ndarray]
    scales: np.ndarray
    bounded: bool


class CheapColumns:
    """Repeatable reader of a network's cheap columns.

    Args:
        model: The network.
        layers: Its layers, from `pruneviz.model.filters.find_layers`.
        unit: Row kind, "filter" or "weight".
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], unit: str = "filter") -> None:
        self._model, self._unit = model, unit
        self._columns = [name for name in schema.CHEAP_OF_UNIT[unit] if name in TERMS]
        self._keys = pd.DataFrame(key_columns(model, layers, unit))
        self._groups, self._at = _of_one_shape(model, layers, unit)
        norms = [
            name for name in _norms(layers) if isinstance(model.get_submodule(name).weight, Tensor)
        ]  # norms without affine parameters have no scale
        self._norms = norms
        self._channels = _channels(model, layers, norms, unit)

    @torch.no_grad()
    def read(self) -> CheapValues:
        """Read the current network; synchronises with its device once."""
        # only one walk over the modules, because it takes longer than everything else
        named = dict(self._model.named_parameters(remove_duplicate=False))
        weights = [torch.stack([named[name] for name in group]).double() for group in self._groups]
        norm = get_total_norm([p for p in named.values() if p.is_floating_point()]).double()
        terms = [
            _ROWS[self._unit](TERMS[column](stacked))
            for column in self._columns
            for stacked in weights
        ]
        found = [_scale(self._model, name) for name in self._norms]
        scales = [torch.cat(found).double()] if found else []
        seen = torch.cat([norm[None], *terms, *scales]).cpu().numpy()
        ends = 1 + len(self._at) * np.arange(1, len(self._columns) + 1)
        bound, *by_column, rest = np.split(seen, [1, *ends])
        of_terms = dict(zip(self._columns, by_column, strict=True))
        return CheapValues(of_terms, rest, bool(np.isfinite(bound[0])))

    def table(self, values: CheapValues) -> pd.DataFrame:
        """Build a table: keys, `kept` and the cheap columns in float64.

        `sigma` is NaN if no batch norm with a scale follows.
        """
        found = {column: self._in_order(terms) for column, terms in values.terms.items()}
        found["sigma"] = np.append(values.scales, np.nan)[self._channels]
        columns = {name: found[name] for name in schema.CHEAP_OF_UNIT[self._unit]}
        return self._keys.assign(kept=found["theta_l1"] != 0, **columns)

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        ordered = np.empty_like(values)
        ordered[self._at] = values
        return ordered


def _of_one_shape(
    model: nn.Module, layers: Sequence[Layer], unit: str
) -> tuple[list[list[str]], np.ndarray]:
    """Weights grouped by shape and dtype, and the row of each number read from them."""
    groups: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for place, layer in enumerate(layers):
        weight = model.get_parameter(layer.weight)
        groups.setdefault((weight.shape, weight.dtype), []).append(place)
    sizes = [layer.filters * rows_per_filter(model, layer, unit) for layer in layers]
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    names = [[layers[place].weight for place in group] for group in groups.values()]
    return names, np.concatenate([rows[place] for group in groups.values() for place in group])


def _norms(layers: Sequence[Layer]) -> list[str]:
    """Unique names of the norms that follow filters."""
    return list(dict.fromkeys(norm[0] for layer in layers for norm in layer.norms if norm))


def _scale(model: nn.Module, norm: str) -> Tensor:
    """Scale of a norm [channels]: a parameter, a buffer, or computed by a parametrization."""
    scale = model.get_submodule(norm).weight
    if not isinstance(scale, Tensor):
        raise MeasureError(f"{norm} has no scale any more; measure the model it had at first")
    return scale


def _channels(
    model: nn.Module, layers: Sequence[Layer], norms: Sequence[str], unit: str
) -> np.ndarray:
    """Index of each row's scale in the channels of these norms; past the end for none."""
    sizes = [len(_scale(model, name)) for name in norms]
    first = {name: sum(sizes[:i]) for i, name in enumerate(norms)}
    none = sum(sizes)
    found = []
    for layer in layers:
        places = [
            first[norm[0]] + norm[1] if norm and norm[0] in first else none for norm in layer.norms
        ]
        rows = rows_per_filter(model, layer, unit)
        found.append(np.repeat(np.array(places, dtype=np.int64), rows))
    return np.concatenate(found)
