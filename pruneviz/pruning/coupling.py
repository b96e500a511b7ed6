"""Groups of coupled filters, and the parameter entries that are pruned with a filter.

One forward pass (`pruneviz.model.tracing`) shows which filters meet in each input channel of every
layer and norm. Anything that reads only pruned filters is pruned too: norm channels, input columns
of later layers, and filters of a grouped convolution without remaining inputs. A channel of a
residual sum counts as pruned once all filters added into it are; a product, as with a gate, as soon
as one factor is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruneviz.errors import MeasureError, PruningError
from pruneviz.model.filters import FilterOf, Layer, Trace, layers_of, weight_users, weighted_modules
from pruneviz.model.sample import Forward, Inputs
from pruneviz.model.units import Units
from pruneviz.model.weights import computes_weight
from pruneviz.pruning.disjoint_sets import DisjointSets
from pruneviz.pruning.flow import Flow, Sources
from pruneviz.pruning.held_entries import pruned_rows

Kept = tuple[nn.Parameter, Tensor]  # a parameter and its boolean mask of kept entries


@dataclass(frozen=True)
class Feed:
    """Filters of one layer that read the same channels.

    A plain convolution has one feed; a grouped convolution has one per group.

    Attributes:
        layer: Layer name.
        sources: All filters in the channels that it reads.
        filters: Filters of the layer that read them.
    """

    layer: str
    sources: frozenset[FilterOf]
    filters: range


class Coupling:
    """Which filters of a network depend on one another.

    Coupled filters form a *group*, led by its first filter. A filter of a grouped (depthwise)
    convolution is coupled to the only filter that it reads, and filters whose outputs are
    multiplied (a gate) are coupled. The network does not change.

    Args:
        network: Network to trace.
        example: One or more inputs, as in `pruneviz.model.sample`.
        forward: Callable of (network, example) that calls the network.

    Attributes:
        layers: Layers whose filters can be pruned, in execution order; never the classifier.
        left_out: {layer: reason} for layers whose filters, at zero, are not as if they were absent:
            they share the statistics of a norm, or leave a constant. Also layers with a computed
            weight, and transposed convolutions.
        flow: Where their channels go.

    Raises:
        PruningError: If no filter can be pruned.
        MeasureError: If the network has no filters.
    """

    def __init__(self, network: nn.Module, example: Inputs, forward: Forward | None = None) -> None:
        self._network = network
        self._modules = dict(weighted_modules(network))
        self._trace = Trace.of(network, example, forward)
        self.flow = Flow.of(network, example, forward)
        self._sources = self.flow.read
        layers = _layers_of(network, self._trace)
        self.left_out = self._reasons([layer.name for layer in layers])
        self.layers = [layer for layer in layers if layer.name not in self.left_out]
        self.left_out |= _other_layers(network)
        if not self.layers:
            reasons = "; ".join(self.left_out.values())
            raise PruningError(
                f"{type(network).__name__} has no filter that can be pruned: {reasons}"
            )

    @cached_property
    def leads(self) -> dict[FilterOf, FilterOf]:
        """{filter: first filter of its group}."""
        filters = [(layer.name, p) for layer in self.layers for p in range(layer.filters)]
        groups = DisjointSets(filters)
        read_by = self._read_by_grouped()
        factors = self._factors()
        for own in filters:
            leads_of_inputs = {groups.first(source) for source in read_by.get(own, ())}
            if len(leads_of_inputs) == 1:
                groups.join(own, leads_of_inputs.pop())
            groups.join(own, factors.get(own, own))
        return {own: groups.first(own) for own in filters}

    @cached_property
    def members(self) -> dict[FilterOf, list[FilterOf]]:
        """{first filter of a group: all its filters}."""
        members: dict[FilterOf, list[FilterOf]] = {}
        for member, lead in self.leads.items():
            members.setdefault(lead, []).append(member)
        return members

    def count_groups(self, filters: Collection[FilterOf]) -> int:
        """Number of groups to which these filters belong."""
        return len({self.leads[p] for p in filters if p in self.leads})

    @property
    def has_sums(self) -> bool:
        """Whether filters of several groups meet in one channel, as in a residual sum."""
        for channels in self._sources.values():
            for sources in channels:
                if len({self.leads.get(source, source) for source in sources or ()}) > 1:
                    return True
        return False

    def coupled_to(self, layer: Layer | Units) -> str | None:
        """The only other layer that leads all groups of a layer's filters; None otherwise."""
        leading = {self.leads[layer.name, p][0] for p in range(layer.filters)}
        if len(leading) == 1 and layer.name not in leading:
            return leading.pop()
        return None

    @cached_property
    def feeds(self) -> list[Feed]:
        """All feeds with known sources, in execution order."""
        found = []
        for name in self._trace.order:
            channels = self._sources.get(name)
            if channels:
                found += _feeds(name, self._modules[name], channels)
        return found

    @cached_property
    def feeds_of(self) -> dict[FilterOf, list[int]]:
        """{filter: indices of the `feeds` with it as a source}."""
        found: dict[FilterOf, list[int]] = {}
        for index, feed in enumerate(self.feeds):
            for source in feed.sources:
                found.setdefault(source, []).append(index)
        return found

    def check_output(self, layer: str) -> None:
        """Raise `PruningError` if a layer without inputs is the network's output."""
        if layer in self._trace.output_layers:
            raise PruningError(
                f"nothing would reach the output layer {layer}; "
                "prune less, or keep a minimum of every layer"
            )

    def kept(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """Kept entries of the parameters if filters are pruned.

        Pruned with a filter are its weights and bias, and the norm channels and layer columns that
        read nothing else.

        Args:
            pruned: All pruned filters, with their dependents.

        Returns:
            {parameter: boolean mask}, without parameters that keep all entries.
        """
        names = {id(parameter): name for name, parameter in self._network.named_parameters()}
        parts = [
            *self._kept_of_layers(pruned),
            *self._kept_of_transposed(pruned),
            *self._kept_of_norms(pruned),
        ]
        return {names[id(parameter)]: keep for parameter, keep in parts if not keep.all()}

    def kept_channels(self, pruned: Collection[FilterOf]) -> dict[str, Tensor]:
        """Norm channels that read more than pruned filters: {norm: boolean [channels]}."""
        found = {}
        for name, module in self._network.named_modules():
            channels = self._sources.get(name)
            if isinstance(module, _NormBase) and channels:
                found[name] = _alive(channels, pruned)
        return found

    def pruned(self) -> set[FilterOf]:
        """Pruned filters, according to the network's own masks."""
        found: set[FilterOf] = set()
        for layer in self.layers:
            rows = pruned_rows(self._network, layer.weight)
            if rows is not None:
                found |= {(layer.name, p) for p in rows.nonzero().flatten().tolist()}
        return found

    def _reasons(self, layers: list[str]) -> dict[str, str]:
        """{layer: why its filters cannot be pruned}."""
        found = {name: why for name, why in self.flow.leaves.items() if name in layers}
        for name, operation in self._trace.together.items():
            if name in layers:
                found[name] = _shared_statistics(name, operation)
        factors, waiting = self._factors(), True
        while waiting:  # a gate is as good as absent only if it goes with what it multiplies
            alone = {
                filter_[0]
                for filter_, partners in self.flow.gates.items()
                if partners != {factors.get(filter_, filter_)} or factors[filter_][0] in found
            }
            waiting = bool(alone & set(layers) - set(found))
            found |= {name: _constant_factor(name) for name in layers if name in alone - set(found)}
        for filters, operation in self.flow.leave_together:
            own = {layer for layer, _ in filters}
            if own <= set(layers) and own.isdisjoint(found):  # or they are never all pruned
                found |= {name: _constant_of_sum(name, operation) for name in own}
        return {name: found[name] for name in layers if name in found}

    def _read_by_grouped(self) -> dict[FilterOf, frozenset[FilterOf]]:
        """{filter of a grouped convolution: filters that it reads}."""
        found = {}
        for feed in self.feeds:
            if getattr(self._modules[feed.layer], "groups", 1) > 1:
                for p in feed.filters:
                    found[feed.layer, p] = feed.sources
        return found

    def _factors(self) -> dict[FilterOf, FilterOf]:
        """{filter: its factor in a product}, if neither has a further factor."""
        pairs = {frozenset(pair) for pair in self._trace.multiplied}
        times = Counter(factor for pair in pairs for factor in pair)
        found = {}
        for pair in pairs:
            if all(times[factor] == 1 for factor in pair):
                first, second = sorted(pair)
                found[first], found[second] = second, first
        return found

    def _kept_of_layers(self, pruned: Collection[FilterOf]) -> list[Kept]:
        parts: list[Kept] = []
        for name, module in weight_users(self._network):
            weight = module.get_parameter("weight")
            rows = torch.tensor([(name, p) not in pruned for p in range(len(weight))])
            channels = self._sources.get(name)
            alive = _alive(channels, pruned) if channels else None
            if rows.all() and (alive is None or alive.all()):
                continue  # most layers: masks of all weights would take long
            keep = torch.ones(weight.shape, dtype=torch.bool) & _along(rows, 0, weight)
            if alive is not None:
                keep &= _columns_of_rows(module, alive)
            parts.append((weight, keep))
            if isinstance(module.bias, nn.Parameter):
                parts.append((module.bias, rows))
        return parts

    def _kept_of_transposed(self, pruned: Collection[FilterOf]) -> list[Kept]:
        """Transposed convolutions have no filters, but weights [input channels, ...]."""
        parts = []
        for name, module in self._network.named_modules():
            channels = self._sources.get(name)
            if isinstance(module, _ConvTransposeNd) and channels:
                weight = module.get_parameter("weight")
                alive = _along(_alive(channels, pruned), 0, weight)
                parts.append((weight, alive.expand(weight.shape).clone()))
        return parts

    def _kept_of_norms(self, pruned: Collection[FilterOf]) -> list[Kept]:
        parts = []
        for name, channels in self.kept_channels(pruned).items():
            norm = self._network.get_submodule(name)
            for parameter in (norm.weight, norm.bias):
                if isinstance(parameter, nn.Parameter):
                    parts.append((parameter, channels))
        return parts


def _layers_of(network: nn.Module, trace: Trace) -> list[Layer]:
    try:
        return layers_of(network, trace)
    except MeasureError as error:
        raise MeasureError(
            f"{error}; filters of transposed convolutions, recurrent layers and GPT-2's Conv1D are "
            "not pruned, but units of several parameters are: unit='neuron', unit='head', or a "
            "grouping {name: [(parameter, dim, indices), ...]}"
        ) from error


def _other_layers(network: nn.Module) -> dict[str, str]:
    """{layer that has no filters here: why}."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, (_ConvNd, nn.Linear)) and computes_weight(module):
            found[name] = (
                f"the weight of {name} is computed, as by weight_norm or spectral_norm; remove the "
                "parametrization to prune its filters"
            )
        elif isinstance(module, _ConvTransposeNd):
            found[name] = f"filters of a transposed convolution such as {name} are not pruned"
    return found


def _feeds(name: str, module: nn.Module, channels: list[Sources]) -> list[Feed]:
    groups = _conv_groups(module)
    inputs = len(channels) // groups
    outputs = len(module.get_parameter("weight")) // groups
    found = []
    for group in range(groups):
        known = [sources for sources in channels[group * inputs : (group + 1) * inputs] if sources]
        if len(known) == inputs:
            sources = frozenset[FilterOf]().union(*known)
            found.append(Feed(name, sources, range(group * outputs, (group + 1) * outputs)))
    return found


def _shared_statistics(layer: str, operation: str) -> str:
    return (
        f"the filters of {layer} share the statistics of a {operation}, "
        "so that removing one changes the others"
    )


def _constant_of_sum(layer: str, operation: str) -> str:
    return (
        f"filters of {layer}, pruned with those that they are added to, would leave a constant in "
        f"{operation}, where others are alive"
    )


def _constant_factor(layer: str) -> str:
    return (
        f"a pruned filter of {layer} would leave a constant factor, so that what it multiplies "
        "would not be as without it"
    )


def _alive(channels: Iterable[Sources], pruned: Collection[FilterOf]) -> Tensor:
    """Mask of channels that read more than pruned filters: boolean [channels]."""
    return torch.tensor([not _all_in(sources, pruned) for sources in channels])


def _all_in(sources: Sources, pruned: Collection[FilterOf]) -> bool:
    return bool(sources) and all(source in pruned for source in sources or ())


def _along(flags: Tensor, dim: int, like: Tensor) -> Tensor:
    return flags.view([-1 if d == dim else 1 for d in range(like.ndim)])


def _columns_of_rows(module: nn.Module, columns: Tensor) -> Tensor:
    """Kept columns for each row of a weight; grouped convolutions read only their own group."""
    weight = module.get_parameter("weight")
    groups = _conv_groups(module)
    of_rows = columns.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    return of_rows.view([*of_rows.shape, *[1] * (weight.ndim - 2)])


def _conv_groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, _ConvNd) else 1
