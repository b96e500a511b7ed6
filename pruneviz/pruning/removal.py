"""Removal: a smaller network with the same outputs as a masked one.

The masked network does not change. A filter cannot be removed if something alive writes to its
channel, as in a residual sum: it stays masked in the smaller network and is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from pruneviz.pruning.held_entries import (
    check_held,
    hold_pruned,
    kept_entries,
    pruned_rows,
    set_kept,
)

_TITLES: Mapping[str, str] = {
    "parameters": "parameters",
    "macs": "MACs an example",
    "seconds": "seconds a batch",
}
_TOLERANCE = 1e-9  # for float64 outputs, relative to the largest
_DO_NOT_FIT = (RuntimeError, ValueError, IndexError, AssertionError)  # raised in a forward pass


@dataclass(frozen=True)
class Removed:
    """A network without its pruned filters, and the fate of each filter.

    Filters have their numbers in the unpruned network.

    Attributes:
        network: The smaller network.
        filters: {layer: filters left}.
        removed: Number of removed filters.
        masked_filters: {layer: pruned filters that stay as zeros}.
        reasons: {layer: why its masked filters stay}.
        entries: {parameter: indices of its entries in the flattened old parameter}, to convert
            optimiser state.
        before: Cost of the masked network.
        after: Cost of the smaller network.
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
        """Number of pruned filters that stay as zeros."""
        return sum(self.masked_layers.values())

    @property
    def masked_layers(self) -> Mapping[str, int]:
        """{layer: number of pruned filters that stay as zeros}, without layers that have none."""
        return {layer: len(filters) for layer, filters in self.masked_filters.items()}

    def summary(self) -> str:
        """Text table with the savings and the filters that stay masked."""
        return "\n".join([*_gains(self.before, self.after), *_losses(self)])


def remove(network: nn.Module, example: Tensor) -> Removed:
    """Build a smaller network with the outputs of a masked one, in training and evaluation mode.

    Outputs are compared in float64; filters whose removal would change them stay masked.

    Args:
        network: Network pruned by `pruneviz.Pruner`; it does not change. It may be wrapped
            (DataParallel, DDP).
        example: A batch of inputs for tracing and timing.

    Returns:
        The smaller network and the fate of each filter. The network holds masked filters at zero
        and stores the original filter numbers, so `pruneviz.measure` names filters as before. Its
        parameters are new, so create a new optimiser. Without pruned filters it is a copy.

    Raises:
        PruningError: If Torch-Pruning is not installed or cannot trace the network, or a pruned
            entry is no longer zero.
        MeasureError: If the network has no filters.
        DataError: If the example is not a batch of inputs.

    References:
        Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (Torch-Pruning).

    Example:
        >>> removed = pv.remove(network, images)
        >>> print(removed.summary())
        >>> optimizer = torch.optim.SGD(removed.network.parameters(), lr=0.1)
    """
    check_example(example)
    network = unwrap(network)
    check_held(network)
    example = placed(network, example)
    layers = find_layers(network, example)
    pruned = {layer.name: _pruned(network, layer) for layer in layers}
    removals = _removals(network, example[:2], layers, pruned)
    fitting = _fitting(network, example[:2], removals)
    smaller, entries = _smaller(network, union(fitting))
    left = {layer.name: _rows_left(network, layer, entries[layer.weight]) for layer in layers}
    masked = {
        layer.name: sorted(set(pruned[layer.name]) & set(left[layer.name])) for layer in layers
    }
    for layer in layers:
        _number(smaller.get_submodule(layer.name), layer, left[layer.name])
    return Removed(
        network=smaller,
        filters={layer.name: _numbers(layer, left[layer.name]) for layer in layers},
        removed=sum(layer.filters - len(left[layer.name]) for layer in layers),
        masked_filters={
            layer.name: _numbers(layer, masked[layer.name])
            for layer in layers
            if masked[layer.name]
        },
        reasons={
            removal.layer: _reasons(removal, masked[removal.layer])
            for removal in removals
            if masked[removal.layer]
        },
        entries=entries,
        before=cost(network, example),
        after=cost(smaller, example),
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
    """Removals for all layers with pruned filters; builds no graph if there are none."""
    concerned = [layer for layer in layers if pruned[layer.name]]
    if not concerned:
        return []
    graph = Graph(network, example)
    return [graph.removal(layer, pruned[layer.name]) for layer in concerned]


def _fitting(network: nn.Module, example: Tensor, removals: Sequence[Removal]) -> list[Removal]:
    """Removals that do not change the outputs: all at once, or tested one by one."""
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
    try:
        smaller, _ = _smaller(network, union(removals))
        outputs = _outputs(smaller, example)
    except _DO_NOT_FIT:  # shapes of the smaller network do not match
        return False
    return len(outputs) == len(want) and all(map(_close, outputs, want))


def _close(output: Tensor, want: Tensor) -> bool:
    if output.shape != want.shape or not torch.equal(output.isnan(), want.isnan()):
        return False
    if not want.numel():
        return True
    if not (want.is_floating_point() or want.is_complex()):
        return torch.equal(output, want)
    difference = torch.nan_to_num(output - want).abs().max()
    largest = torch.nan_to_num(want).abs().max()
    return bool(difference <= _TOLERANCE * (1 + largest))


def _outputs(network: nn.Module, example: Tensor) -> list[Tensor]:
    """Output tensors of the network in evaluation mode and float64."""
    exact = deepcopy(network).double().eval()
    dtype = torch.float64 if example.is_floating_point() else example.dtype
    with generators_preserved(None, example.device), exact_float32(), torch.no_grad():
        output = exact(example.to(dtype, copy=True))
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]


def _smaller(network: nn.Module, slices: Slices) -> tuple[nn.Module, dict[str, Tensor]]:
    """Copy a network without channels.

    Returns:
        The copy, and {parameter: indices of its entries in the flattened old parameter}.
    """
    smaller, originals = deepcopy(network), dict(network.named_parameters())
    for parameter in smaller.parameters():
        # Every entry carries its index through `take_out`; float64 represents it exactly.
        positions = torch.arange(parameter.numel(), dtype=torch.float64, device=parameter.device)
        parameter.data = positions.view(parameter.shape)
    take_out(smaller, slices)
    entries = {}
    for name, parameter in smaller.named_parameters():
        original = originals[name]
        values = original.detach()
        entries[name] = parameter.data.long().flatten()
        if parameter.shape == original.shape:
            parameter.data = values.clone()
        else:
            parameter.data = values.flatten()[entries[name]].view(parameter.shape)
        parameter.requires_grad_(original.requires_grad)
    _slice_kept(smaller, kept_entries(network), entries)
    hold_pruned(smaller)
    return smaller, entries


def _slice_kept(
    smaller: nn.Module, kept: Mapping[str, Tensor], entries: Mapping[str, Tensor]
) -> None:
    """Slice the buffers of kept entries too; drop buffers without pruned entries."""
    for name, before in kept.items():
        path, _, own = name.rpartition(".")
        module = smaller.get_submodule(path)
        left = before.flatten()[entries[name].to(before.device)]
        shape = module.get_parameter(own).shape
        set_kept(module, own, None if left.all() else left.view(shape))


def _rows_left(network: nn.Module, layer: Layer, entries: Tensor) -> list[int]:
    """Filters of a layer with remaining entries."""
    weights_per_filter = network.get_parameter(layer.weight).numel() // layer.filters
    return (entries // weights_per_filter).unique().tolist()


def _number(module: nn.Module, layer: Layer, left: Sequence[int]) -> None:
    """Store the original numbers of the remaining filters."""
    if len(left) < layer.filters:
        device = module.get_parameter("weight").device
        numbers = torch.tensor(_numbers(layer, left), dtype=torch.int64, device=device)
        module.register_buffer(NUMBERS, numbers)


def _numbers(layer: Layer, rows: Sequence[int]) -> tuple[int, ...]:
    return tuple(layer.numbers[row] for row in rows)


def _reasons(removal: Removal, masked: Sequence[int]) -> tuple[str, ...]:
    obstacles = [
        obstacle for row in masked for obstacle in removal.obstacles.get(row, [(OTHER, "")])
    ]
    return explain(obstacles)


def _gains(before: Cost, after: Cost) -> list[str]:
    lines = [f"{'':<18}{'before':>16}{'after':>16}{'ratio':>8}"]
    for name, form in (("parameters", ",d"), ("macs", ",d"), ("seconds", ".3g")):
        old, new = getattr(before, name), getattr(after, name)
        ratio = new / old if old else 1.0
        lines.append(f"{_TITLES[name]:<18}{old:>16{form}}{new:>16{form}}{ratio:>8.3f}")
    return lines


def _losses(removed: Removed) -> list[str]:
    total = removed.removed + sum(len(filters) for filters in removed.filters.values())
    lines = [
        f"{removed.removed:,d} of {total:,d} filters were taken out; "
        f"{removed.masked:,d} more are pruned and stay as zeros"
    ]
    for layer, filters in removed.masked_filters.items():
        reasons = "; ".join(removed.reasons[layer])
        lines.append(
            f"  {layer}: {len(filters)} of {len(removed.filters[layer])}, because {reasons}"
        )
    return lines
