"""Which filters stand or fall together, and which entries of a network's parameters go with a filter.

Found by following one forward pass (`pruneviz.tracing`), for any network: every layer and norm knows the filters that meet in each
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
from torch.nn.modules.conv import _ConvNd

from pruneviz.errors import PruningError
from pruneviz.filters import FilterOf, Layer, Trace, layers_of, weight_users, weighted_modules

Sources = frozenset[FilterOf] | None  # the filters that meet in a channel; None where they are not known


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
        self.left_out = {layer.name: _why(layer.name, how) for layer in found if (how := self._trace.together.get(layer.name))}
        self.layers: list[Layer] = [layer for layer in found if layer.name not in self.left_out]
        if not self.layers:
            raise PruningError(f"{type(network).__name__} has no filter that can be pruned: {'; '.join(self.left_out.values())}")

    @cached_property
    def leads(self) -> dict[FilterOf, FilterOf]:
        """The filter that decides for each filter: itself, or, for one that is nothing without another, that other one.

        Such are a filter of a grouped convolution (a depthwise one) that reads nothing else, and one whose output is multiplied with
        that of the other, and only with that (a gate).
        """
        leads: dict[FilterOf, FilterOf] = {}
        factors = self._factors()
        for layer in self.layers:
            feeders = self._feeders(layer)
            for p in range(layer.filters):
                own = layer.name, p
                above = {leads.get(other, own) for other in feeders.get(p, set()) | {factors.get(own, own)} - {own}}
                leads[own] = above.pop() if len(above) == 1 else own
        return leads

    @cached_property
    def members(self) -> dict[FilterOf, list[FilterOf]]:
        """The filters that each deciding filter decides for, itself among them."""
        members: dict[FilterOf, list[FilterOf]] = {}
        for member, lead in self.leads.items():
            members.setdefault(lead, []).append(member)
        return members

    def units_of(self, filters: Collection[FilterOf]) -> int:
        """How many deciding filters decide for these."""
        return len({self.leads[p] for p in filters if p in self.leads})

    @property
    def has_sums(self) -> bool:
        """Whether several filters meet in one channel somewhere, as in a residual sum."""
        return any(sources is not None and len(sources) > 1 for channels in self._sources.values() for sources in channels)

    def coupled_to(self, layer: Layer) -> str | None:
        """The layer that decides for all filters of a layer; None where they decide for themselves."""
        names = {self.leads[layer.name, p][0] for p in range(layer.filters)}
        return names.pop() if len(names) == 1 and layer.name not in names else None

    def with_dependents(self, pruned: Collection[FilterOf]) -> set[FilterOf]:
        """These filters, all that share a lead with them, and all that read nothing else.

        Errors: `PruningError` when the network's output would read nothing but them.
        """
        gone: set[FilterOf] = set()
        new = set(pruned)
        while new:
            gone |= {member for p in new for member in self.members.get(self.leads.get(p, p), [p])}
            new = {(name, p) for name in self._trace.order for p in self._unfed(name, gone)}
            if unfed := {name for name, _ in new} & self._trace.output_layers:
                raise PruningError(f"nothing would reach the output layer {unfed.pop()}; prune less, or keep a minimum of every layer")
        return gone

    def kept(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """What is left of each parameter when these filters are pruned, {parameter: boolean tensor of its shape}, where anything goes.

        A filter takes with it its weights and bias, the channels of the norms that read nothing else, and the columns of the
        layers that read nothing else.
        """
        names = {id(parameter): name for name, parameter in self._network.named_parameters()}
        found: dict[str, Tensor] = {}
        for parameter, keep in self._kept_of_layers(pruned) + self._kept_of_norms(pruned):
            if not keep.all():
                found[names[id(parameter)]] = keep
        return found

    def kept_channels(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """Which channels of each norm read more than these filters, {norm: boolean [channels]}."""
        names = [name for name, module in self._network.named_modules() if isinstance(module, _NormBase) and self._sources.get(name)]
        return {name: _fed(self._sources[name], pruned) for name in names}

    def _kept_of_layers(self, pruned: Collection[FilterOf]) -> list[tuple[nn.Parameter, Tensor]]:
        parts = []
        for name, module in weight_users(self._network):
            weight = module.get_parameter("weight")
            rows = torch.tensor([(name, p) not in pruned for p in range(len(weight))])
            keep = torch.ones(weight.shape, dtype=torch.bool) & _along(rows, 0, weight)
            if sources := self._sources.get(name):
                keep &= _columns_of_rows(module, _fed(sources, pruned))
            parts += [(weight, keep), *([(module.bias, rows)] if isinstance(module.bias, nn.Parameter) else [])]
        return parts

    def _kept_of_norms(self, pruned: Collection[FilterOf]) -> list[tuple[nn.Parameter, Tensor]]:
        norms = [(self._network.get_submodule(name), channels) for name, channels in self.kept_channels(pruned).items()]
        return [(p, channels) for norm, channels in norms for p in (norm.weight, norm.bias) if isinstance(p, nn.Parameter)]

    def _factors(self) -> dict[FilterOf, FilterOf]:
        """The one other filter that each filter is multiplied with, where that is multiplied with no further one either."""
        pairs = {frozenset(pair) for pair in self._trace.multiplied}
        times = Counter(factor for pair in pairs for factor in pair)
        alone = [sorted(pair) for pair in pairs if all(times[factor] == 1 for factor in pair)]
        return {factor: other for first, second in alone for factor, other in ((first, second), (second, first))}

    def _feeders(self, layer: Layer) -> dict[int, set[FilterOf]]:
        """The filters that feed filter p of a grouped convolution, where they are all known."""
        module, sources = self._modules[layer.name], self._sources.get(layer.name)
        if not isinstance(module, _ConvNd) or module.groups == 1 or not sources:
            return {}
        inputs, outputs = len(sources) // module.groups, layer.filters // module.groups
        found = {}
        for group in range(module.groups):
            known = [s for s in sources[group * inputs : (group + 1) * inputs] if s is not None]
            if len(known) == inputs:
                found.update(dict.fromkeys(range(group * outputs, (group + 1) * outputs), set().union(*known)))
        return found

    def _unfed(self, name: str, gone: Collection[FilterOf]) -> Iterator[int]:
        """The filters of a layer that are not gone, but whose every input is."""
        module, sources = self._modules[name], self._sources.get(name, [])
        groups = module.groups if isinstance(module, _ConvNd) else 1
        filters, inputs = len(module.get_parameter("weight")), len(sources) // groups
        for group in range(groups):
            if inputs and all(_all_in(s, gone) for s in sources[group * inputs : (group + 1) * inputs]):
                outputs = filters // groups
                yield from (p for p in range(group * outputs, (group + 1) * outputs) if (name, p) not in gone)


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
