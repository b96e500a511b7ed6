"""Which filters stand or fall together, and which entries of a network's parameters go with a filter.

Found by following one forward pass (`pruneviz.model.tracing`), for any network: every layer and norm knows the filters that meet in each
of its input channels. What reads nothing but pruned filters is pruned with them: the channel of a norm, the input columns of
the layers behind, and a filter of a grouped convolution all of whose inputs are gone. A residual sum is read as pruned only
once every filter that was added into it is. A product, as with a gate, is nothing without either of its factors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruneviz.errors import PruningError
from pruneviz.model.filters import FilterOf, Layer, Trace, layers_of, weight_users, weighted_modules

Sources = (
    frozenset[FilterOf] | None
)  # the filters that meet in a channel; None where they are not known


class Coupling:
    """The channels of a network, from one forward pass on `example`; nothing of the network changes.

    `layers` are its filters' layers in the order of execution, without those that must stay whole: the classifier, and layers whose
    filters are normalised together with others (`left_out`: layer -> why).
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self._network = network
        self._modules = dict(weighted_modules(network))
        self._trace = Trace(network, example)
        self._sources = {name: _over_calls(calls) for name, calls in self._trace.read.items()}
        found = layers_of(network, self._trace)
        self.left_out = {
            layer.name: _why(layer.name, how)
            for layer in found
            if (how := self._trace.together.get(layer.name))
        }
        self.layers: list[Layer] = [layer for layer in found if layer.name not in self.left_out]
        if not self.layers:
            raise PruningError(
                f"{type(network).__name__} has no filter that can be pruned: {'; '.join(self.left_out.values())}"
            )

    @cached_property
    def leads(self) -> dict[FilterOf, FilterOf]:
        """The filter that decides for each filter: itself, or, for one that is nothing without another, that other one.

        Such are a filter of a grouped convolution (a depthwise one) that reads nothing else, and one whose output is multiplied with
        that of the other, and only with that (a gate).
        """
        filters = [(layer.name, p) for layer in self.layers for p in range(layer.filters)]
        order, above = (
            {own: place for place, own in enumerate(filters)},
            dict(zip(filters, filters, strict=True)),
        )

        def lead(own: FilterOf) -> FilterOf:
            while above.get(own, own) != own:
                own = above[own]
            return own

        grouped = [
            (name, feeders, own)
            for name, feeders, own in self.feeds
            if getattr(self._modules[name], "groups", 1) > 1
        ]
        feeders, factors = (
            {(name, p): feeders for name, feeders, own in grouped for p in own},
            self._factors(),
        )
        for own in filters:
            fed = {lead(other) for other in feeders.get(own, ())}
            for other in (fed if len(fed) == 1 else set()) | {factors.get(own, own)}:
                if other in order:
                    first, second = sorted((lead(own), lead(other)), key=order.__getitem__)
                    above[second] = first
        return {own: lead(own) for own in filters}

    @cached_property
    def members(self) -> dict[FilterOf, list[FilterOf]]:
        """The filters that each deciding filter decides for, itself among them."""
        members: dict[FilterOf, list[FilterOf]] = {}
        for member, lead in self.leads.items():
            members.setdefault(lead, []).append(member)
        return members

    def count_groups(self, filters: Collection[FilterOf]) -> int:
        """Number of groups that these filters belong to."""
        return len({self.leads[p] for p in filters if p in self.leads})

    @property
    def has_sums(self) -> bool:
        """Whether filters that decide for themselves meet in one channel somewhere, as in a residual sum."""
        met = (
            sources
            for channels in self._sources.values()
            for sources in channels
            if sources is not None
        )
        return any(
            len({self.leads.get(source, source) for source in sources}) > 1 for sources in met
        )

    def coupled_to(self, layer: Layer) -> str | None:
        """The layer that decides for all filters of a layer; None where they decide for themselves."""
        names = {self.leads[layer.name, p][0] for p in range(layer.filters)}
        return names.pop() if len(names) == 1 and layer.name not in names else None

    def with_dependents(self, pruned: Collection[FilterOf]) -> set[FilterOf]:
        """These filters, all that share a lead with them, and all that read nothing else.

        Errors: `PruningError` when the network's output would read nothing but them.
        """
        return Gone(self, pruned).filters

    @cached_property
    def feeds(self) -> list[tuple[str, frozenset[FilterOf], range]]:
        """What feeds filters: (layer, all filters that feed these, these), for each group of a layer, where that is known."""
        found = []
        for name in self._trace.order:
            module, sources = self._modules[name], self._sources.get(name, [])
            groups = module.groups if isinstance(module, _ConvNd) else 1
            inputs, outputs = len(sources) // groups, len(module.get_parameter("weight")) // groups
            for group in range(groups if sources else 0):
                known = [s for s in sources[group * inputs : (group + 1) * inputs] if s]
                if len(known) == inputs:
                    found.append(
                        (
                            name,
                            frozenset[FilterOf]().union(*known),
                            range(group * outputs, (group + 1) * outputs),
                        )
                    )
        return found

    @cached_property
    def feeds_of(self) -> dict[FilterOf, list[int]]:
        """Which of `feeds` each filter feeds."""
        found: dict[FilterOf, list[int]] = {}
        for feed, (_, feeders, _) in enumerate(self.feeds):
            for own in feeders:
                found.setdefault(own, []).append(feed)
        return found

    def check_output(self, layer: str) -> None:
        """`PruningError` where nothing feeds a layer that is the network's output."""
        if layer in self._trace.output_layers:
            raise PruningError(
                f"nothing would reach the output layer {layer}; prune less, or keep a minimum of every layer"
            )

    def kept(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """What is left of each parameter when these filters are pruned, {parameter: boolean tensor of its shape}, where anything goes.

        A filter takes with it its weights and bias, the channels of the norms that read nothing else, and the columns of the
        layers that read nothing else.
        """
        names = {id(parameter): name for name, parameter in self._network.named_parameters()}
        found: dict[str, Tensor] = {}
        for parameter, keep in (
            self._kept_of_layers(pruned)
            + self._kept_of_transposed(pruned)
            + self._kept_of_norms(pruned)
        ):
            if not keep.all():
                found[names[id(parameter)]] = keep
        return found

    def kept_channels(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """Which channels of each norm read more than these filters, {norm: boolean [channels]}."""
        names = [
            name
            for name, module in self._network.named_modules()
            if isinstance(module, _NormBase) and self._sources.get(name)
        ]
        return {name: _fed(self._sources[name], pruned) for name in names}

    def _kept_of_layers(self, pruned: Collection[FilterOf]) -> list[tuple[nn.Parameter, Tensor]]:
        parts = []
        for name, module in weight_users(self._network):
            weight = module.get_parameter("weight")
            rows = torch.tensor([(name, p) not in pruned for p in range(len(weight))])
            keep = torch.ones(weight.shape, dtype=torch.bool) & _along(rows, 0, weight)
            if sources := self._sources.get(name):
                keep &= _columns_of_rows(module, _fed(sources, pruned))
            parts += [
                (weight, keep),
                *([(module.bias, rows)] if isinstance(module.bias, nn.Parameter) else []),
            ]
        return parts

    def _kept_of_transposed(
        self, pruned: Collection[FilterOf]
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Transposed convolutions have no filters here, but they read those of others: their weights are [channels read, ...]."""
        parts = []
        for name, module in self._network.named_modules():
            if isinstance(module, _ConvTransposeNd) and (sources := self._sources.get(name)):
                weight = module.get_parameter("weight")
                parts.append(
                    (weight, _along(_fed(sources, pruned), 0, weight).expand(weight.shape).clone())
                )
        return parts

    def _kept_of_norms(self, pruned: Collection[FilterOf]) -> list[tuple[nn.Parameter, Tensor]]:
        norms = [
            (self._network.get_submodule(name), channels)
            for name, channels in self.kept_channels(pruned).items()
        ]
        return [
            (p, channels)
            for norm, channels in norms
            for p in (norm.weight, norm.bias)
            if isinstance(p, nn.Parameter)
        ]

    def _factors(self) -> dict[FilterOf, FilterOf]:
        """The one other filter that each filter is multiplied with, where that is multiplied with no further one either."""
        pairs = {frozenset(pair) for pair in self._trace.multiplied}
        times = Counter(factor for pair in pairs for factor in pair)
        alone = [sorted(pair) for pair in pairs if all(times[factor] == 1 for factor in pair)]
        return {
            factor: other
            for first, second in alone
            for factor, other in ((first, second), (second, first))
        }


class Gone:
    """The `filters` that are gone while some are pruned one after the other: with all that share a lead with them or read nothing else."""

    def __init__(self, coupling: Coupling, pruned: Collection[FilterOf]) -> None:
        self.filters: set[FilterOf] = set()
        self._coupling = coupling
        self._left = [len(feeders) for _, feeders, _ in coupling.feeds]
        self.add(self.with_them(pruned))

    def with_them(self, pruned: Collection[FilterOf]) -> set[FilterOf]:
        """What would be gone in addition, if these were pruned too. Errors: `PruningError` when nothing would reach the output."""
        new: set[FilterOf] = set()
        lost: Counter[int] = Counter()
        waiting = list(pruned)
        while waiting:
            own = waiting.pop()
            for member in self._coupling.members.get(self._coupling.leads.get(own, own), [own]):
                if member not in new and member not in self.filters:
                    new.add(member)
                    waiting += self._unfed(member, lost)
        return new

    def add(self, new: Collection[FilterOf]) -> None:
        """Let them be gone; they are an answer of `with_them`."""
        self.filters.update(new)
        for own in new:
            for feed in self._coupling.feeds_of.get(own, ()):
                self._left[feed] -= 1

    def _unfed(self, own: FilterOf, lost: Counter[int]) -> Iterator[FilterOf]:
        for feed in self._coupling.feeds_of.get(own, ()):
            lost[feed] += 1
            if lost[feed] == self._left[feed]:
                layer, _, filters = self._coupling.feeds[feed]
                self._coupling.check_output(layer)
                yield from ((layer, p) for p in filters)


def _over_calls(calls: list[list[Sources]]) -> list[Sources]:
    """The filters that meet in each input channel of a layer or norm over all its calls."""
    together: list[Sources] = []
    for channel in zip(*calls, strict=False):
        known = [sources for sources in channel if sources is not None]
        together.append(frozenset().union(*known) if len(known) == len(calls) else None)
    return together


def _why(layer: str, operation: str) -> str:
    return f"the filters of {layer} share the statistics of a {operation}, so that removing one changes the others"


def _fed(sources: Collection[Sources], pruned: Collection[FilterOf]) -> Tensor:
    return torch.tensor([not _all_in(channel, pruned) for channel in sources])


def _all_in(sources: Sources, gone: Collection[FilterOf]) -> bool:
    return bool(sources) and all(source in gone for source in sources or ())


def _along(flags: Tensor, dim: int, like: Tensor) -> Tensor:
    return flags.view([-1 if d == dim else 1 for d in range(like.ndim)])


def _columns_of_rows(module: nn.Module, columns: Tensor) -> Tensor:
    """Which columns of each row of a weight are kept; in a grouped convolution a row reads the channels of its own group only."""
    weight = module.get_parameter("weight")
    groups = module.groups if isinstance(module, _ConvNd) else 1
    of_rows = columns.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    return of_rows.view([*of_rows.shape, *[1] * (weight.ndim - 2)])
