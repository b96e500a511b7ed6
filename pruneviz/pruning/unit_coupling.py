"""Attention heads, neurons and other units of several parameters, as groups to prune.

A unit is pruned with all its entries: what makes its activations and what reads them. So it acts as
if absent, and no unit depends on another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from pruneviz.errors import PruningError, unknown_name
from pruneviz.model.filters import FilterOf, Layer, Trace
from pruneviz.model.sample import Forward, Inputs
from pruneviz.model.unit_kinds import KINDS, find_units
from pruneviz.model.units import Grouping, Units, grouped
from pruneviz.pruning.coupling import Feed
from pruneviz.pruning.held_entries import kept_entries

UnitKind = str | Grouping  # "head", "neuron", ... or an explicit grouping


class UnitCoupling:
    """The units of a network, each a group of its own; see `Coupling` for the members.

    Args:
        network: Network to trace; it does not change.
        example: Inputs as in `pruneviz.model.sample`.
        unit: A kind of units, or an explicit grouping.
        forward: Callable of (network, example) that calls the network.

    Attributes:
        layers: The units, layer by layer.
        left_out: Always empty: what is not understood is refused.

    Raises:
        PruningError: If the kind is unknown.
        MeasureError: If the network has no such units.
    """

    has_sums = False

    def __init__(
        self,
        network: nn.Module,
        example: Inputs,
        unit: UnitKind,
        forward: Forward | None = None,
    ) -> None:
        self._network = network
        self.layers: list[Units] = units_of(network, example, unit, forward)
        self.left_out: dict[str, str] = {}
        own = [(layer.name, p) for layer in self.layers for p in range(layer.filters)]
        self.leads: dict[FilterOf, FilterOf] = {unit_: unit_ for unit_ in own}
        self.members: dict[FilterOf, list[FilterOf]] = {unit_: [unit_] for unit_ in own}
        self.feeds: list[Feed] = []
        self.feeds_of: dict[FilterOf, list[int]] = {}

    def count_groups(self, filters: Collection[FilterOf]) -> int:
        """Number of units."""
        return len(set(filters) & self.leads.keys())

    def coupled_to(self, layer: Layer | Units) -> str | None:
        """None: no unit depends on another."""
        return None

    def check_output(self, layer: str) -> None:
        """No-op: units never are the network's output."""

    def kept(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """Kept entries {parameter: boolean mask} if units are pruned."""
        found: dict[str, Tensor] = {}
        for layer in self.layers:
            gone = torch.tensor([(layer.name, p) in pruned for p in range(layer.filters)])
            for part in layer.slices:
                index = part.index[gone[part.unit]]
                if len(index):
                    parameter = self._network.get_parameter(part.parameter)
                    keep = found.setdefault(
                        part.parameter, torch.ones(parameter.shape, dtype=torch.bool)
                    )
                    keep.index_fill_(part.dim, index, False)
        return found

    def kept_channels(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """Empty: no batch norm belongs to a unit."""
        return {}

    def pruned(self) -> set[FilterOf]:
        """Pruned units, according to the network's masks."""
        kept = kept_entries(self._network)
        return {(layer.name, p) for layer in self.layers for p in pruned_units(layer, kept)}


def units_of(
    network: nn.Module, example: Inputs, unit: UnitKind, forward: Forward | None = None
) -> list[Units]:
    """The units of a kind, or of an explicit grouping.

    Raises:
        PruningError: If the kind is unknown.
        MeasureError: If the network has no such units.
    """
    if isinstance(unit, Mapping):
        return grouped(network, unit)
    if unit not in KINDS:
        known = ["filter", *KINDS]
        raise PruningError(unknown_name("unit", unit, known, "or give a grouping, {name: [...]}"))
    return find_units(network, unit, Trace.of(network, example, forward))


def pruned_units(units: Units, kept: Mapping[str, Tensor]) -> list[int]:
    """Units of which no entry is kept.

    Args:
        units: The units of one layer.
        kept: Masks of the parameters with pruned entries.
    """
    alive = torch.zeros(units.filters, dtype=torch.bool)
    for part in units.slices:
        mask = kept.get(part.parameter)
        if mask is None:
            alive[part.unit] = True
        else:
            along = mask.cpu().movedim(part.dim, 0).reshape(mask.shape[part.dim], -1).any(1)
            alive[part.unit[along[part.index]]] = True
    return (~alive).nonzero().flatten().tolist()
