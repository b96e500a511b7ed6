"""Functions of torch rewritten so that they can be differentiated twice, or faster.

torch has no second derivative of its kernels for hard activation functions; their formulas have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad


def rewritten(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """The same function with a second derivative; None if torch's own is used.

    Args:
        func: A function of torch.
    """
    return _REWRITTEN.get(func)


def follows(x: Tensor) -> bool:
    """Whether an activation is differentiated by backward passes alone.

    Not inside vmap or forward-mode derivatives, and not for subclasses of tensors.

    Args:
        x: Input of a layer.
    """
    alone = type(x) is Tensor and torch._C._functorch.maybe_current_level() is None
    return alone and forward_ad.unpack_dual(x).tangent is None


class _Relu(torch.autograd.Function):
    """A ReLU without second derivative; torch's own creates one of zeros and adds it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Masked.apply(gradients[0], *ctx.saved_tensors)


class _Masked(torch.autograd.Function):
    """Gradient of a ReLU: `gy` where the activation is positive, 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, gy: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return torch.ops.aten.threshold_backward(gy, y, 0)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor, None]:
        return torch.ops.aten.threshold_backward(along[0], *ctx.saved_tensors, 0), None


def _relu(func: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        in_place = kwargs.get("inplace", len(args) > 1 and args[1])
        x = args[0] if args else kwargs["input"]
        replaced = not in_place and x.requires_grad and follows(x)
        return _Relu.apply(x) if replaced else func(*args, **kwargs)

    return call


def _by_formula(formula: Callable[[Tensor], Tensor], *, overwrites: bool = False) -> Any:
    def call(input: Tensor, inplace: bool = False) -> Tensor:
        # a copy, because the formula keeps its input for the derivative
        return input.copy_(formula(input.clone())) if inplace or overwrites else formula(input)

    return call


def _hardsigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _hardswish(x: Tensor) -> Tensor:
    return x * _hardsigmoid(x)


_nn: Any = torch._C._nn
_REWRITTEN: Mapping[Any, Callable[..., Any]] = {
    **{func: _relu(func) for func in (F.relu, torch.relu, Tensor.relu)},
    F.hardsigmoid: _by_formula(_hardsigmoid),
    F.hardswish: _by_formula(_hardswish),
    _nn.hardsigmoid: _by_formula(_hardsigmoid),
    _nn.hardsigmoid_: _by_formula(_hardsigmoid, overwrites=True),
    _nn.hardswish: _by_formula(_hardswish),
    _nn.hardswish_: _by_formula(_hardswish, overwrites=True),
}
