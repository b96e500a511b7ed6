"""Forward passes in one floating-point dtype, whatever casts a network makes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneviz.errors import MeasureError

_CASTS = {
    Tensor.half: torch.float16,
    Tensor.bfloat16: torch.bfloat16,
    Tensor.float: torch.float32,
    Tensor.double: torch.float64,
}
_TWO_DTYPES = ("same dtype", "expected scalar type", "should be the same", "have the same type")
_ADVICE = "but forward=, the loss or the network holds tensors or layers that are not among its own"
_TO = {Tensor.to, Tensor.type}
# losses whose class weights must have the dtype of their input
_WITH_WEIGHTS = {
    F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits,
    F.multi_margin_loss, F.multilabel_soft_margin_loss,
}  # fmt: skip

# Settings of torch are those of the process, so threads that change and restore them take turns.
SETTINGS = threading.RLock()


@contextmanager
def in_one_dtype(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Context in which casts to a narrower dtype than that of the tensors in `state` do nothing.

    A network, or a loss, may cast to a precision of its own, as a `.float()` head does; with
    parameters in another dtype this rounds, or fails. New tensors get the same dtype. No-op if the
    tensors have several dtypes.

    Args:
        state: Parameters and buffers by name.
    """
    dtypes = {t.dtype for t in state.values() if t.is_floating_point()}
    if len(dtypes) != 1:
        yield
        return
    with SETTINGS:
        dtype, default = dtypes.pop(), torch.get_default_dtype()
        if _bits(dtype) > _bits(default):
            torch.set_default_dtype(dtype)
        try:
            with _OneDtype(dtype):
                yield
        finally:
            torch.set_default_dtype(default)


@contextmanager
def dtypes_explained(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Context of calls that names why tensors of several dtypes meet.

    Args:
        state: Parameters by name, in the dtype of the computation.

    Raises:
        MeasureError: If an operation needs one dtype and got two.
    """
    try:
        yield
    except (MeasureError, RuntimeError) as error:
        dtypes = sorted({str(t.dtype) for t in state.values()})
        if not any(text in str(error) for text in _TWO_DTYPES) or _ADVICE in str(error):
            raise
        raise MeasureError(
            f"{error}. The network is measured in {', '.join(dtypes)}, {_ADVICE}; register "
            "them as submodules or buffers of the network, convert both, such as by "
            "teacher.double() and copy.deepcopy(model).double(), or leave out dtype="
        ) from error


class _OneDtype(TorchFunctionMode):
    """Replaces narrower floating-point dtypes in all calls."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CASTS and not args[0].is_complex():
            return args[0].to(self._widened(_CASTS[func]))
        if func in _TO:
            args = tuple(self._widened(value) for value in args)
        if func in _WITH_WEIGHTS:
            args = tuple(map(self._converted, args))
            kwargs = {name: self._converted(value) for name, value in kwargs.items()}
        if "dtype" in kwargs:
            kwargs = {**kwargs, "dtype": self._widened(kwargs["dtype"])}
        return func(*args, **kwargs)

    def _converted(self, value: Any) -> Any:
        """A tensor of a narrower dtype in the one dtype; any other value unchanged."""
        narrow = isinstance(value, Tensor) and self._widened(value.dtype) is not value.dtype
        return value.to(self._dtype) if narrow else value

    def _widened(self, value: Any) -> Any:
        """The one dtype in place of a narrower one; any other value unchanged."""
        if not isinstance(value, torch.dtype) or not value.is_floating_point:
            return value
        return self._dtype if _bits(value) < _bits(self._dtype) else value


def _bits(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits
