"""Removable channels of a pruned network: which filters share channels, and who reads them.

Filters that meet in a channel, as in a residual sum or a product, can only be taken out together:
in the rows of all layers that write it, the columns of all layers that read it, and the norms and
depthwise filters in between. Outputs do not change if all these rows and columns are pruned,
because nothing alive then writes or reads the channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd

from pruneviz.model.filters import FilterOf, weight_users, weighted_modules
from pruneviz.pruning.disjoint_sets import DisjointSets
from pruneviz.pruning.flow import Flow
from pruneviz.pruning.held_entries import kept_of, pruned_rows
from pruneviz.pruning.slicing import IN, OUT, Slices, is_depthwise

WRITTEN, READ, WHOLE, OUTPUT, LAST = "written", "read", "whole", "output", "last"
OTHER, TIME = "other", "time"
REASONS: Mapping[str, str] = {
    WRITTEN: "other layers meet them in a sum or product and are alive there ({})",
    READ: "layers that read the channels are alive there ({})",
    WHOLE: "single channels cannot be taken out of {}",
    OUTPUT: "the channels are outputs of the network",
    LAST: "{} would be left without a channel",
    OTHER: "without them the network would compute something else{}",
    TIME: "the time limit was over before their removal was tried",
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
        otherwise: Why other filters stay, if they do.
    """

    layer: str
    slices: Slices
    obstacles: Mapping[int, frozenset[Obstacle]]
    otherwise: Obstacle = (OTHER, "")


class Graph:
    """The channels of a network: filters that can only go together, and what reads them.

    Args:
        network: Pruned network; it does not change.
        flow: Where its filters go.
    """

    def __init__(self, network: nn.Module, flow: Flow) -> None:
        self._network, self._flow = network, flow
        self._modules = dict(weighted_modules(network))
        self._alive = {
            (name, p) for name, m in self._modules.items() for p in _alive_filters(network, name, m)
        }
        self._sets = DisjointSets(
            [(name, p) for name, m in self._modules.items() for p in range(len(m.weight))]  # type: ignore[arg-type]
        )
        self._join()
        self._members: dict[FilterOf, list[FilterOf]] = {}
        for name, module in self._modules.items():
            for p in range(len(module.get_parameter("weight"))):
                self._members.setdefault(self._sets.first((name, p)), []).append((name, p))
        self._readers = self._channels_read()
        self._blocked = self._obstacles()

    def removals(self, pruned: Mapping[str, Iterable[int]]) -> list[Removal]:
        """Channels to remove with the pruned filters of each layer, and obstacles to the rest."""
        leads = {
            name: {p: self._sets.first((name, p)) for p in own} for name, own in pruned.items()
        }
        blocked = dict(self._blocked)
        free = {lead for own in leads.values() for lead in own.values() if lead not in blocked}
        while emptied := self._emptied(free):
            blocked |= emptied
            free -= set(emptied)
        return [
            Removal(
                name,
                self._slices({lead for lead in own.values() if lead in free}),
                {p: blocked[lead] for p, lead in own.items() if lead in blocked},
            )
            for name, own in leads.items()
        ]

    def _join(self) -> None:
        for channels in self._flow.read.values():
            for sources in channels:
                self._join_all(sources or ())
        for sources in self._flow.met:
            self._join_all(sources)
        for name, module in self._modules.items():
            if is_depthwise(module):
                channels = self._flow.read.get(name, [])
                each = len(module.get_parameter("weight")) // max(1, len(channels))
                for c, sources in enumerate(channels):
                    own = [(name, p) for p in range(c * each, (c + 1) * each)]
                    self._join_all([*own, *(sources or ())])

    def _join_all(self, filters: Iterable[FilterOf]) -> None:
        ordered = sorted(filters)
        for other in ordered[1:]:
            self._sets.join(ordered[0], other)

    def _channels_read(self) -> dict[FilterOf, list[tuple[str, int]]]:
        """{first filter of a set: (module, input channel) that reads it}."""
        found: dict[FilterOf, list[tuple[str, int]]] = {}
        for name, channels in self._flow.read.items():
            for c, sources in enumerate(channels):
                if sources:
                    found.setdefault(self._sets.first(min(sources)), []).append((name, c))
        return found

    def _obstacles(self) -> dict[FilterOf, frozenset[Obstacle]]:
        """{first filter of a set: why it must stay}."""
        tied = self._tied()
        found = {}
        for lead, members in self._members.items():
            writers = {name for name, _ in members}
            readers = self._readers.get(lead, [])
            obstacles = {(WRITTEN, name) for name, p in members if (name, p) in self._alive}
            obstacles |= {(READ, name) for name, c in readers if self._reads_alive(name, c)}
            touched = writers | {name for name, _ in readers}
            obstacles |= {(WHOLE, name) for name in touched if self._is_whole(name) or name in tied}
            for member in members:
                obstacles |= {(WHOLE, name) for name in self._flow.whole.get(member, ())}
            if not self._flow.outputs.isdisjoint(members):
                obstacles.add((OUTPUT, ""))
            if obstacles:
                found[lead] = _causes(frozenset(obstacles))
        return found

    def _reads_alive(self, name: str, channel: int) -> bool:
        """Whether a layer has an alive weight on an input channel; norms have none of their own."""
        module = self._network.get_submodule(name)
        if isinstance(module, (_NormBase, nn.PReLU)) or getattr(module, "groups", 1) > 1:
            return False
        dim = 0 if isinstance(module, _ConvTransposeNd) else 1
        kept = kept_of(module, "weight")
        return kept is None or bool(kept.select(dim, channel).any())

    def _is_whole(self, name: str) -> bool:
        module = self._network.get_submodule(name)
        if isinstance(module, nn.PReLU):
            return False
        return getattr(module, "groups", 1) > 1 and not is_depthwise(module)

    def _tied(self) -> set[str]:
        """Layers whose weight a module of another kind also holds, such as an embedding."""
        layers = {id(module) for _, module in weight_users(self._network)}
        others = Counter(
            id(p)
            for module in self._network.modules()
            for p in module.parameters(recurse=False)
            if id(module) not in layers
        )
        return {name for name, m in self._modules.items() if id(m.weight) in others}

    def _emptied(self, free: set[FilterOf]) -> dict[FilterOf, frozenset[Obstacle]]:
        """The set with the first channel of each module that would lose all its channels."""
        found = {}
        for (name, side), channels in self._slices(free).items():
            total = self._size(name, side)
            if len(channels) == total:
                found[self._lead_of(name, side)] = frozenset({(LAST, name)})
        return found

    def _size(self, name: str, side: str) -> int:
        if side == IN or name not in self._modules:
            return len(self._flow.read[name])
        return len(self._modules[name].get_parameter("weight"))

    def _lead_of(self, name: str, side: str) -> FilterOf:
        """The set of the first channel of a module."""
        if side == IN or name not in self._modules:
            return self._sets.first(min(self._flow.read[name][0] or ()))
        return self._sets.first((name, 0))

    def _slices(self, leads: Iterable[FilterOf]) -> dict[tuple[str, str], frozenset[int]]:
        found: dict[tuple[str, str], set[int]] = {}
        for lead in leads:
            for name, p in self._members[lead]:
                found.setdefault((name, OUT), set()).add(p)
            for name, c in self._readers.get(lead, ()):
                module = self._network.get_submodule(name)
                if isinstance(module, (_NormBase, nn.PReLU)):
                    found.setdefault((name, OUT), set()).add(c)
                elif not is_depthwise(module):
                    found.setdefault((name, IN), set()).add(c)
        return {place: frozenset(channels) for place, channels in found.items()}


def _alive_filters(network: nn.Module, name: str, module: nn.Module) -> Sequence[int]:
    rows = pruned_rows(network, f"{name}.weight" if name else "weight")
    filters = len(module.get_parameter("weight"))
    return range(filters) if rows is None else (~rows).nonzero().flatten().tolist()


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
        text.format(listed(names[reason])) for reason, text in REASONS.items() if reason in names
    )


def union(removals: Iterable[Removal]) -> Slices:
    """All channels to remove with the filters of several layers."""
    together: dict[tuple[str, str], frozenset[int]] = {}
    for removal in removals:
        for place, channels in removal.slices.items():
            together[place] = together.get(place, frozenset()) | channels
    return together


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of others."""
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
