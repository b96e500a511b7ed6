"""Which pruned filters can be taken out of a network, asked of Torch-Pruning's dependency graph; the others, and why not.

Everything that carries a filter's channel goes with it: the rows of all layers that write to the channel, the columns of all
that read it, the norms and depthwise filters between. Taking it out leaves the outputs as they are, whatever the
activations, where all those rows and columns are pruned already: then nothing that is alive writes there or reads there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruneviz.errors import PruningError
from pruneviz.model.filters import Layer
from pruneviz.model.isolation import exact_float32, flags_preserved
from pruneviz.pruning.held_entries import kept_of

OUT, IN = "out", "in"
Slices = Mapping[
    tuple[str, str], frozenset[int]
]  # (module, OUT or IN) -> the channels that it loses

WRITTEN, READ, WHOLE, OUTPUT, LAST, OTHER = "written", "read", "whole", "output", "last", "other"
REASONS: Mapping[str, str] = {
    WRITTEN: "other layers meet them in a sum or product and are alive there ({})",
    READ: "layers that read the channels are alive there ({})",
    WHOLE: "single channels cannot be taken out of {}",
    OUTPUT: "the channels are outputs of the network",
    LAST: "{} would be left without a channel",
    OTHER: "without them the network would compute something else",
}
Obstacle = tuple[str, str]  # a key of REASONS, the module in the way
_NAMES = 3


@dataclass(frozen=True)
class Removal:
    """Filters of one layer that go together with `slices`, and `obstacles` {filter: what keeps it} of its other pruned filters.

    Filters are counted in the network as it is, not by their original numbers.
    """

    layer: str
    slices: Slices
    obstacles: Mapping[int, frozenset[Obstacle]]


@dataclass(frozen=True)
class _Member:
    """A module that carries channels of a group: `roots[i]` is the filter whose channel is its channel `channels[i]` of `size`."""

    name: str
    side: str
    size: int
    channels: tuple[int, ...]
    roots: tuple[int, ...]


class Graph:
    """The dependency graph of a network; its groups are asked for by layer and filters.

    Errors: `PruningError` where Torch-Pruning is missing, or cannot follow the network.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self._library = _library()
        self._network = deepcopy(
            network
        )  # tracing leaves the network in evaluation mode, and it needs gradients
        self._name = {id(module): name for name, module in self._network.named_modules()}
        times = Counter(
            id(p) for module in self._network.modules() for p in module.parameters(recurse=False)
        )
        self._tied = {parameter for parameter, modules in times.items() if modules > 1}
        self._graph = self._traced(example)

    def removal(self, layer: Layer, pruned: Iterable[int]) -> Removal:
        """What goes with those of the pruned filters of a layer that can go; and what keeps the others."""
        left, obstacles = sorted(pruned), dict[int, frozenset[Obstacle]]()
        while left:
            members = self._members(layer.name, left)
            found = self._obstacles(members, left) or self._emptied(members)
            if not found:
                return Removal(layer.name, _slices(members), obstacles)
            obstacles |= found
            left = [
                root for root in left if root not in found
            ]  # what is coupled to it among those left is found next time
        return Removal(layer.name, {}, obstacles)

    def _traced(self, example: Tensor) -> Any:
        for parameter in self._network.parameters():
            parameter.requires_grad_(
                True
            )  # the library follows the operations that autograd recorded
        try:
            with exact_float32(), flags_preserved(self._network):
                # it would warn of parameters and of operations that it does not know: the former keep their channels (WHOLE), and
                # whoever removes compares the outputs because of the latter
                return self._library.DependencyGraph().build_dependency(
                    self._network,
                    (example.clone(),),
                    forward_fn=lambda network, inputs: network(*inputs),
                    verbose=False,
                )
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> PruningError:
        return PruningError(
            f"Torch-Pruning cannot follow {type(self._network).__name__} ({type(error).__name__}: {error}), "
            "so no filter of it can be removed; its masked form computes the same and remains usable"
        )

    def _members(self, layer: str, filters: Sequence[int]) -> list[_Member]:
        module = self._network.get_submodule(layer)
        handler = self._graph.get_pruner_of_module(module).prune_out_channels
        try:
            group = self._graph.get_pruning_group(module, handler, list(filters))
        except Exception as error:
            raise self._refused(error) from error
        return [member for item in group for member in self._member(item)]

    def _member(self, item: Any) -> list[_Member]:
        kind, module, kinds = item.dep.target.type, item.dep.target.module, self._library.ops.OPTYPE
        pairs = tuple(item.idxs), tuple(item.root_idxs)
        if kind == kinds.OUTPUT:
            return [_Member("", OUTPUT, 0, *pairs)]
        if kind == kinds.PARAMETER:
            return [_Member(self._graph._param_to_name[module], WHOLE, 0, *pairs)]
        if id(module) not in self._name or (kind == kinds.PRELU and module.num_parameters == 1):
            return []  # passes the channels on
        side, pruner = (
            self._side(kind, module, item.dep.handler),
            self._graph.get_pruner_of_module(module),
        )
        size = pruner.get_in_channels(module) if side == IN else pruner.get_out_channels(module)
        return [_Member(self._name[id(module)], side, size, *pairs)]

    def _side(self, kind: Any, module: Any, handler: Any) -> str:
        kinds = self._library.ops.OPTYPE
        if any(id(p) in self._tied for p in module.parameters(recurse=False)):
            return WHOLE
        if kind in (kinds.BN, kinds.PRELU) or (kind == kinds.IN and not module.track_running_stats):
            return OUT
        if kind in (kinds.CONV, kinds.DEPTHWISE_CONV) and module.groups > 1:
            return OUT if module.groups == module.in_channels == module.out_channels else WHOLE
        if kind in (kinds.CONV, kinds.DEPTHWISE_CONV, kinds.LINEAR):
            return (
                OUT
                if handler == self._graph.get_pruner_of_module(module).prune_out_channels
                else IN
            )
        return WHOLE

    def _obstacles(
        self, members: Sequence[_Member], left: Sequence[int]
    ) -> dict[int, frozenset[Obstacle]]:
        found: dict[int, frozenset[Obstacle]] = {}
        for member in members:
            reason, roots = self._kept_by(member)
            for root in left if None in roots else roots:
                found[root] = found.get(root, frozenset()) | {(reason, member.name)}
        return {root: _causes(obstacles) for root, obstacles in found.items()}

    def _kept_by(self, member: _Member) -> tuple[str, set[int]]:
        """Which filters cannot go because of a member, and the reason."""
        if member.side in (WHOLE, OUTPUT):
            return member.side, set(member.roots)
        alive = _alive(self._network.get_submodule(member.name), member.side)
        reason = WRITTEN if member.side == OUT else READ
        return reason, {
            root
            for channel, root in zip(member.channels, member.roots, strict=True)
            if channel in alive
        }

    def _emptied(self, members: Sequence[_Member]) -> dict[int, frozenset[Obstacle]]:
        whole = [member for member in members if len(member.channels) == member.size]
        return {
            member.roots[member.channels.index(0)]: frozenset({(LAST, member.name)})
            for member in whole
        }


def _causes(obstacles: frozenset[Obstacle]) -> frozenset[Obstacle]:
    # who reads a channel is alive because another writes to it
    written = any(reason == WRITTEN for reason, _ in obstacles)
    return frozenset(obstacle for obstacle in obstacles if not (written and obstacle[0] == READ))


def explain(obstacles: Iterable[Obstacle]) -> tuple[str, ...]:
    """Sentences on what keeps filters, one for each kind of obstacle, in the order of REASONS."""
    names: dict[str, list[str]] = {}
    for reason, name in sorted(set(obstacles)):
        names.setdefault(reason, []).append(name)
    return tuple(
        text.format(_listed(names[reason])) for reason, text in REASONS.items() if reason in names
    )


def union(removals: Iterable[Removal]) -> Slices:
    """All channels that go with the filters of several layers."""
    together: dict[tuple[str, str], frozenset[int]] = {}
    for removal in removals:
        for place, channels in removal.slices.items():
            together[place] = together.get(place, frozenset()) | channels
    return together


def take_out(network: nn.Module, slices: Slices) -> None:
    """Take channels out of the modules of a network, in place: parameters, running statistics, numbers of channels."""
    for (name, side), channels in slices.items():
        library, module = _library(), network.get_submodule(name)
        pruner = library.PrunerBox[library.ops.module2type(module)]
        (pruner.prune_out_channels if side == OUT else pruner.prune_in_channels)(
            module, sorted(channels)
        )


def _alive(module: nn.Module, side: str) -> set[int]:
    """Which channels that a layer writes (OUT) or reads (IN) are not pruned; norms and activations have none of their own."""
    if not isinstance(module, (_ConvNd, nn.Linear)):
        return set()
    weight, kept = module.get_parameter("weight"), kept_of(module, "weight")
    # a transposed weight is [channels it reads, channels it writes, ...], a depthwise one [channels, 1, ...] in either case
    transposed = isinstance(module, _ConvTransposeNd) and module.groups == 1
    dim = int((side == IN) != transposed)
    kept = torch.ones(weight.shape, dtype=torch.bool) if kept is None else kept
    return set(kept.movedim(dim, 0).flatten(1).any(1).nonzero().flatten().tolist())


def _slices(members: Iterable[_Member]) -> dict[tuple[str, str], frozenset[int]]:
    return {(member.name, member.side): frozenset(member.channels) for member in members}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _library() -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise PruningError(
            "the removal of filters needs Torch-Pruning, which is not installed: pip install torch-pruning; "
            "until then the masked form of the network computes the same and remains usable"
        ) from error
    return torch_pruning
