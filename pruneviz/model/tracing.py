"""Where each channel of an activation comes from, found by following one forward pass through the network.

Every element in memory carries the number of the filter that produced it, the number of a set of filters where several met,
or `MIXED` where that is not known. So a view of an activation, and an operation in place on such a view, need no rule. Operations
that move elements into new memory (cat, shuffle, ...) are applied to these numbers as they are; elementwise operations and batch
norms keep them; where two activations meet in a sum or a product, their sets unite; pooling keeps channels. Whatever is not
known mixes. So no assumption on how the network is written or in which order its modules were registered enters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

MIXED = -1
_UNIONS = 1 << 30  # sets of several filters are numbered from here

_aten = torch.ops.aten
_MOVES = {
    _aten._unsafe_view, _aten.cat, _aten.stack, _aten.flip, _aten.roll, _aten.index_select, _aten.index, _aten.repeat,
    _aten.channel_shuffle, _aten.native_channel_shuffle, _aten.pixel_shuffle, _aten.pixel_unshuffle,
}  # fmt: skip
_ELEMENTWISE = {  # those that torch does not tag as pointwise
    _aten.clone, _aten._to_copy, _aten.native_dropout, _aten._softmax, _aten._log_softmax, _aten.leaky_relu, _aten._prelu_kernel,
    _aten.rrelu_with_noise, _aten.hardswish, _aten.log_sigmoid_forward,
}  # fmt: skip
_POOLS = {
    _aten.avg_pool1d, _aten.avg_pool2d, _aten.avg_pool3d, _aten.max_pool2d_with_indices, _aten.max_pool3d_with_indices,
    _aten._adaptive_avg_pool2d, _aten._adaptive_avg_pool3d, _aten.adaptive_max_pool2d, _aten.adaptive_max_pool3d,
    _aten.fractional_max_pool2d, _aten.fractional_max_pool3d,
    _aten.upsample_nearest1d, _aten.upsample_nearest2d, _aten.upsample_nearest3d, _aten.upsample_linear1d,
    _aten.upsample_bilinear2d, _aten.upsample_bicubic2d, _aten.upsample_trilinear3d,
    _aten.reflection_pad1d, _aten.reflection_pad2d, _aten.reflection_pad3d,
    _aten.replication_pad1d, _aten.replication_pad2d, _aten.replication_pad3d,
}  # fmt: skip
_NORMS = {
    _aten.native_batch_norm, _aten._native_batch_norm_legit, _aten._native_batch_norm_legit_no_training, _aten._batch_norm_no_update,
    _aten.cudnn_batch_norm, _aten.miopen_batch_norm,
}  # fmt: skip
_PRODUCTS = {_aten.mul, _aten.mul_}
_OF_LAST_DIMS = {
    _aten.native_layer_norm,
    _aten._fused_rms_norm,
}  # their second argument is the shape that shares statistics
_OF_DIMS = {  # theirs are its dimensions, or none for all
    _aten._softmax, _aten._log_softmax, _aten.mean, _aten.var, _aten.var_mean, _aten.std, _aten.std_mean,
}  # fmt: skip
_REDUCTIONS = {_aten.mean, _aten.amax, _aten.amin, _aten.sum}
_CONSTANTS = {
    _aten.empty_like,
    _aten.zeros_like,
    _aten.ones_like,
    _aten.full_like,
    _aten.new_empty,
    _aten.new_zeros,
    _aten.new_ones,
}
_DTYPE = torch.int32


class ChannelTracer(TorchDispatchMode):
    """Follows which filter each element of every activation comes from, while one forward pass runs inside it.

    `multiplied` are the pairs of filters whose outputs were multiplied with one another, as by a gate; `together` are the origins that met
    in one statistic, such as the mean of a layer norm, by operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiplied: set[tuple[int, int]] = set()
        self.together: dict[str, set[frozenset[int]]] = {}
        self._memory: dict[
            int, Tensor
        ] = {}  # address -> the origin of every element that lies there
        self._alive: list[Tensor] = []  # freed memory would be given to the next activation
        self._sets: list[frozenset[int]] = []
        self._numbers: dict[frozenset[int], int] = {}

    def mark(self, tensor: Tensor, origins: Tensor | int) -> None:
        """State the origins of an activation: integers of the same shape, or one number for all."""
        if self.origins(tensor) is None:
            elements = tensor.untyped_storage().nbytes() // tensor.element_size()
            self._memory[_address(tensor)] = torch.full((elements,), MIXED, dtype=_DTYPE)
            self._alive.append(tensor)
        self.origins(tensor)[...] = origins  # type: ignore[index]

    def origins(self, tensor: Tensor) -> Tensor | None:
        """The origins of an activation; None for constants and parameters."""
        memory = self._memory.get(_address(tensor))
        if (
            memory is None
            or len(memory) != tensor.untyped_storage().nbytes() // tensor.element_size()
        ):
            return None
        return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def filters(self, origin: int) -> frozenset[int] | None:
        """The numbers of the filters that met in an element of that origin; None where they are not known."""
        if origin == MIXED:
            return None
        return frozenset([origin]) if origin < _UNIONS else self._sets[origin - _UNIONS]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [o for o in (self.origins(t) for t in _tensors((args, kwargs))) if o is not None]
        result = func(*args, **kwargs)
        if known and func.overloadpacket not in _CONSTANTS:
            traced = tree_map(self._origins_or_self, args), tree_map(self._origins_or_self, kwargs)
            self._mark_results(func, result, known, traced, args)
        return result

    def _origins_or_self(self, value: Any) -> Any:
        origins = self.origins(value) if isinstance(value, Tensor) else None
        return value if origins is None else origins

    def _mark_results(
        self, func: Any, result: Any, known: list[Tensor], traced: tuple[Any, Any], args: Any
    ) -> None:
        rule = _rule(func)
        self._note_together(func.overloadpacket, args)
        # what is no new memory and was not written to is a view
        outputs = [
            t for t in _tensors(result) if func._schema.is_mutable or self.origins(t) is None
        ]
        try:
            origins = rule(self, func, outputs, known, traced, args)
        except (RuntimeError, IndexError, TypeError, NotImplementedError):
            origins = [None] * len(outputs)
        for output, origin in zip(outputs, origins, strict=False):
            fits = origin is not None and origin.shape == output.shape
            self.mark(output, origin if fits else MIXED)  # type: ignore[arg-type]

    def united(self, first: Tensor, second: Tensor, *, multiplied: bool = False) -> Tensor:
        """The origins of elements in which two activations meet, element by element, in a sum or (noted as such) in a product."""
        if torch.equal(first, second):
            return first
        codes, at = (first.long() * (2 * _UNIONS) + second).unique(return_inverse=True)
        # floor division undoes the sum also for a second origin of -1, if that is shifted first
        firsts, seconds = (
            (codes + 1).div(2 * _UNIONS, rounding_mode="floor"),
            (codes + 1) % (2 * _UNIONS) - 1,
        )
        pairs = list(zip(firsts.tolist(), seconds.tolist(), strict=True))
        if multiplied:
            self.multiplied |= {
                (a, b) for a, b in pairs if a != b and is_single(a) and is_single(b)
            }
        return torch.tensor([self._union(a, b) for a, b in pairs], dtype=_DTYPE)[at]

    def _note_together(self, packet: Any, args: Any) -> None:
        origins = self.origins(args[0]) if args and isinstance(args[0], Tensor) else None
        if origins is None or not origins.numel():
            return
        groups = _with_common_statistics(packet, origins, args)
        if groups is not None:
            mixed = groups[groups.amin(1) != groups.amax(1)].unique(dim=0)
            found = self.together.setdefault(
                packet.__name__.strip("_").removeprefix("native_"), set()
            )
            found |= {
                frozenset(origin for origin in row.unique().tolist() if is_single(origin))
                for row in mixed
            }

    def _union(self, first: int, second: int) -> int:
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
    """Whether an origin is one filter, neither a set of several nor `MIXED`."""
    return MIXED < origin < _UNIONS


def channel_origins(origins: Tensor, dim: int) -> Tensor:
    """The one origin of each channel along `dim`, `MIXED` where its elements have several: integers [channels]."""
    flat = origins.movedim(dim, 0).flatten(1)
    return (
        _agreed(flat.amin(1), flat.amax(1))
        if flat.shape[1]
        else torch.full(flat.shape[:1], MIXED, dtype=_DTYPE)
    )


def _rule(func: Any) -> Callable[..., list[Tensor | None]]:
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
    return _meet if _is_elementwise(packet) or packet in _NORMS else _mix


def _with_common_statistics(packet: Any, origins: Tensor, args: Any) -> Tensor | None:
    """The origins of the elements that an operation normalises or averages together: [groups, elements]; None for other operations."""
    if packet is _aten.native_group_norm:
        return origins.reshape(
            len(origins), -1
        )  # also where every channel is a group: what leaves it is followed no further
    if packet in _OF_LAST_DIMS:
        dims = list(range(-len(args[1]), 0))
    elif packet in _OF_DIMS:
        given = args[1] if len(args) > 1 and args[1] not in (None, []) else range(origins.ndim)
        dims = [given] if isinstance(given, int) else list(given)
    else:
        return None
    return origins.movedim(dims, list(range(-len(dims), 0))).reshape(
        -1, math.prod(origins.shape[d] for d in dims)
    )


def _is_elementwise(packet: Any) -> bool:
    packet = getattr(
        _aten, packet.__name__.removesuffix("_"), packet
    )  # hardtanh_ lacks the tag of hardtanh
    return packet in _ELEMENTWISE or any(
        torch.Tag.pointwise in getattr(packet, name).tags for name in packet.overloads()
    )


def _move(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    moved_args, moved_kwargs = traced
    if func.overloadpacket in (_aten.cat, _aten.stack):  # constants among the parts have no origin
        given = zip(args[0], moved_args[0], strict=True)
        parts = [
            torch.full(part.shape, MIXED, dtype=_DTYPE) if part is origins else origins
            for part, origins in given
        ]
        moved_args = (parts, *moved_args[1:])
    return list(_tensors(func(*moved_args, **moved_kwargs)))


def _overwrite(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    origins = traced[0][1]
    return [None if origins is args[1] else origins.expand(outputs[0].shape)]


def _pad(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    space = 2 * max(
        0, known[0].ndim - 2
    )  # padding in space keeps channels, padding of channels shifts them
    padded = _aten.constant_pad_nd(known[0], [0] * space + args[1][space:], MIXED)
    return _pool(tracer, func, outputs, [padded], traced, args) if space else [padded]


def _pool(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    origins = known[0]
    space = tuple(range(2, origins.ndim))
    agreed = _agreed(origins.amin(space, keepdim=True), origins.amax(space, keepdim=True))
    return [agreed.expand(outputs[0].shape)]


def _reduce(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    dims = [args[1]] if isinstance(args[1], int) else list(args[1])
    keepdim = outputs[0].ndim == known[0].ndim
    return [_agreed(known[0].amin(dims, keepdim=keepdim), known[0].amax(dims, keepdim=keepdim))]


def _meet(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    shape = outputs[0].shape
    met = known[0].expand(shape)
    for other in known[1:]:
        met = tracer.united(met, other.expand(shape), multiplied=func.overloadpacket in _PRODUCTS)
    return [met]


def _mix(
    tracer: ChannelTracer,
    func: Any,
    outputs: list[Tensor],
    known: list[Tensor],
    traced: tuple[Any, Any],
    args: Any,
) -> list[Tensor | None]:
    return [None] * len(outputs)


def _agreed(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first == second, first, MIXED)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
