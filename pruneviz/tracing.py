"""Where each channel of an activation comes from, found by following one forward pass through the network.

Every activation carries a tensor of the same shape with the number of the filter that produced each of its elements, or
`MIXED` where more than one did. Operations that only move elements (view, permute, cat, slice, ...) are applied to these
numbers as they are; elementwise operations keep them; where two activations meet in a sum or a product, only elements with
one common origin keep it; pooling keeps channels. Whatever is not known mixes. So no assumption on how the network is
written or in which order its modules were registered enters.
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
    _aten.view, _aten._unsafe_view, _aten.reshape, _aten.permute, _aten.transpose, _aten.t, _aten.slice, _aten.select,
    _aten.split, _aten.split_with_sizes, _aten.chunk, _aten.unbind, _aten.cat, _aten.stack, _aten.squeeze, _aten.unsqueeze,
    _aten.expand, _aten.flip, _aten.roll, _aten.narrow, _aten.index_select, _aten.repeat, _aten.channel_shuffle,
    _aten.pixel_shuffle, _aten.native_channel_shuffle,
}  # fmt: skip
_COPIES = {_aten.clone, _aten.detach, _aten.alias, _aten.lift_fresh, _aten._to_copy, _aten.contiguous, _aten.native_dropout}
_POOLS = {
    _aten.max_pool2d_with_indices, _aten.avg_pool2d, _aten._adaptive_avg_pool2d, _aten.adaptive_max_pool2d,
    _aten.max_pool2d, _aten.adaptive_avg_pool2d, _aten.upsample_nearest2d, _aten.upsample_bilinear2d, _aten.adaptive_avg_pool1d,
    _aten.avg_pool1d, _aten.max_pool1d_with_indices, _aten.constant_pad_nd,
}  # fmt: skip
_REDUCTIONS = {_aten.mean, _aten.amax, _aten.amin, _aten.sum}
_SOFTMAXES = {_aten._log_softmax, _aten._softmax}


class ChannelTracer(TorchDispatchMode):
    """Follows which filter each element of every activation comes from, while one forward pass runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[tuple[Any, ...], Tensor] = {}
        self._alive: list[Tensor] = []  # a freed activation's address would be given to the next one

    def mark(self, tensor: Tensor, origins: Tensor) -> None:
        """State the origins of an activation: int64 of the same shape."""
        self._origins[_address(tensor)] = origins
        self._alive.append(tensor)

    def origins(self, tensor: Tensor) -> Tensor | None:
        """The origins of an activation; None for constants and parameters."""
        return self._origins.get(_address(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # origins are read before the call: an operation in place writes over its input
        known = [o for o in (self.origins(t) for t in _tensors((args, kwargs))) if o is not None]
        traced = (tree_map(self._origins_or_self, args), tree_map(self._origins_or_self, kwargs)) if known else None
        result = func(*args, **kwargs)
        if traced is not None:
            self._mark_results(func, result, known, traced, args)
        return result

    def _origins_or_self(self, value: Any) -> Any:
        origins = self.origins(value) if isinstance(value, Tensor) else None
        return value if origins is None else origins

    def _mark_results(self, func: Any, result: Any, known: list[Tensor], traced: tuple[Any, Any], args: Any) -> None:
        rule = _rule(func)
        outputs = _tensors(result)
        try:
            origins = rule(func, outputs, known, traced, args)
        except (RuntimeError, IndexError, TypeError, NotImplementedError):
            origins = [None] * len(outputs)
        for output, origin in zip(outputs, origins, strict=False):
            fits = origin is not None and origin.shape == output.shape
            self.mark(output, origin if fits else torch.full(output.shape, MIXED))  # type: ignore[arg-type]


def channel_origins(origins: Tensor, dim: int) -> Tensor:
    """The one origin of each channel along `dim`, `MIXED` where its elements have several: int64 [channels]."""
    flat = origins.movedim(dim, 0).flatten(1)
    return _agreed(flat.amin(1), flat.amax(1)) if flat.shape[1] else torch.full(flat.shape[:1], MIXED)


def _rule(func: Any) -> Callable[..., list[Tensor | None]]:
    packet = func.overloadpacket
    if packet in _MOVES:
        return _move
    if packet in _COPIES or packet in _SOFTMAXES:
        return _copy
    if packet in _POOLS:
        return _pool
    if packet in _REDUCTIONS:
        return _reduce
    return _meet if torch.Tag.pointwise in func.tags else _mix


def _move(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    moved_args, moved_kwargs = traced
    if func.overloadpacket in (_aten.cat, _aten.stack):  # constants among the parts have no origin
        parts = [part if part.dtype == torch.int64 else torch.full(part.shape, MIXED) for part in moved_args[0]]
        moved_args = (parts, *moved_args[1:])
    return list(_tensors(func(*moved_args, **moved_kwargs)))


def _copy(func: Any, outputs: list[Tensor], known: list[Tensor], traced: tuple[Any, Any], args: Any) -> list[Tensor | None]:
    return [known[0]]


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


def _address(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
