"""Casts inside a network, and inside a loss, that would lower the precision of a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CASTS = {
    Tensor.float: torch.float32,
    Tensor.half: torch.float16,
    Tensor.bfloat16: torch.bfloat16,
}
# losses whose class weights need the dtype of their input
_WITH_WEIGHTS = {
    F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits,
    F.multi_margin_loss, F.multilabel_soft_margin_loss,
}  # fmt: skip


@contextmanager
def no_lower_precision(dtype: torch.dtype) -> Iterator[None]:
    """Context in which a network's own casts never go below the measuring dtype.

    `.float()`, `.half()`, `.to(dtype)` and arguments `dtype=` with a narrower floating-point type
    give `dtype`; casts to a wider one, to integers or to another device are as written. So a head
    that calls `.float()` works with dtype=torch.float64, and a bfloat16 network is measured in
    float32 throughout.

    Args:
        dtype: The measuring dtype.
    """
    with _Casts(dtype):
        yield


class _Casts(TorchFunctionMode):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CASTS:
            return args[0].to(self._raised(_CASTS[func]), **kwargs)
        if func in (Tensor.to, Tensor.type):
            args = tuple(self._raised(_dtype_of(arg)) for arg in args)
        if func in _WITH_WEIGHTS:
            return func(*map(self._as_wide, args), **_mapped(self._as_wide, kwargs))
        if isinstance(kwargs.get("dtype"), torch.dtype):
            kwargs = {**kwargs, "dtype": self._raised(kwargs["dtype"])}
        return func(*args, **kwargs)

    def _raised(self, given: Any) -> Any:
        """A floating-point dtype, raised to the measuring one; anything else unchanged."""
        if isinstance(given, torch.dtype) and given.is_floating_point:
            return torch.promote_types(given, self._dtype)
        return given

    def _as_wide(self, given: Any) -> Any:
        if isinstance(given, Tensor) and given.is_floating_point():
            return given.to(self._raised(given.dtype))
        return given


def _mapped(change: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {name: change(value) for name, value in values.items()}


_TYPE_NAMES = {
    f"torch{where}.{name}Tensor": dtype
    for where in ("", ".cuda")
    for name, dtype in {
        "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    }.items()
}  # fmt: skip


def _dtype_of(given: Any) -> Any:
    """The dtype that a name of a tensor type stands for; anything else unchanged."""
    return _TYPE_NAMES.get(given, given) if isinstance(given, str) else given
