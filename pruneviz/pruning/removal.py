"""Removal: a smaller network with the same outputs as a masked one.

The masked network does not change. A filter cannot be removed if something alive writes to its
channel, as in a residual sum: it stays masked in the smaller network and is listed with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pruneviz.model.filters import NUMBERS, Layer, find_layers, unwrap
from pruneviz.model.isolation import (
    copied_tensors,
    evaluate,
    exact_float32,
    isolated,
)
from pruneviz.model.sample import Inputs, call_with, first_of, mapped, tensors_in
from pruneviz.pruning.cost import Cost, cost, placed
from pruneviz.pruning.dependency import OTHER, TIME, Graph, Obstacle, Removal, explain, union
from pruneviz.pruning.example import check_example
from pruneviz.pruning.flow import Flow, branch_as_in_training
from pruneviz.pruning.held_entries import (
    check_held,
    hold_pruned,
    kept_entries,
    pruned_rows,
    set_kept,
)
from pruneviz.pruning.slicing import Slices, take_out

_TITLES: Mapping[str, str] = {
    "parameters": "parameters",
    "macs": "MACs an example",
    "seconds": "seconds a batch",
}
_TOLERANCE = 1e-9  # for float64 outputs, relative to the largest


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


def remove(network: nn.Module, example: Inputs, *, limit: float = 120.0) -> Removed:
    """Build a smaller network with the outputs of a masked one, in training and evaluation mode.

    Outputs are compared in float64, also in branches that only run in training; filters whose
    removal would change them stay masked. First the filters of all layers are removed at once; if
    outputs change, ever smaller parts are tried until `limit`.

    Args:
        network: Network pruned by `pruneviz.Pruner`; it does not change. It may be wrapped
            (DataParallel, DDP).
        example: Inputs for tracing and timing: a tensor, a mapping of keyword arguments or a tuple
            of positional ones.
        limit: Seconds after which no further removal is tried. What was removed by then is right;
            the other filters stay masked, and `reasons` says so.

    Returns:
        The smaller network and the fate of each filter. The network holds masked filters at zero
        and stores the original filter numbers, so `pruneviz.measure` names filters as before. Its
        parameters are new, so create a new optimiser. Without pruned filters it is a copy.

    Raises:
        PruningError: If a pruned entry is no longer zero, or the network cannot be traced.
        MeasureError: If the network has no filters.
        DataError: If the example is not a batch of inputs.

    Example:
        >>> removed = pv.remove(network, images)
        >>> print(removed.summary())
        >>> optimizer = torch.optim.SGD(removed.network.parameters(), lr=0.1)
    """
    network = unwrap(network)
    check_example(network, example)
    check_held(network)
    example = placed(network, example)
    layers = find_layers(network, example)
    pruned = {layer.name: _pruned(network, layer) for layer in layers}
    concerned = {name: filters for name, filters in pruned.items() if filters}
    removals, rejected = _fitting(network, example, concerned, time.monotonic() + limit)
    smaller, entries = _smaller(network, union(removals))
    left = {layer.name: _rows_left(network, layer, entries[layer.weight]) for layer in layers}
    for layer in layers:
        _number(smaller.get_submodule(layer.name), layer, left[layer.name])
    masked = {
        layer.name: sorted(set(pruned[layer.name]) & set(left[layer.name])) for layer in layers
    }
    of = {removal.layer: removal for removal in [*removals, *rejected]}
    return Removed(
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
        before=cost(network, example),
        after=cost(smaller, example),
    )


def _pruned(network: nn.Module, layer: Layer) -> list[int]:
    rows = pruned_rows(network, layer.weight)
    return [] if rows is None else rows.nonzero().flatten().tolist()


def _fitting(
    network: nn.Module, example: Inputs, pruned: Mapping[str, Sequence[int]], deadline: float
) -> tuple[list[Removal], list[Removal]]:
    """Removals that do not change the outputs, and the others with the reason."""
    if not pruned:
        return [], []
    example = first_of(example, 2)
    flow = Flow(network, example)
    trial = _Trial(network, example, bool(flow.only_training), deadline)
    return trial.fitting([], Graph(network, flow).removals(pruned))


class _Trial:
    """Tries removals on a network until a deadline, comparing outputs."""

    def __init__(
        self, network: nn.Module, example: Inputs, branches: bool, deadline: float
    ) -> None:
        self._network, self._example, self._deadline = network, example, deadline
        self._branches, self._tried = branches, False
        self._want = self._outputs(network)
        # Outputs that differ by themselves, as with dropout in a function, compare with nothing.
        if branches and not _same(self._outputs(network), self._want):
            self._branches, self._want = False, self._outputs(network, branches=False)

    def fitting(
        self, base: list[Removal], more: list[Removal]
    ) -> tuple[list[Removal], list[Removal]]:
        """Removals of `base` and `more` that keep the outputs, and those of `more` that do not."""
        if not more:
            return base, []
        if self._tried and time.monotonic() > self._deadline:
            return base, [_kept_back(removal, (TIME, "")) for removal in more]
        error = self._error([*base, *more])
        if error is None:
            return [*base, *more], []
        if len(more) == 1:
            return base, [_kept_back(more[0], (OTHER, error))]
        half = len(more) // 2
        base, rejected = self.fitting(base, more[:half])
        base, others = self.fitting(base, more[half:])
        return base, [*rejected, *others]

    def _error(self, removals: Sequence[Removal]) -> str | None:
        """Why outputs are not those of the network; "" if they differ, None if they agree."""
        self._tried = True
        # Shapes that no longer fit raise errors of many types.
        try:
            smaller, _ = _smaller(self._network, union(removals))
            outputs = self._outputs(smaller)
        except Exception as error:
            return f" ({type(error).__name__}: {str(error).splitlines()[0][:100]})"
        return None if _same(outputs, self._want) else ""

    def _outputs(self, network: nn.Module, branches: bool | None = None) -> list[Tensor]:
        both = self._branches if branches is None else branches
        modes = [False, True] if both else [False]
        return [output for mode in modes for output in _outputs(network, self._example, mode)]


def _kept_back(removal: Removal, obstacle: Obstacle) -> Removal:
    """A removal that was not made; filters without an obstacle of their own have this one."""
    return replace(removal, slices={}, otherwise=obstacle)


def _same(outputs: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
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


def _outputs(network: nn.Module, example: Inputs, training: bool) -> list[Tensor]:
    """Output tensors in float64, in evaluation mode or with the branches of training."""
    exact = deepcopy(network).double()
    given = mapped(example, lambda t: t.double() if t.is_floating_point() else t.clone())
    with ExitStack() as stack:
        stack.enter_context(isolated(exact))
        stack.enter_context(exact_float32())
        stack.enter_context(torch.no_grad())
        evaluate(exact)
        if training:
            branch_as_in_training(exact)
        return tensors_in(call_with(exact, copied_tensors(exact), given))


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
    return lines
