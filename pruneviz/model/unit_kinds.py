"""The units that people prune in transformers, found in any network that has them.

Heads and neurons are found by structure: layers that feed one another through no other layer, of
fitting sizes, and a count of heads in an attribute such as `num_heads`. What is found is then tried
(`pruneviz.model.unit_trials`), so a layout is never assumed. What is not understood is left out or
refused; an explicit grouping (`pruneviz.model.units.grouped`) can always be given instead.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.model.filters import Trace
from pruneviz.model.residual_units import Finder, residual_channels
from pruneviz.model.unit_trials import act_alone
from pruneviz.model.units import Slices, Units
from pruneviz.model.weights import linear_maps

# attributes with the number of attention heads, in a module or its `config`; extend as needed
HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "nhead", "n_head", "heads")
# attributes with the number of experts in a module that stacks their weights
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "n_experts")
# lists of modules that are experts
EXPERT_LISTS = ("experts", "local_experts")

_GROUPING = "give a grouping {name: [(parameter, dim, indices), ...]} as unit instead"
Blocks = list[Tensor]  # positions of every unit
Layouts = Callable[[nn.Module, "Meeting"], Iterator[Units]]


@dataclass(frozen=True)
class Meeting:
    """Layers whose outputs meet in the input of others, through no other layer.

    Attributes:
        makers: Weights of the layers that make the activations.
        readers: Weights of the layers that read them.
    """

    makers: tuple[str, ...]
    readers: tuple[str, ...]


def find_units(model: nn.Module, kind: str, trace: Trace) -> list[Units]:
    """The units of a kind, layer by layer.

    Args:
        model: Any network; it does not change.
        kind: A key of `KINDS`.
        trace: Trace of the network.

    Raises:
        MeasureError: If the network has no such units, or they are not understood.

    Example:
        >>> heads = find_units(model, "head", Trace.of(model, images))
    """
    return KINDS[kind](model, trace)


def attention_heads(model: nn.Module, trace: Trace) -> list[Units]:
    """Attention heads: rows of query, key and value with their biases, columns of the output.

    With grouped queries a unit is a key-value head with all query heads that read it, so that no
    entry belongs to two units. The bias of the output projection belongs to no head.
    """
    neurons = {units.slices[-1].parameter for units in _tried(model, trace, _neuron_layouts)}
    found = [
        u for u in _tried(model, trace, _head_layouts) if u.slices[-1].parameter not in neurons
    ]
    if not found:
        raise MeasureError(
            f"{type(model).__name__} has no attention heads that are understood: no module with "
            f"one of {', '.join(HEAD_COUNTS)} (or such a config) in which query, key and value "
            f"meet in an output projection; {_GROUPING}"
        )
    return _named(found)


def hidden_neurons(model: nn.Module, trace: Trace) -> list[Units]:
    """Neurons: rows of the layers that make a hidden activation, columns of those that read it.

    Layers before an elementwise function, also gated ones (up and gate), with their biases.
    """
    found = _tried(model, trace, _neuron_layouts)
    if not found:
        raise MeasureError(
            f"{type(model).__name__} has no neurons: no linear layer that only other linear layers "
            f"read, through elementwise functions; {_GROUPING}"
        )
    return _named(found)


def embedding_channels(model: nn.Module, trace: Trace) -> list[Units]:
    """Embedding channels: the columns of every `nn.Embedding` and `nn.EmbeddingBag`."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = []
    for path, module in model.named_modules():
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        # a weight that is computed is no parameter, and reading it may move its state
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and weight is not None:
            index = torch.arange(module.embedding_dim)
            part = Slices(names[id(weight)], 1, index, index)
            found.append(Units(path, "channel", len(index), (part,)))
    if not found:
        raise MeasureError(
            f"{type(model).__name__} has no channels: no nn.Embedding or nn.EmbeddingBag; "
            f"{_GROUPING}"
        )
    return found


def experts(model: nn.Module, trace: Trace) -> list[Units]:
    """Experts: all parameters of each module in a list of experts, or of each in stacked weights.

    The router's rows belong to no expert: without them an expert would still be chosen.
    """
    found = [*_listed_experts(model), *_stacked_experts(model)]
    if not found:
        raise MeasureError(
            f"{type(model).__name__} has no experts: no nn.ModuleList named "
            f"{' or '.join(EXPERT_LISTS)}, and no module with one of {', '.join(EXPERT_COUNTS)} "
            f"that stacks weights [experts, ...]; {_GROUPING}"
        )
    return found


def _listed_experts(model: nn.Module) -> Iterator[Units]:
    names = {id(p): name for name, p in model.named_parameters()}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and path.rpartition(".")[2] in EXPERT_LISTS:
            parts = [
                _all_of(names[id(p)], p, number)
                for number, expert in enumerate(module)
                for p in expert.parameters()
                if p.ndim
            ]
            yield Units(path, "expert", len(module), tuple(parts))


def _stacked_experts(model: nn.Module) -> Iterator[Units]:
    for path, module in model.named_modules():
        count = _attribute(module, EXPERT_COUNTS)
        own = {
            n: p for n, p in module.named_parameters(recurse=False) if len(p) == count and p.ndim
        }
        if any(p.ndim > 2 for p in own.values()):
            index = torch.arange(int(count or 0))
            parts = (Slices(f"{path}.{n}" if path else n, 0, index, index) for n in own)
            yield Units(path, "expert", len(index), tuple(parts))


def _all_of(name: str, parameter: Tensor, unit: int) -> Slices:
    index = torch.arange(len(parameter))
    return Slices(name, 0, index, torch.full_like(index, unit))


def _tried(model: nn.Module, trace: Trace, layouts: Layouts) -> list[Units]:
    """Units in the first layout in which each acts alone; like layers are tried at once."""
    alike: dict[tuple[object, ...], list[list[Units]]] = defaultdict(list)
    for meeting in meetings(trace):
        candidates = list(layouts(model, meeting))
        if candidates:
            pattern = re.sub(r"\d+", "#", " ".join([*meeting.makers, *meeting.readers]))
            alike[pattern, len(candidates), candidates[0].filters].append(candidates)
    found: list[Units] = []
    for members in alike.values():
        found += _understood(model, trace, members)
    order = {weight: i for i, weight in enumerate(trace.uses.matrices)}
    return sorted(found, key=lambda units: order.get(units.slices[0].parameter, len(order)))


def _understood(model: nn.Module, trace: Trace, members: list[list[Units]]) -> list[Units]:
    """The layers of one pattern in a layout that passes, together or else one by one."""
    for layout in zip(*members, strict=True):
        if act_alone(model, trace, layout):
            return list(layout)
    if len(members) == 1 or not any(act_alone(model, trace, [units]) for units in members[0]):
        return []
    return [units for member in members for units in _understood(model, trace, [member])]


def meetings(trace: Trace) -> list[Meeting]:
    """Which layers' outputs meet, from a traced network."""
    feeds = trace.uses.feeds
    makers: dict[str, set[str]] = defaultdict(set)
    for maker, readers in feeds.items():
        for reader in readers:
            makers[reader].add(maker)
    together: dict[frozenset[str], list[str]] = defaultdict(list)
    for reader, made_by in makers.items():
        together[frozenset(made_by)].append(reader)
    order = {weight: i for i, weight in enumerate(trace.uses.matrices)}
    return [
        Meeting(
            tuple(sorted(made_by, key=lambda name: order.get(name, 0))),
            tuple(sorted(readers, key=lambda name: order.get(name, 0))),
        )
        for made_by, readers in together.items()
    ]


def _neuron_layouts(model: nn.Module, meeting: Meeting) -> Iterator[Units]:
    """Every row with the column of its number; fused gates in halves, then in turns."""
    sides = _Sides.of(model, meeting)
    if sides is None:
        return
    width = sides.columns
    if all(rows == width for rows in sides.rows):
        yield sides.units("neuron", [_turns(width, width)] * len(sides.rows), width)
    elif sides.rows == (2 * width,):
        yield sides.units("neuron", [_turns(2 * width, width)], width)
        yield sides.units("neuron", [_blocks(2 * width, width)], width)


def _head_layouts(model: nn.Module, meeting: Meeting) -> Iterator[Units]:
    """Contiguous blocks of rows; fused projections in thirds (query, key, value), then in turns."""
    sides = _Sides.of(model, meeting)
    heads = None if sides is None else _heads_of(model, [*meeting.makers, *meeting.readers])
    if sides is None or heads is None or sides.columns % heads:
        return
    size = sides.columns // heads
    if len(sides.rows) > 1:
        count = min([sides.columns, *sides.rows]) // size
        if count and not any(rows % count for rows in sides.rows) and not heads % count:
            yield sides.units("head", [_blocks(rows, count) for rows in sides.rows], count)
        return
    both, odd = divmod(sides.rows[0] - sides.columns, 2)  # rows of the keys, and of the values
    count = both // size
    if odd or both % size or count < 1 or heads % count:
        return
    thirds = (_blocks(n, count) for n in (sides.columns, both, both))
    starts = (0, sides.columns, sides.columns + both)
    moved = [
        [block + start for block in third] for third, start in zip(thirds, starts, strict=True)
    ]
    yield sides.units("head", [[torch.cat(parts) for parts in zip(*moved, strict=True)]], count)
    yield sides.units("head", [_blocks(sides.rows[0], count)], count)


@dataclass(frozen=True, repr=False)
class _Sides:
    """The two sides of a meeting: rows that make activations, columns that read them."""

    model: nn.Module
    meeting: Meeting
    dims: Mapping[str, int]  # dimension of the rows of each weight
    rows: tuple[int, ...]
    columns: int

    @classmethod
    def of(cls, model: nn.Module, meeting: Meeting) -> _Sides | None:
        """None if a weight is no matrix, or readers differ in their number of columns."""
        dims = {map_.parameter: map_.dims[0] for _, map_ in linear_maps(model)}
        names = [*meeting.makers, *meeting.readers]
        if not all(name in dims and model.get_parameter(name).ndim == 2 for name in names):
            return None
        shapes = {name: model.get_parameter(name).shape for name in names}
        columns = {shapes[name][1 - dims[name]] for name in meeting.readers}
        if len(columns) != 1:
            return None
        rows = tuple(shapes[name][dims[name]] for name in meeting.makers)
        return cls(model, meeting, dims, rows, columns.pop())

    def units(self, kind: str, blocks: Sequence[Blocks], count: int) -> Units:
        """Units of rows in these blocks of every maker, and columns in equal blocks."""
        parts = []
        for maker, block in zip(self.meeting.makers, blocks, strict=True):
            index, unit = _flat(block)
            parts.append(Slices(maker, self.dims[maker], index, unit))
            bias = _bias_of(self.model, maker)
            if bias is not None:
                parts.append(Slices(bias, 0, index, unit))
        index, unit = _flat(_blocks(self.columns, count))
        for reader in self.meeting.readers:
            parts.append(Slices(reader, 1 - self.dims[reader], index, unit, reads=True))
        return Units(_common_path(self.meeting), kind, count, tuple(parts))


def _blocks(size: int, count: int) -> Blocks:
    """`count` contiguous blocks of equal size."""
    return list(torch.arange(size).view(count, -1))


def _turns(size: int, count: int) -> Blocks:
    """Every `count`-th position: 0, count, 2 count, ... for the first."""
    return list(torch.arange(size).view(-1, count).T)


def _flat(blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Positions, and the unit of each."""
    units = [torch.full_like(block, unit) for unit, block in enumerate(blocks)]
    return torch.cat(blocks), torch.cat(units)


def _bias_of(model: nn.Module, weight: str) -> str | None:
    """The bias beside a weight, as `in_proj_bias` of `in_proj_weight`; None if there is none."""
    path, _, own = weight.rpartition(".")
    bias = getattr(model.get_submodule(path), own.replace("weight", "bias"), None)
    names = {id(p): name for name, p in model.named_parameters()}
    return names.get(id(bias)) if isinstance(bias, nn.Parameter) else None


def _heads_of(model: nn.Module, weights: Sequence[str]) -> int | None:
    """Number of heads in the closest module around some weights, or in a part of it."""
    path = common_path(weights)
    module = model.get_submodule(path)
    for holder in (module, *module.children()):
        count = _attribute(holder, HEAD_COUNTS)
        if count is not None:
            return count
    return None


def _attribute(module: nn.Module, names: Sequence[str]) -> int | None:
    """A positive whole number under one of some names, in a module or its config."""
    for holder in (module, getattr(module, "config", None)):
        for name in names:
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def common_path(weights: Sequence[str]) -> str:
    """Path of the closest module that holds all these parameters."""
    paths = [name.split(".")[:-1] for name in weights]
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in alike)


def _common_path(meeting: Meeting) -> str:
    return common_path([*meeting.makers, *meeting.readers])


def _named(found: Sequence[Units]) -> list[Units]:
    """Units named after their module, or after their first layer where several would share it."""
    times = Counter(units.name for units in found)
    return [
        units
        if units.name and times[units.name] == 1
        else replace(units, name=units.slices[0].parameter.removesuffix(".weight"))
        for units in found
    ]


def residual_stream(model: nn.Module, trace: Trace) -> list[Units]:
    """Channels of the residual stream: all rows that write one, all columns that read it."""
    return residual_channels(model, trace, (attention_heads, hidden_neurons))


KINDS: Mapping[str, Finder] = {
    "head": attention_heads,
    "neuron": hidden_neurons,
    "channel": embedding_channels,
    "expert": experts,
    "residual": residual_stream,
}
