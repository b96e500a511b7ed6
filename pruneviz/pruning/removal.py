"""Real removal: from a network whose pruned filters are zeros, a smaller one that computes the same.

The masked network stays as it is. What cannot be taken out, because something alive writes to the same channel, as in a residual
sum, stays masked in the smaller network too, and is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from pruneviz.model.filters import NUMBERS, Layer, find_layers, unwrap
from pruneviz.model.isolation import exact_float32, generators_preserved
from pruneviz.model.sample import check_example
from pruneviz.pruning.cost import Cost, cost, placed
from pruneviz.pruning.dependency import OTHER, Graph, Removal, Slices, explain, take_out, union
from pruneviz.pruning.held_entries import hold_pruned, kept_entries, pruned_rows, set_kept

_TITLES: Mapping[str, str] = {
    "parameters": "parameters",
    "macs": "MACs an example",
    "seconds": "seconds a batch",
}
_TOLERANCE = 1e-9  # of outputs in float64, relative to the largest


@dataclass(frozen=True)
class Removed:
    """A network without its pruned filters, and what became of them; filters go by their numbers in the unpruned network.

    `filters` are those left in each layer, `removed` counts those taken out now and `masked_filters` those of each layer that are pruned
    but stay as zeros, for the `reasons` given. `entries` are the positions, in each flattened parameter of the network before,
    of the entries left: an optimiser's state can follow its parameter. `before` and `after` are the costs.
    """

    network: nn.Module
    filters: Mapping[str, tuple[int, ...]]
    removed: int
    masked_filters: Mapping[str, tuple[int, ...]]
    reasons: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, Tensor]
    before: Cost
    after: Cost

    @property
    def masked(self) -> int:
        """How many pruned filters stay as zeros."""
        return sum(self.masked_layers.values())

    @property
    def masked_layers(self) -> Mapping[str, int]:
        """{layer: how many of its pruned filters stay as zeros}, for the layers where some do."""
        return {layer: len(filters) for layer, filters in self.masked_filters.items()}

    def summary(self) -> str:
        """What was gained and what was not, as a table for reading."""
        return "\n".join([*_gains(self.before, self.after), *_losses(self)])


def remove(network: nn.Module, example: Tensor) -> Removed:
    """A smaller, independent network with the outputs of a masked one, in training and in evaluation mode.

    Args: `network` has pruned filters (`pruneviz.pruning.held_entries`); `example` is a batch of its inputs, with which it is traced and timed.
    Returns: `Removed`. The new network holds what stays masked at zero, carries the original numbers of the filters left
    (`filters.NUMBERS`, which `pruneviz.measure` reads), and has new parameters: an optimiser must be made anew. Without pruned filters it
    is a copy. That outputs agree is checked in float64; filters whose removal would change them stay masked.
    Errors: `PruningError` where Torch-Pruning is missing or cannot follow the network, `MeasureError` where it has no filters,
    `DataError` for an example that is none.
    Source: Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023 (Torch-Pruning), for the groups of coupled channels.
    """
    check_example(example)
    network = unwrap(network)
    example = placed(network, example)
    layers = find_layers(network, example)
    pruned = {layer.name: _pruned(network, layer) for layer in layers}
    removals = _removals(network, example[:2], layers, pruned)
    fitting = _fitting(network, example[:2], removals)
    smaller, entries = _smaller(network, union(fitting))
    left = {
        layer.name: _rows_left(
            layer, entries[layer.weight], network.get_parameter(layer.weight).numel()
        )
        for layer in layers
    }
    masked = {
        layer.name: [p for p in pruned[layer.name] if p in set(left[layer.name])]
        for layer in layers
    }
    for layer in layers:
        _number(smaller.get_submodule(layer.name), layer, left[layer.name])
    return Removed(
        smaller,
        {layer.name: _numbers(layer, left[layer.name]) for layer in layers},
        sum(layer.filters - len(left[layer.name]) for layer in layers),
        {layer.name: _numbers(layer, masked[layer.name]) for layer in layers if masked[layer.name]},
        {
            removal.layer: _why(removal, masked[removal.layer])
            for removal in removals
            if masked[removal.layer]
        },
        entries,
        cost(network, example),
        cost(smaller, example),
    )


def _pruned(network: nn.Module, layer: Layer) -> list[int]:
    rows = pruned_rows(network, layer.weight)
    return [] if rows is None else rows.nonzero().flatten().tolist()


def _removals(
    network: nn.Module,
    example: Tensor,
    layers: Sequence[Layer],
    pruned: Mapping[str, Sequence[int]],
) -> list[Removal]:
    concerned = [layer for layer in layers if pruned[layer.name]]
    graph = Graph(network, example) if concerned else None
    return [graph.removal(layer, pruned[layer.name]) for layer in concerned if graph is not None]


def _fitting(network: nn.Module, example: Tensor, removals: Sequence[Removal]) -> list[Removal]:
    """Those removals that leave the outputs as they are: all, or else what is left after trying one layer after the other."""
    want = _outputs(network, example)
    if _fits(network, example, want, removals):
        return list(removals)
    fitting: list[Removal] = []
    for removal in removals:
        if _fits(network, example, want, [*fitting, removal]):
            fitting.append(removal)
    return fitting


def _fits(
    network: nn.Module, example: Tensor, want: Sequence[Tensor], removals: Sequence[Removal]
) -> bool:
    with suppress(
        RuntimeError, ValueError, IndexError, AssertionError
    ):  # the parts of the smaller network do not fit together
        outputs = _outputs(_smaller(network, union(removals))[0], example)
        return len(outputs) == len(want) and all(
            _close(*pair) for pair in zip(outputs, want, strict=True)
        )
    return False


def _close(output: Tensor, want: Tensor) -> bool:
    if output.shape != want.shape:
        return False
    difference, largest = torch.nan_to_num(output - want).abs(), torch.nan_to_num(want).abs()
    same_nan = torch.equal(output.isnan(), want.isnan())
    return same_nan and (
        not want.numel() or bool(difference.max() <= _TOLERANCE * (1 + largest.max()))
    )


def _outputs(network: nn.Module, example: Tensor) -> list[Tensor]:
    exact = deepcopy(network).double().eval()
    with generators_preserved(None, example.device), exact_float32(), torch.no_grad():
        output = exact(
            example.to(torch.float64 if example.is_floating_point() else example.dtype, copy=True)
        )
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]


def _smaller(network: nn.Module, slices: Slices) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy without channels, and for each of its parameters the positions of its entries in the parameter of the network."""
    smaller, originals = deepcopy(network), dict(network.named_parameters())
    for parameter in smaller.parameters():
        # every entry carries its position, so that whatever takes channels out tells what it left; float64 counts exactly
        parameter.data = torch.arange(
            parameter.numel(), dtype=torch.float64, device=parameter.device
        ).view(parameter.shape)
    take_out(smaller, slices)
    entries = {}
    for name, parameter in smaller.named_parameters():
        original, entries[name] = originals[name], parameter.data.long().flatten()
        whole = parameter.shape == original.shape
        parameter.data = (
            original.detach().clone()
            if whole
            else original.detach().flatten()[entries[name]].view(parameter.shape)
        )
        parameter.requires_grad_(original.requires_grad)
    _slice_kept(smaller, kept_entries(network), entries)
    hold_pruned(smaller)
    return smaller, entries


def _slice_kept(
    smaller: nn.Module, kept: Mapping[str, Tensor], entries: Mapping[str, Tensor]
) -> None:
    for name, before in kept.items():
        path, _, own = name.rpartition(".")
        module = smaller.get_submodule(path)
        left = before.flatten()[entries[name].to(before.device)]
        shape = module.get_parameter(own).shape
        set_kept(module, own, None if left.all() else left.view(shape))


def _rows_left(layer: Layer, entries: Tensor, size: int) -> list[int]:
    return (entries // (size // layer.filters)).unique().tolist()


def _number(module: nn.Module, layer: Layer, left: Sequence[int]) -> None:
    if len(left) < layer.filters:
        device = module.get_parameter("weight").device
        module.register_buffer(
            NUMBERS, torch.tensor(_numbers(layer, left), dtype=torch.int64, device=device)
        )


def _numbers(layer: Layer, rows: Sequence[int]) -> tuple[int, ...]:
    return tuple(layer.numbers[row] for row in rows)


def _why(removal: Removal, masked: Sequence[int]) -> tuple[str, ...]:
    return explain(
        obstacle for row in masked for obstacle in removal.obstacles.get(row, [(OTHER, "")])
    )


def _gains(before: Cost, after: Cost) -> list[str]:
    lines = [f"{'':<18}{'before':>16}{'after':>16}{'ratio':>8}"]
    for name, form in (("parameters", ",d"), ("macs", ",d"), ("seconds", ".3g")):
        old, new = getattr(before, name), getattr(after, name)
        lines.append(
            f"{_TITLES[name]:<18}{old:>16{form}}{new:>16{form}}{new / old if old else 1.0:>8.3f}"
        )
    return lines


def _losses(removed: Removed) -> list[str]:
    total = removed.removed + sum(len(filters) for filters in removed.filters.values())
    lines = [
        f"{removed.removed:,d} of {total:,d} filters were taken out; {removed.masked:,d} more are pruned and stay as zeros"
    ]
    for layer, filters in removed.masked_filters.items():
        lines.append(
            f"  {layer}: {len(filters)} of {len(removed.filters[layer])}, because {'; '.join(removed.reasons[layer])}"
        )
    return lines
