"""Removable channels of a pruned network, from Torch-Pruning's dependency graph.

A filter's channel is removed everywhere: in the rows of all layers that write it, the columns of
all layers that read it, and the norms and depthwise filters in between. Outputs do not change if
all these rows and columns are pruned, because nothing alive then writes or reads the channel.
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
Slices = Mapping[tuple[str, str], frozenset[int]]  # (module, OUT or IN) -> channels to remove

WRITTEN, READ, WHOLE, OUTPUT, LAST, OTHER = "written", "read", "whole", "output", "last", "other"
REASONS: Mapping[str, str] = {
    WRITTEN: "other layers meet them in a sum or product and are alive there ({})",
    READ: "layers that read the channels are alive there ({})",
    WHOLE: "single channels cannot be taken out of {}",
    OUTPUT: "the channels are outputs of the network",
    LAST: "{} would be left without a channel",
    OTHER: "without them the network would compute something else",
}
Obstacle = tuple[str, str]  # a key of REASONS, and the responsible module
_NAMES = 3  # modules listed by name in a reason


@dataclass(frozen=True)
class Removal:
    """Pruned filters of one layer: removable channels, and obstacles to the rest.

    Filters are numbered as in the current network, not by their original numbers.

    Attributes:
        layer: Layer name.
        slices: Channels to remove with the filters.
        obstacles: {filter: reasons} for pruned filters that must stay.
    """

    layer: str
    slices: Slices
    obstacles: Mapping[int, frozenset[Obstacle]]


@dataclass(frozen=True)
class _Member:
    """A module that carries channels of filters.

    On one `side` with `size` channels, channel `channels[i]` belongs to filter `roots[i]`.
    """

    name: str
    side: str
    size: int
    channels: tuple[int, ...]
    roots: tuple[int, ...]


class Graph:
    """Dependency graph of a network, queried by layer and filters.

    Args:
        network: Network to trace; it does not change.
        example: A batch of inputs.

    Raises:
        PruningError: If Torch-Pruning is not installed or cannot trace the network.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self._library = _library()
        # Tracing needs gradients and leaves the network in evaluation mode.
        self._network = deepcopy(network)
        self._name = {id(module): name for name, module in self._network.named_modules()}
        owners = Counter(
            id(p) for module in self._network.modules() for p in module.parameters(recurse=False)
        )
        self._tied = {parameter for parameter, modules in owners.items() if modules > 1}
        self._graph = self._traced(example)

    def removal(self, layer: Layer, pruned: Iterable[int]) -> Removal:
        """Channels to remove with a layer's pruned filters, and obstacles to the rest."""
        left = sorted(pruned)
        obstacles: dict[int, frozenset[Obstacle]] = {}
        while left:
            members = self._members(layer.name, left)
            found = self._obstacles(members, left) or self._emptied(members)
            if not found:
                return Removal(layer.name, _slices(members), obstacles)
            obstacles |= found
            # The next pass finds filters that are coupled to the ones that stay.
            left = [root for root in left if root not in found]
        return Removal(layer.name, {}, obstacles)

    def _traced(self, example: Tensor) -> Any:
        for parameter in self._network.parameters():
            parameter.requires_grad_(True)  # the library follows the autograd graph
        try:
            with exact_float32(), flags_preserved(self._network):
                # Not verbose: it would warn about unknown parameters, which keep their channels
                # (WHOLE), and unknown operations, for which `remove` compares outputs.
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
            f"Torch-Pruning cannot follow {type(self._network).__name__} "
            f"({type(error).__name__}: {error}), so none of its filters can be removed; "
            "its masked form computes the same and remains usable"
        )

    def _members(self, layer: str, filters: Sequence[int]) -> list[_Member]:
        module = self._network.get_submodule(layer)
        handler = self._graph.get_pruner_of_module(module).prune_out_channels
        try:
            group = self._graph.get_pruning_group(module, handler, list(filters))
        except Exception as error:
            raise self._refused(error) from error
        members = [self._member(item) for item in group]
        return [member for member in members if member is not None]

    def _member(self, item: Any) -> _Member | None:
        """One module of a group; None if it only forwards channels."""
        kind, module, kinds = item.dep.target.type, item.dep.target.module, self._library.ops.OPTYPE
        channels, roots = tuple(item.idxs), tuple(item.root_idxs)
        if kind == kinds.OUTPUT:
            return _Member("", OUTPUT, 0, channels, roots)
        if kind == kinds.PARAMETER:
            return _Member(self._graph._param_to_name[module], WHOLE, 0, channels, roots)
        if id(module) not in self._name or (kind == kinds.PRELU and module.num_parameters == 1):
            return None
        side = self._side(kind, module, item.dep.handler)
        pruner = self._graph.get_pruner_of_module(module)
        count = pruner.get_in_channels if side == IN else pruner.get_out_channels
        return _Member(self._name[id(module)], side, count(module), channels, roots)

    def _side(self, kind: Any, module: Any, handler: Any) -> str:
        """Side on which a module loses channels; WHOLE if single channels cannot be removed."""
        kinds = self._library.ops.OPTYPE
        if any(id(p) in self._tied for p in module.parameters(recurse=False)):
            return WHOLE
        if kind in (kinds.BN, kinds.PRELU) or (kind == kinds.IN and not module.track_running_stats):
            return OUT
        if kind in (kinds.CONV, kinds.DEPTHWISE_CONV) and module.groups > 1:
            is_depthwise = module.groups == module.in_channels == module.out_channels
            return OUT if is_depthwise else WHOLE
        if kind in (kinds.CONV, kinds.DEPTHWISE_CONV, kinds.LINEAR):
            writes = handler == self._graph.get_pruner_of_module(module).prune_out_channels
            return OUT if writes else IN
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
        """The filters that must stay because of a member, and the reason."""
        if member.side in (WHOLE, OUTPUT):
            return member.side, set(member.roots)
        alive = _alive(self._network.get_submodule(member.name), member.side)
        pairs = zip(member.channels, member.roots, strict=True)
        reason = WRITTEN if member.side == OUT else READ
        return reason, {root for channel, root in pairs if channel in alive}

    def _emptied(self, members: Sequence[_Member]) -> dict[int, frozenset[Obstacle]]:
        """The filter of the first channel in each module that would lose all its channels."""
        found = {}
        for member in members:
            if len(member.channels) == member.size:
                first = member.roots[member.channels.index(0)]
                found[first] = frozenset({(LAST, member.name)})
        return found


def _causes(obstacles: frozenset[Obstacle]) -> frozenset[Obstacle]:
    """Drop obstacles that follow from others.

    If another layer writes to a channel, its readers are alive for that reason.
    """
    if any(reason == WRITTEN for reason, _ in obstacles):
        return frozenset(obstacle for obstacle in obstacles if obstacle[0] != READ)
    return obstacles


def explain(obstacles: Iterable[Obstacle]) -> tuple[str, ...]:
    """Clauses on obstacles, one per kind, in the order of REASONS."""
    names: dict[str, list[str]] = {}
    for reason, name in sorted(set(obstacles)):
        names.setdefault(reason, []).append(name)
    return tuple(
        text.format(_listed(names[reason])) for reason, text in REASONS.items() if reason in names
    )


def union(removals: Iterable[Removal]) -> Slices:
    """All channels to remove with the filters of several layers."""
    together: dict[tuple[str, str], frozenset[int]] = {}
    for removal in removals:
        for place, channels in removal.slices.items():
            together[place] = together.get(place, frozenset()) | channels
    return together


def take_out(network: nn.Module, slices: Slices) -> None:
    """Remove channels from the modules of a network in place.

    Changes parameters, running statistics and channel counts.
    """
    for (name, side), channels in slices.items():
        library, module = _library(), network.get_submodule(name)
        pruner = library.PrunerBox[library.ops.module2type(module)]
        take = pruner.prune_out_channels if side == OUT else pruner.prune_in_channels
        take(module, sorted(channels))


def _alive(module: nn.Module, side: str) -> set[int]:
    """Channels that a layer writes (OUT) or reads (IN) and that are not pruned.

    Norms and activations have no channels of their own.
    """
    if not isinstance(module, (_ConvNd, nn.Linear)):
        return set()
    weight, kept = module.get_parameter("weight"), kept_of(module, "weight")
    if kept is None:
        kept = torch.ones(weight.shape, dtype=torch.bool)
    # A transposed weight is [input channels, output channels, ...]; a depthwise one is always
    # [channels, 1, ...].
    transposed = isinstance(module, _ConvTransposeNd) and module.groups == 1
    dim = int((side == IN) != transposed)
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
            "removing filters needs Torch-Pruning, which is not installed: "
            "pip install 'pruneviz[removal]'; until then the masked form of the network "
            "computes the same and remains usable"
        ) from error
    return torch_pruning
