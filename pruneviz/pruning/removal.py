"""Removal: a smaller network with the same outputs as a masked one.

The masked network does not change. A filter cannot be removed if something alive writes to its
channel, as in a residual sum: it stays masked in the smaller network and is listed with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pruneviz.console.shown_text import visible_lines
from pruneviz.model.filters import NUMBERS, Layer, find_layers, unwrap
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Inputs, first_of
from pruneviz.pruning.cost import Cost, cost, placed
from pruneviz.pruning.dependency import Graph, Removal, explain, listed, union
from pruneviz.pruning.example import check_example
from pruneviz.pruning.flow import Flow
from pruneviz.pruning.held_entries import check_held, pruned_rows
from pruneviz.pruning.shrinking import shrunk
from pruneviz.pruning.slicing import take_out
from pruneviz.pruning.trial import Trial
from pruneviz.pruning.unit_coupling import UnitKind
from pruneviz.pruning.unit_removal import Smaller, without_units

_TITLES: Mapping[str, str] = {
    "parameters": "parameters",
    "macs": "MACs an example",
    "seconds": "seconds a batch",
}


@dataclass(frozen=True)
class Removed(Smaller):
    """A network without its pruned filters, and the fate of each filter.

    It is called, trained and measured as its `network` is: `removed(x)`, `removed.eval()`,
    `removed.parameters()`, `pruneviz.measure(removed, sample)`. What asks for an `nn.Module` by
    type, such as `nn.Sequential` or a trainer, needs `removed.network`.

    Filters have their numbers in the unpruned network. With another unit than filters, all that is
    said of filters holds of these units, numbered as in the masked network.

    Attributes:
        network: The smaller network.
        filters: {layer: filters left}.
        removed: Number of removed filters.
        masked_filters: {layer: pruned filters that stay as zeros}.
        reasons: {layer: why its masked filters stay}.
        entries: {parameter: indices of its entries in the flattened old parameter}, to convert
            optimiser state.
        not_run: Layers and norms that the example did not run, in evaluation or training mode. They
            are not cut, and no longer fit if one reads a removed channel: remove with an example
            that runs them. Found only for filters, and if some are pruned.
        before: Cost of the masked network.
        after: Cost of the smaller network.
    """

    before: Cost
    after: Cost

    def __repr__(self) -> str:
        total = self.removed + sum(map(len, self.filters.values()))
        return (
            f"<{type(self.network).__name__} without {self.removed:,d} of its {total:,d} filters: "
            f"{self.after.parameters:,d} of {self.before.parameters:,d} parameters>"
        )

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
        return visible_lines("\n".join([*_gains(self.before, self.after), *_losses(self)]))


def remove(
    network: AnyNetwork, example: Inputs, *, unit: UnitKind = "filter", limit: float = 120.0
) -> Removed:
    """Build a smaller network with the outputs of a masked one, in training and evaluation mode.

    Outputs are compared in float64, also in branches that only run in training; filters whose
    removal would change them stay masked. First the filters of all layers are removed at once; if
    outputs change, ever smaller parts are tried until `limit`.

    Args:
        network: Network pruned by `pruneviz.Pruner`; it does not change. It may be wrapped
            (DataParallel, DDP).
        example: Inputs for tracing and timing: a tensor, a mapping of keyword arguments or a tuple
            of positional ones.
        unit: What was pruned, as for `Pruner`. Heads are cut out of query, key, value and output
            projections, neurons out of the layers that make and read them.
        limit: Seconds after which no further removal is tried. What was removed by then is right;
            the other filters stay masked, and `reasons` says so.

    Returns:
        The smaller network, which can be called and trained, and the fate of each filter. The
        network holds masked filters at zero and stores the original filter numbers, so
        `pruneviz.measure` names filters as before. Its parameters are new, so create a new
        optimiser. Without pruned filters it is a copy.

    Raises:
        PruningError: If a pruned entry is no longer zero, or the network cannot be traced.
        MeasureError: If the network has no filters.
        DataError: If the example is not a batch of inputs.

    Example:
        >>> smaller = pv.remove(network, images)
        >>> print(smaller.summary())
        >>> optimizer = torch.optim.SGD(smaller.parameters(), lr=0.1)
        >>> output = smaller(images)
    """
    network = unwrap(network)
    check_example(network, example)
    check_held(network)
    example = placed(network, example)
    deadline = time.monotonic() + limit
    if unit == "filter":
        made = _without_filters(network, example, deadline)
    else:
        made = without_units(network, example, unit, deadline)
    return Removed(
        network=made.network,
        filters=made.filters,
        removed=made.removed,
        masked_filters=made.masked_filters,
        reasons=made.reasons,
        entries=made.entries,
        not_run=made.not_run,
        before=cost(network, example),
        after=cost(made.network, example),
    )


def _without_filters(network: nn.Module, example: Inputs, deadline: float) -> Smaller:
    layers = find_layers(network, example)
    pruned = {layer.name: _pruned(network, layer) for layer in layers}
    concerned = {name: filters for name, filters in pruned.items() if filters}
    removals, rejected, not_run = _fitting(network, example, concerned, deadline)
    smaller, entries = shrunk(network, lambda copied: take_out(copied, union(removals)))
    left = {layer.name: _rows_left(network, layer, entries[layer.weight]) for layer in layers}
    for layer in layers:
        _number(smaller.get_submodule(layer.name), layer, left[layer.name])
    masked = {
        layer.name: sorted(set(pruned[layer.name]) & set(left[layer.name])) for layer in layers
    }
    of = {removal.layer: removal for removal in [*removals, *rejected]}
    return Smaller(
        network=smaller,
        filters={layer.name: _numbers(layer, left[layer.name]) for layer in layers},
        removed=sum(layer.filters - len(left[layer.name]) for layer in layers),
        masked_filters={
            layer.name: _numbers(layer, masked[layer.name])
            for layer in layers
            if masked[layer.name]
        },
        reasons={name: _reasons(of[name], rows) for name, rows in masked.items() if rows},
        entries=entries,
        not_run=not_run,
    )


def _pruned(network: nn.Module, layer: Layer) -> list[int]:
    rows = pruned_rows(network, layer.weight)
    return [] if rows is None else rows.nonzero().flatten().tolist()


def _fitting(
    network: nn.Module, example: Inputs, pruned: Mapping[str, Sequence[int]], deadline: float
) -> tuple[list[Removal], list[Removal], tuple[str, ...]]:
    """Removals that do not change the outputs, others with the reason, and layers not run."""
    if not pruned:
        return [], [], ()

    def build(removals: Sequence[Removal]) -> nn.Module:
        return shrunk(network, lambda copied: take_out(copied, union(removals)))[0]

    example = first_of(example, 2)
    flow = Flow(network, example)
    branches = bool(flow.only_training)
    trial = Trial(network, example, build, branches=branches, deadline=deadline)
    made, rejected = trial.fitting([], Graph(network, flow).removals(pruned))
    kept = [replace(removal, slices={}, otherwise=why) for removal, why in rejected]
    return made, kept, flow.not_run


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
        obstacle for row in masked for obstacle in removal.obstacles.get(row, [removal.otherwise])
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
    if removed.not_run:
        lines.append(
            f"{listed(removed.not_run)} were not called with this example: not cut, and they may "
            "no longer fit if they read a removed channel; give an example that runs them"
        )
    return lines
