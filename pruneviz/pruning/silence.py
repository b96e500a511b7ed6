"""Tracer of a forward pass in which all filters give zero: what is left, and what reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruneviz.model.sample import tensors_in
from pruneviz.model.tracing import CONSTANTS, MIXED, ChannelTracer, is_elementwise, is_single

_aten = torch.ops.aten
# elementwise operations in which a zero operand is an absent one
_SUMS = {
    _aten.add, _aten.add_, _aten.sub, _aten.sub_, _aten.rsub, _aten.where, _aten.masked_fill,
    _aten.masked_fill_, _aten.copy_,
}  # fmt: skip
_PRODUCTS = {_aten.mul, _aten.mul_}
_QUOTIENTS = {_aten.div, _aten.div_}
_CHOICES = {_aten.where, _aten.masked_fill, _aten.masked_fill_}
# operations that read positions from an integer or boolean operand
_INDEXED = {
    _aten.index, _aten.index_select, _aten.gather, _aten.take, _aten.masked_select, _aten.scatter,
    _aten.scatter_, _aten.scatter_add, _aten.scatter_add_, _aten.index_put, _aten.index_put_,
    _aten.index_add, _aten.index_add_, _aten.index_copy, _aten.index_copy_, _aten.embedding,
    _aten.one_hot,
}  # fmt: skip
_FOLLOWED = {_aten.native_batch_norm, _aten._native_batch_norm_legit_no_training}
# other operations in which zero is absence: linear maps, sums, Euclidean norms, rearrangements
_LINEAR = {
    _aten.convolution, _aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.mv, _aten.addmv,
    _aten.mean, _aten.dot, _aten.linear, _aten.matmul, _aten._trilinear, _aten.sum, _aten.cumsum,
    _aten.linalg_vector_norm, _aten._scaled_dot_product_flash_attention_for_cpu,
    _aten._scaled_dot_product_efficient_attention, _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_attention_math,
    _aten.im2col, _aten.col2im, _aten.grid_sampler_2d, _aten.grid_sampler_3d, _aten.gather,
    _aten.scatter, _aten.scatter_, _aten.scatter_add, _aten.scatter_add_, _aten.index_put,
    _aten.index_put_, _aten.index_add, _aten.index_add_, _aten.index_copy, _aten._fft_r2c,
    _aten._fft_c2c, _aten._fft_c2r, _aten.lstm, _aten.gru, _aten.rnn_tanh, _aten.rnn_relu,
    _aten.mkldnn_rnn_layer, _aten.copy_, _aten.expand, _aten.slice_scatter, _aten.select_scatter,
    _aten.any,
}  # fmt: skip
Reason = tuple[str, str]  # text with {layer} and {operation}, and the operation


class Silence(ChannelTracer):
    """Follows filters that all give zero, and notes where this is not absence.

    Attributes:
        inside: Depth of calls of modules with rules of their own; what happens there is theirs.
        left: {origin: reason}, for filters that leave another value than zero with others.
        unknown: {origin: reason}, for filters in operations in which zero is not absence.
        gates: {origin that leaves a constant factor: origins that it multiplies}.
        scaled: (origin, parameter) for parameters with an entry for each channel.
    """

    LEFT: ClassVar[Reason] = (
        "a pruned filter of {layer} would leave a constant in {operation}, where others are alive",
        "",
    )
    _UNKNOWN = "zeros of {layer} are not as good as absent in {operation}, which reads its filters"

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.left: dict[int, Reason] = {}
        self.unknown: dict[int, Reason] = {}
        self.gates: dict[int, set[int]] = {}
        self.scaled: set[tuple[int, str]] = set()
        self._parameters: dict[int, str] = {}

    def begin(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin a pass in which a network has these parameters and buffers."""
        self.inside = 0
        self._parameters = {t.untyped_storage().data_ptr(): name for name, t in tensors.items()}
        self._kept_alive = tensors

    def unions(self) -> Iterator[int]:
        """Origins of all sets of several filters."""
        yield from self._numbers.values()

    def known(self, tensor: Tensor) -> list[int]:
        """The known origins of the elements of an activation."""
        with torch.utils._python_dispatch._disable_current_modes():
            origins = self.origins(tensor)
            found = [] if origins is None else origins.unique().tolist()
        return [origin for origin in found if origin != MIXED]

    def leave(self, origins: Tensor, operation: str) -> None:
        """Note filters that leave a constant in an operation."""
        for origin in origins.unique().tolist():
            self.left.setdefault(origin, (self.LEFT[0], operation))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = tensors_in((args, kwargs or {}))
        followed = [(t, o) for t in tensors if (o := self.origins(t)) is not None]
        if followed and not self.inside and is_elementwise(func.overloadpacket):
            self._note_scales(tensors, followed)
            self._note_meeting(func.overloadpacket, followed)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if followed and not self.inside and not func.is_view:
            self._note_mixing(func, followed, result)
        return result

    def _note_scales(self, tensors: list[Tensor], followed: list[tuple[Tensor, Tensor]]) -> None:
        for tensor in tensors:
            name = self._parameters.get(tensor.untyped_storage().data_ptr())
            if name is None or tensor.numel() == 1:
                continue
            for _, origins in followed:
                self.scaled |= {(o, name) for o in origins.unique().tolist() if o != MIXED}

    def _note_meeting(self, packet: Any, followed: list[tuple[Tensor, Tensor]]) -> None:
        """Note what meets different filters element by element."""
        shape = torch.broadcast_shapes(*(t.shape for t, _ in followed))
        # single numbers on the CPU join any other device
        device = next((t.device for t, _ in followed if t.ndim), torch.device("cpu"))
        spread = [(t.expand(shape).to(device), o.expand(shape).to(device)) for t, o in followed]
        for i, (values, origins) in enumerate(spread):
            for j, (_, others) in enumerate(spread):
                meets = (origins != others) & (origins != MIXED)
                if i != j and meets.any():
                    self._note_operand(packet, i, values, origins, others, meets)

    def _note_operand(
        self, packet: Any, i: int, values: Tensor, origins: Tensor, others: Tensor, meets: Tensor
    ) -> None:
        left = meets & (values != 0) & ~values.isnan()
        if packet in _CHOICES and values.dtype == torch.bool:
            self._note_unknown(packet, origins[meets])  # an absent filter chooses nothing
        elif packet in _SUMS or (packet in _QUOTIENTS and i == 0):
            self.leave(origins[left], f"the operation {_named(packet)}")
        elif packet in _PRODUCTS:
            codes = (origins[left].long() << 32) + (others[left] - MIXED)  # unique pairs are slow
            for code in codes.unique().tolist():
                self.gates.setdefault(code >> 32, set()).add((code & 0xFFFFFFFF) + MIXED)
        else:
            self._note_unknown(packet, origins[meets])

    def _note_mixing(self, func: Any, followed: list[tuple[Tensor, Tensor]], result: Any) -> None:
        """Note what an operation reads whose results cannot be followed."""
        packet = func.overloadpacket
        if packet in _INDEXED:
            for values, origins in followed:
                if not (values.is_floating_point() or values.is_complex()):
                    self._note_unknown(packet, origins)
        outputs = tensors_in(result)
        if is_elementwise(packet) or packet in _FOLLOWED or packet in CONSTANTS or not outputs:
            return
        if any(self.known(output) for output in outputs):
            return
        for values, origins in followed:
            if packet in _LINEAR:
                self.leave(origins[(origins != MIXED) & (values != 0)], _named(packet))
            else:
                self._note_unknown(packet, origins[origins != MIXED])

    def _note_unknown(self, packet: Any, origins: Tensor) -> None:
        # A channel of several filters, such as a residual stream, stays if one of them is pruned.
        for origin in filter(is_single, origins.unique().tolist()):
            self.unknown.setdefault(origin, (self._UNKNOWN, f"the operation {_named(packet)}"))


def _named(packet: Any) -> str:
    return str(packet.__name__).strip("_").removeprefix("native_")
