"""Trace which filter produced each element of every activation, during one forward pass.

Every element in memory has an origin: the number of the filter that produced it, the number of a
set if several filters met, or `MIXED` if unknown. Origins belong to memory, so views and in-place
operations on views need no rule. Operations that move elements into new memory (cat, shuffle, ...)
are applied to the origins; elementwise operations and batch norms keep them; sums and products of
two activations unite their sets; pooling keeps channels; all other operations mix. Nothing is
assumed about how the network is written or the order in which modules are registered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from pruneviz.model.out_of_memory import is_out_of_memory

MIXED = -1
_UNIONS = 1 << 30  # number of the first set of several filters

_aten = torch.ops.aten
_MOVES = {
    _aten._unsafe_view, _aten.cat, _aten.stack, _aten.flip, _aten.roll, _aten.repeat,
    _aten.index_select, _aten.index, _aten.channel_shuffle, _aten.native_channel_shuffle,
    _aten.pixel_shuffle, _aten.pixel_unshuffle,
}  # fmt: skip
_ELEMENTWISE = {  # operations that torch does not tag as pointwise
    _aten.clone, _aten._to_copy, _aten.native_dropout, _aten._softmax, _aten._log_softmax,
    _aten.leaky_relu, _aten._prelu_kernel, _aten.rrelu_with_noise, _aten.hardswish,
    _aten.log_sigmoid_forward,
}  # fmt: skip
_POOLS = {
    _aten.avg_pool1d, _aten.avg_pool2d, _aten.avg_pool3d,
    _aten.max_pool2d_with_indices, _aten.max_pool3d_with_indices,
    _aten._adaptive_avg_pool2d, _aten._adaptive_avg_pool3d,
    _aten.adaptive_max_pool2d, _aten.adaptive_max_pool3d,
    _aten.fractional_max_pool2d, _aten.fractional_max_pool3d,
    _aten.upsample_nearest1d, _aten.upsample_nearest2d, _aten.upsample_nearest3d,
    _aten.upsample_linear1d, _aten.upsample_bilinear2d, _aten.upsample_bicubic2d,
    _aten.upsample_trilinear3d,
    _aten.reflection_pad1d, _aten.reflection_pad2d, _aten.reflection_pad3d,
    _aten.replication_pad1d, _aten.replication_pad2d, _aten.replication_pad3d,
}  # fmt: skip
_NORMS = {
    _aten.native_batch_norm, _aten._native_batch_norm_legit,
    _aten._native_batch_norm_legit_no_training, _aten._batch_norm_no_update,
    _aten.cudnn_batch_norm, _aten.miopen_batch_norm,
}  # fmt: skip
_PRODUCTS = {_aten.mul, _aten.mul_}
# operations with common statistics over the shape in their second argument
_OF_LAST_DIMS = {_aten.native_layer_norm, _aten._fused_rms_norm}
# operations with common statistics over the dimensions in their second argument (none: all)
_OF_DIMS = {
    _aten._softmax, _aten._log_softmax, _aten.mean,
    _aten.var, _aten.var_mean, _aten.std, _aten.std_mean,
}  # fmt: skip
_REDUCTIONS = {
    _aten.mean, _aten.amax, _aten.amin, _aten.sum, _aten.var, _aten.std, _aten.linalg_vector_norm,
}  # fmt: skip
# operations that read only the shape of a tensor
CONSTANTS = {
    _aten.empty_like, _aten.zeros_like, _aten.ones_like, _aten.full_like, _aten.rand_like,
    _aten.randn_like, _aten.randint_like, _aten.new_empty, _aten.new_empty_strided,
    _aten.new_zeros, _aten.new_ones, _aten.new_full,
}  # fmt: skip
_INDEXED = {_aten.index, _aten.index_select}
_DTYPE = torch.int32


class ChannelTracer(TorchDispatchMode):
    """Context that follows the origin of every activation element in a forward pass.

    Attributes:
        multiplied: Pairs of filters whose outputs were multiplied with each other, as by a gate.
        together: {operation: sets of filters that met in one of its statistics}, such as the mean
            of a layer norm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiplied: set[tuple[int, int]] = set()
        self.together: dict[str, set[frozenset[int]]] = {}
        self._memory: dict[int, Tensor] = {}  # address -> origins of the elements there
        self._alive: list[
            Tensor
        ] = []  # kept alive, because freed memory would be reused by the next activation
        self._sets: list[frozenset[int]] = []
        self._numbers: dict[frozenset[int], int] = {}

    def mark(self, tensor: Tensor, origins: Tensor | int) -> None:
        """Set the origins of an activation: integers in its shape, or one number for all."""
        address = _address(tensor)
        if address is not None and self.origins(tensor) is None:
            elements = tensor.untyped_storage().nbytes() // tensor.element_size()
            # beside the values, because some rules compare the two or index both alike
            memory = torch.full((elements,), MIXED, dtype=_DTYPE, device=tensor.device)
            self._memory[address] = memory
            self._alive.append(tensor)
        known = self.origins(tensor)
        if known is not None:
            known[...] = origins

    def origins(self, tensor: Tensor) -> Tensor | None:
        """The origins of an activation; None for constants and parameters."""
        address = _address(tensor)
        memory = None if address is None else self._memory.get(address)
        if memory is None:
            return None
        if len(memory) != tensor.untyped_storage().nbytes() // tensor.element_size():
            return None
        return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def filters(self, origin: int) -> frozenset[int] | None:
        """Filter numbers in the set of this origin; None if unknown."""
        if origin == MIXED:
            return None
        return frozenset([origin]) if origin < _UNIONS else self._sets[origin - _UNIONS]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [o for o in (self.origins(t) for t in _tensors((args, kwargs))) if o is not None]
        result = func(*args, **kwargs)
        packet = getattr(func, "overloadpacket", None)  # operations of higher order have none
        if known and packet is not None and packet not in CONSTANTS:
            # an output without new memory that was not written to is a view
            written = func._schema.is_mutable and torch.Tag.inplace_view not in func.tags
            outputs = [t for t in _tensors(result) if written or self.origins(t) is None]
            self._mark_results(_Call(func, args, kwargs, outputs, known))
        return result

    def origins_or_self(self, value: Any) -> Any:
        """The origins of an activation; any other value unchanged."""
        origins = self.origins(value) if isinstance(value, Tensor) else None
        return value if origins is None else origins

    def _mark_results(self, call: _Call) -> None:
        try:
            self._note_together(call.func.overloadpacket, call.args)
            origins = _rule(call.func)(self, call)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # whatever an operation does, tracing goes on
            origins = _mix(self, call)
        for output, origin in zip(call.outputs, origins, strict=False):
            fits = origin is not None and origin.shape == output.shape
            self.mark(output, origin if fits else MIXED)  # type: ignore[arg-type]

    def united(self, first: Tensor, second: Tensor, *, multiplied: bool = False) -> Tensor:
        """The origins in a sum or product of two activations, element by element.

        Pairs of multiplied filters are recorded.
        """
        second = second.to(first.device)  # single numbers on the CPU join any other device
        if torch.equal(first, second):
            return first
        codes, at = (first.long() * (2 * _UNIONS) + second).unique(return_inverse=True)
        # shifted by one, so that floor division also undoes the sum if the second origin is -1
        firsts = (codes + 1).div(2 * _UNIONS, rounding_mode="floor")
        seconds = (codes + 1) % (2 * _UNIONS) - 1
        pairs = list(zip(firsts.tolist(), seconds.tolist(), strict=True))
        if multiplied:
            different = {(a, b) for a, b in pairs if a != b}
            self.multiplied |= {(a, b) for a, b in different if is_single(a) and is_single(b)}
        met = [self._union(a, b) for a, b in pairs]
        return torch.tensor(met, dtype=_DTYPE, device=at.device)[at]

    def _note_together(self, packet: Any, args: Any) -> None:
        """Record the filters that meet in a statistic of a normalisation or an average."""
        origins = self.origins(args[0]) if args and isinstance(args[0], Tensor) else None
        if origins is None or not origins.numel():
            return
        groups = _with_common_statistics(packet, origins, args)
        if groups is None:
            return
        found = self.together.setdefault(packet.__name__.strip("_").removeprefix("native_"), set())
        mixed = groups[groups.amin(1) != groups.amax(1)].unique(dim=0)
        for row in mixed:
            found.add(frozenset(origin for origin in row.unique().tolist() if is_single(origin)))

    def _union(self, first: int, second: int) -> int:
        """The origin of an element in which two origins meet."""
        if first == second:
            return first
        parts = self.filters(first), self.filters(second)
        if parts[0] is None or parts[1] is None:
            return MIXED
        both = parts[0] | parts[1]
        if both not in self._numbers:
            self._numbers[both] = _UNIONS + len(self._sets)
            self._sets.append(both)
        return self._numbers[both]


def is_single(origin: int) -> bool:
    """Whether an origin is one filter, not a set of several or `MIXED`."""
    return MIXED < origin < _UNIONS


def channel_origins(origins: Tensor, dim: int) -> Tensor:
    """The origin of each channel along `dim`; `MIXED` if its elements differ.

    Returns:
        Integers [channels].
    """
    flat = origins.movedim(dim, 0)
    flat = flat[:, None] if flat.ndim == 1 else flat.flatten(1)
    if not flat.shape[1]:
        return torch.full(flat.shape[:1], MIXED, dtype=_DTYPE, device=flat.device)
    return _agreed(flat.amin(1), flat.amax(1))


@dataclass(frozen=True, eq=False, repr=False)
class _Call:
    """A call of an operation."""

    func: Any
    args: Any
    kwargs: Any
    outputs: list[Tensor]  # new or overwritten tensors
    known: list[Tensor]  # known origins of its inputs


_Rule: TypeAlias = Callable[[ChannelTracer, _Call], list[Tensor | None]]


def _rule(func: Any) -> _Rule:
    """The rule for the origins of an operation's outputs."""
    packet = func.overloadpacket
    if packet in _MOVES:
        return _move
    if packet is _aten.copy_:
        return _overwrite
    if packet is _aten.constant_pad_nd:
        return _pad
    if packet in _POOLS:
        return _pool
    if packet in _REDUCTIONS:
        return _reduce
    return _meet if is_elementwise(packet) or packet in _NORMS else _mix


def _with_common_statistics(packet: Any, origins: Tensor, args: Any) -> Tensor | None:
    """The origins of the elements that an operation normalises or averages together.

    Returns:
        [groups, elements]; None for other operations.
    """
    if packet is _aten.native_group_norm:
        # even if every channel is a group: its output is followed no further
        return origins.reshape(len(origins), -1)
    if packet in _OF_LAST_DIMS:
        dims = list(range(-len(args[1]), 0))
    elif packet in _OF_DIMS:
        given = args[1] if len(args) > 1 and args[1] not in (None, []) else range(origins.ndim)
        dims = [given] if isinstance(given, int) else list(given)
    else:
        return None
    elements = math.prod(origins.shape[d] for d in dims)
    return origins.movedim(dims, list(range(-len(dims), 0))).reshape(-1, elements)


def is_elementwise(packet: Any) -> bool:
    """Whether an operation computes every element of its output from those at the same place."""
    # without the underscore, because hardtanh_ lacks the tag of hardtanh
    packet = getattr(_aten, packet.__name__.removesuffix("_"), packet)
    tags = (getattr(packet, name).tags for name in packet.overloads())
    return packet in _ELEMENTWISE or any(torch.Tag.pointwise in found for found in tags)


def _move(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """The same operation on the origins."""
    if call.func.overloadpacket in _INDEXED:  # positions that were computed stay positions
        origins = tracer.origins(call.args[0])
        return [None if origins is None else call.func(origins, *call.args[1:], **call.kwargs)]
    args, kwargs = tree_map(tracer.origins_or_self, (call.args, call.kwargs))
    if call.func.overloadpacket in (_aten.cat, _aten.stack):
        # constants among the parts have no origin
        parts = [
            torch.full_like(part, MIXED, dtype=_DTYPE) if part is origins else origins
            for part, origins in zip(call.args[0], args[0], strict=True)
        ]
        args = (parts, *args[1:])
    return list(_tensors(call.func(*args, **kwargs)))


def _overwrite(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """The origins of the second argument, which is copied to the first."""
    given = call.args[1]
    origins = tracer.origins(given)
    return [None if origins is None else origins.expand(call.outputs[0].shape)]


def _pad(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """Spatial padding keeps channels, channel padding shifts them."""
    origins = call.known[0]
    space = 2 * max(0, origins.ndim - 2)
    padded = _aten.constant_pad_nd(origins, [0] * space + call.args[1][space:], MIXED)
    return _pool(tracer, replace(call, known=[padded])) if space else [padded]


def _pool(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """One origin per channel, if all its elements share it."""
    origins = call.known[0]
    space = tuple(range(2, origins.ndim))
    agreed = _agreed(origins.amin(space, keepdim=True), origins.amax(space, keepdim=True))
    return [agreed.expand(call.outputs[0].shape)]


def _reduce(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """One origin per reduced element, if all source elements share it."""
    origins, place = call.known[0], 2 if call.func.overloadpacket is _aten.linalg_vector_norm else 1
    given = call.args[place]
    dims = [given] if isinstance(given, int) else list(given)
    keepdim = call.outputs[0].ndim == origins.ndim
    return [_agreed(origins.amin(dims, keepdim=keepdim), origins.amax(dims, keepdim=keepdim))]


def _meet(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """The filter sets of all inputs, united element by element."""
    shape = call.outputs[0].shape
    multiplied = call.func.overloadpacket in _PRODUCTS
    met = call.known[0].expand(shape)
    for other in call.known[1:]:
        met = tracer.united(met, other.expand(shape), multiplied=multiplied)
    return [met]


def _mix(tracer: ChannelTracer, call: _Call) -> list[Tensor | None]:
    """Unknown origins."""
    return [None] * len(call.outputs)


def _agreed(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first == second, first, MIXED)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int | None:
    """The address of a tensor's memory; None if it has none of its own, as a sparse tensor."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return None
