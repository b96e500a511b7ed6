"""Where each channel of an activation comes from, found by following one forward pass through the network.

Every element in memory carries the number of the filter that produced it, or `MIXED` where more than one did. So a view of
an activation, and an operation in place on such a view, need no rule. Operations that move elements into new memory (cat,
shuffle, ...) are applied to these numbers as they are; elementwise operations keep them; where two activations meet in a sum
or a product, only elements with one common origin keep it; pooling keeps channels. Whatever is not known mixes. So no
assumption on how the network is written or in which order its modules were registered enters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

MIXED = -1

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
_REDUCTIONS = {_aten.mean, _aten.amax, _aten.amin, _aten.sum}
_CONSTANTS = {_aten.empty_like, _aten.zeros_like, _aten.ones_like, _aten.full_like, _aten.new_empty, _aten.new_zeros, _aten.new_ones}
_DTYPE = torch.int32


class ChannelTracer(TorchDispatchMode):
    """Follows which filter each element of every activation comes from, while one forward pass runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self._memory: dict[int, Tensor] = {}  # address -> the origin of every element that lies there
        self._alive: list[Tensor] = []  # freed memory would be given to the next activation

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
        if memory is None or len(memory) != tensor.untyped_storage().nbytes() // tensor.element_size():
            return None
        return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

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

    def _mark_results(self, func: Any, result: Any, known: list[Tensor], traced: tuple[Any, Any], args: Any) -> None:
        rule = _rule(func)
        # what is no new memory and was not written to is a view
        outputs = [t for t in _tensors(result) if func._schema.is_mutable or self.origins(t) is None]
        try:
            origins = rule(func, outputs, known, traced, args)
        except (RuntimeError, IndexError, TypeError, NotImplementedError):
            origins = [None] * len(outputs)
        for output, origin in zip(outputs, origins, strict=False):
            fits = origin is not None and origin.shape == output.shape
            self.mark(output, origin if fits else MIXED)  # type: ignore[arg-type]


def channel_origins(origins: Tensor, dim: int) -> Tensor:
    """The one origin of each channel along `dim`, `MIXED` where its elements have several: integers [channels]."""
    flat = origins.movedim(dim, 0).flatten(1)
    return _agreed(flat.amin(1), flat.amax(1)) if flat.shape[1] else torch.full(flat.shape[:1], MIXED, dtype=_DTYPE)


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
    return _meet if _is_elementwise(packet) else _mix


def _is_elementwise(packet: Any) -> bool:
    packet = getattr(_aten, packet.__name__.removesuffix("_"), packet)  # hardtanh_ lacks the tag of hardtanh
    return packet in _ELEMENTWISE or any(torch.Tag.pointwise in getattr(packet, name).tags for name in packet.overloads())


def _move(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    moved_args, moved_kwargs = traced
    if func.overloadpacket in (_aten.cat, _aten.stack):  # constants among the parts have no origin
        given = zip(args[0], moved_args[0], strict=True)
        parts = [torch.full(part.shape, MIXED, dtype=_DTYPE) if part is origins else origins for part, origins in given]
        moved_args = (parts, *moved_args[1:])
    return list(_tensors(func(*moved_args, **moved_kwargs)))


def _overwrite(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    origins = traced[0][1]
    return [None if origins is args[1] else origins.expand(outputs[0].shape)]


def _pad(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    space = 2 * max(0, known[0].ndim - 2)  # padding in space keeps channels, padding of channels shifts them
    padded = _aten.constant_pad_nd(known[0], [0] * space + args[1][space:], MIXED)
    return _pool(func, outputs, [padded], traced, args) if space else [padded]


def _pool(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    origins = known[0]
    space = tuple(range(2, origins.ndim))
    agreed = _agreed(origins.amin(space, keepdim=True), origins.amax(space, keepdim=True))
    return [agreed.expand(outputs[0].shape)]


def _reduce(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    dims = [args[1]] if isinstance(args[1], int) else list(args[1])
    keepdim = outputs[0].ndim == known[0].ndim
    return [_agreed(known[0].amin(dims, keepdim=keepdim), known[0].amax(dims, keepdim=keepdim))]


def _meet(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    shape = outputs[0].shape
    met = known[0].expand(shape)
    for other in known[1:]:
        met = _agreed(met, other.expand(shape))
    return [met]


def _mix(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    return [None] * len(outputs)


def _agreed(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first == second, first, MIXED)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
