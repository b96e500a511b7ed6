"""The columns that need no derivative, read from a network at every epoch.

Reading takes few kernels and one device transfer: layers of equal shape are read together, because
a GPU needs longer to launch many small kernels than to run them. The table is then built on the
host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.nn.utils.parametrize import is_parametrized

from pruneviz.errors import MeasureError
from pruneviz.log import schema
from pruneviz.measuring.rows import AnyLayer, PrunedRows, key_columns, rows_per_filter
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.model.filters import Layer
from pruneviz.model.isolation import evaluate, isolated
from pruneviz.model.units import Units

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


@dataclass(frozen=True, eq=False, repr=False)
class CheapValues:
    """Numbers read from a network, float64.

    Attributes:
        terms: {column: one number per row}.
        scales: One scale per channel of the batch norms.
        pruned: Whether each row is pruned, boolean.
        bounded: Whether the norm of all parameters is finite. If not, a parameter is not finite or
            too large to be squared.
        changes: {column: one number per row} of changes between epochs, if a recording has them.
    """

    terms: Mapping[str, np.ndarray]
    scales: np.ndarray
    pruned: np.ndarray
    bounded: bool
    changes: Mapping[str, np.ndarray] = field(default_factory=dict)


class CheapColumns:
    """Repeatable reader of a network's cheap columns.

    Args:
        model: The network.
        layers: Its layers, from `pruneviz.measuring.selection.choose_rows`.
        unit: Row kind.
        kept: Which rows count as kept: "masks", all that pruneviz did not prune, or "nonzero", of
            these all with a weight that is not zero.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[AnyLayer],
        unit: str = "filter",
        kept: str = "masks",
    ) -> None:
        self._model, self._unit, self._kept = model, unit, kept
        self._columns = [name for name in schema.CHEAP_OF_UNIT[unit] if name in TERMS]
        self._keys = pd.DataFrame(key_columns(model, layers, unit))
        sizes = [layer.filters * rows_per_filter(model, layer, unit) for layer in layers]
        places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        self._units = [layer for layer in layers if isinstance(layer, Units)]
        self._groups = _of_one_shape(model, layers)
        order = [places[i] for group in self._groups for i, _ in group]
        at_units = [p for p, layer in zip(places, layers, strict=True) if isinstance(layer, Units)]
        self._at = np.concatenate([*order, *at_units])
        self._pruned = [
            (PrunedRows(model, layer, unit), rows)
            for layer, rows in zip(layers, places, strict=True)
        ]
        # norms without affine parameters have no scale
        norms = [name for name in _norms(layers) if _own_scale(model, name) is not None]
        self._norms = norms
        self._channels = _channels(model, layers, norms, unit)

    def _check_there(self, named: Mapping[str, Tensor]) -> None:
        """Check that no layer has lost its weight, as to `torch.nn.utils.prune`."""
        for group in self._groups:
            for _, layer in group:
                if layer.weight not in named:
                    raise MeasureError(
                        f"the network has no parameter {layer.weight} any more, which was measured "
                        "before; torch.nn.utils.prune and parametrizations put others in its "
                        "place: call prune.remove, or prune with pruneviz.Pruner"
                    )

    def read(self) -> CheapValues:
        """Read the current network; synchronises with its device once."""
        with shortage_explained(self._model), torch.no_grad():
            return self._values()

    def _values(self) -> CheapValues:
        # only one walk over the modules, because it takes longer than everything else
        named = dict(self._model.named_parameters(remove_duplicate=False))
        self._check_there(named)
        weights = [
            torch.stack([layer.rows(named[layer.weight]) for _, layer in group]).double()
            for group in self._groups
        ]
        norm = get_total_norm([p for p in named.values() if p.is_floating_point()]).double()
        terms = [part for name in self._columns for part in self._terms(name, weights, named)]
        masks = [
            (mask, rows) for pruned, rows in self._pruned if (mask := pruned.mask()) is not None
        ]
        found = [_scale(self._model, name) for name in self._norms]
        scales = [torch.cat(found).double()] if found else []
        masked = [mask.double() for mask, _ in masks]
        seen = torch.cat([norm[None], *terms, *masked, *scales]).cpu().numpy()
        ends = 1 + len(self._at) * np.arange(1, len(self._columns) + 1)
        hidden = ends[-1] + sum(map(len, masked))
        bound, *by_column, at_masks, rest = np.split(seen, [1, *ends, hidden])
        of_terms = dict(zip(self._columns, by_column, strict=True))
        pruned = np.zeros(len(self._at), dtype=bool)
        if masks:
            pruned[np.concatenate([rows for _, rows in masks])] = at_masks != 0
        return CheapValues(of_terms, rest, pruned, bool(np.isfinite(bound[0])))

    def table(self, values: CheapValues) -> pd.DataFrame:
        """Build a table: keys, `kept` and the cheap columns in float64.

        `sigma` is NaN if no batch norm with a scale follows.
        """
        found = {column: self._in_order(terms) for column, terms in values.terms.items()}
        found["sigma"] = np.append(values.scales, np.nan)[self._channels]
        columns = {name: found[name] for name in schema.CHEAP_OF_UNIT[self._unit]}
        kept = ~values.pruned
        if self._kept == "nonzero":
            kept &= found["theta_l1"] != 0
        return self._keys.assign(kept=kept, **columns)

    def _terms(
        self, column: str, weights: Sequence[Tensor], named: Mapping[str, Tensor]
    ) -> Iterator[Tensor]:
        """One number per row: of the layers in `weights`, then of the units."""
        term = TERMS[column]
        for stacked in weights:
            yield _ROWS[self._unit](term(stacked))
        for units in self._units:
            yield units.sums({name: term(named[name].double()) for name in units.parameters})

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        ordered = np.empty_like(values)
        ordered[self._at] = values
        return ordered


def _of_one_shape(model: nn.Module, layers: Sequence[AnyLayer]) -> list[list[tuple[int, Layer]]]:
    """(position, layer) of the layers with filters, grouped by shape and dtype of their rows."""
    groups: dict[tuple[object, ...], list[tuple[int, Layer]]] = {}
    for place, layer in enumerate(layers):
        if isinstance(layer, Layer):
            weight = model.get_parameter(layer.weight)
            alike = (weight.shape, weight.dtype, layer.dims, layer.groups)
            groups.setdefault(alike, []).append((place, layer))
    return list(groups.values())


def _norms(layers: Sequence[AnyLayer]) -> list[str]:
    """Unique names of the norms that follow filters."""
    return list(dict.fromkeys(norm[0] for layer in layers for norm in layer.norms if norm))


def _own_scale(model: nn.Module, norm: str) -> Tensor | None:
    """The scale of a norm, if it has one; reading a computed one moves nothing."""
    module = model.get_submodule(norm)
    if not is_parametrized(module):
        return module.weight if isinstance(module.weight, Tensor) else None
    with isolated(module):
        evaluate(module)
        scale = module.weight
        return scale.detach().clone() if isinstance(scale, Tensor) else None


def _scale(model: nn.Module, norm: str) -> Tensor:
    """Scale of a norm [channels]: a parameter, a buffer, or computed by a parametrization."""
    scale = _own_scale(model, norm)
    if scale is None:
        raise MeasureError(f"{norm} has no scale any more; measure the model it had at first")
    return scale


def _channels(
    model: nn.Module, layers: Sequence[AnyLayer], norms: Sequence[str], unit: str
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
