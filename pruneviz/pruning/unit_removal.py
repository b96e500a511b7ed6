"""Removal of pruned units, such as attention heads, with outputs compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from pruneviz.model.network_result import NetworkResult
from pruneviz.model.sample import Inputs, first_of
from pruneviz.model.units import Units
from pruneviz.pruning.dependency import LAST, Obstacle, explain
from pruneviz.pruning.held_entries import kept_entries
from pruneviz.pruning.shrinking import shrunk
from pruneviz.pruning.trial import Trial
from pruneviz.pruning.unit_coupling import UnitKind, pruned_units, units_of
from pruneviz.pruning.unit_slicing import AMBIGUOUS, COUNTS, WIDTHS, take_units_out

_Item = tuple[Units, tuple[int, ...]]  # units of a layer, and those to remove
# Attributes to scale with the units, tried in this order.
_ATTRIBUTES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "head": ((*COUNTS, *WIDTHS), (*COUNTS, *WIDTHS, *AMBIGUOUS), COUNTS),
}


@dataclass(frozen=True)
class Smaller(NetworkResult):
    """A network without its pruned units.

    Attributes:
        network: The smaller network.
        filters: {layer: units left}.
        removed: Number of removed units.
        masked_filters: {layer: pruned units that stay as zeros}.
        reasons: {layer: why its masked units stay}.
        entries: {parameter: indices of its entries in the flattened old parameter}, to convert
            optimiser state.
        not_run: Layers and norms that the example did not run, in evaluation or training mode;
            what they read was not cut or compared.
    """

    filters: Mapping[str, tuple[int, ...]]
    removed: int
    masked_filters: Mapping[str, tuple[int, ...]]
    reasons: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, Tensor] = field(repr=False)
    not_run: tuple[str, ...] = field(default=(), kw_only=True)


def without_units(network: nn.Module, example: Inputs, unit: UnitKind, deadline: float) -> Smaller:
    """Remove pruned units where the outputs stay the same.

    Args:
        network: Masked network; it does not change.
        example: Inputs of its dtype.
        unit: Kind of units, or an explicit grouping.
        deadline: Time, as of `time.monotonic`, after which nothing is tried.
    """
    layers = units_of(network, example, unit)
    kept = kept_entries(network)
    pruned = {units.name: pruned_units(units, kept) for units in layers}
    items = [(units, _removable(units, pruned[units.name])) for units in layers]
    items = [item for item in items if item[1]]
    made, obstacles, attributes = _made(network, first_of(example, 2), items, unit, deadline)
    smaller, entries = shrunk(network, lambda copy: _take(copy, made, attributes))
    gone = {units.name: set(numbers) for units, numbers in made}
    masked = {name: [p for p in own if p not in gone.get(name, ())] for name, own in pruned.items()}
    last = {name: (LAST, name) for name in masked}
    return Smaller(
        network=smaller,
        filters={
            units.name: tuple(p for p in units.numbers if p not in gone.get(units.name, ()))
            for units in layers
        },
        removed=sum(map(len, gone.values())),
        masked_filters={name: tuple(own) for name, own in masked.items() if own},
        reasons={
            name: explain([obstacles.get(name, last[name])]) for name, own in masked.items() if own
        },
        entries=entries,
    )


def _removable(units: Units, pruned: Sequence[int]) -> tuple[int, ...]:
    """All pruned units, except one of a layer that would be left without any."""
    return tuple(pruned if len(pruned) < units.filters else pruned[1:])


def _made(
    network: nn.Module, example: Inputs, items: list[_Item], unit: UnitKind, deadline: float
) -> tuple[list[_Item], dict[str, Obstacle], Sequence[str]]:
    """Removals that keep the outputs, {layer: obstacle} of others, and attributes to scale."""
    best: tuple[list[_Item], dict[str, Obstacle], Sequence[str]] = [], {}, ()
    kinds = _ATTRIBUTES.get(unit, ((),)) if isinstance(unit, str) else ((),)
    for attributes in kinds if items else ():

        def build(some: Sequence[_Item], names: Sequence[str] = attributes) -> nn.Module:
            return shrunk(network, lambda copy: _take(copy, some, names))[0]

        trial = Trial(network, example, build, branches=False, deadline=deadline)
        made, rejected = trial.fitting([], items)
        if len(made) > len(best[0]) or not best[1]:
            best = made, {units.name: why for (units, _), why in rejected}, attributes
        if not rejected:
            break
    return best


def _take(network: nn.Module, items: Sequence[_Item], attributes: Sequence[str]) -> None:
    for units, gone in items:
        take_units_out(network, units, gone, attributes)
