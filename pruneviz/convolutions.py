"""Convolutions whose second derivative is made of convolutions: the same numbers as torch's own, without its loop over groups.

Torch differentiates the backward pass of a convolution twice with one convolution per group, of which a depthwise convolution has
as many as channels, and of weights with the roles of batch and channels exchanged. Each of the four terms is itself a
convolution, its gradient by the input or its gradient by the weight, which the library has fast kernels for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DIMS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_Geometry = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups


class TwiceDifferentiable(TorchFunctionMode):
    """While a network runs inside it, its convolutions have the second derivative of this module."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DIMS:
            return _convolution(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolution(
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    unbatched = input.ndim != weight.ndim
    if isinstance(padding, str) or unbatched or not torch.is_grad_enabled():
        return func(input, weight, bias, stride, padding, dilation, groups)
    per_dim = [[value] * _DIMS[func] if isinstance(value, int) else list(value) for value in (stride, padding, dilation)]
    output = _Convolution.apply(input, weight, (*(v * (_DIMS[func] // len(v)) for v in per_dim), groups))
    return output if bias is None else output + bias.view([-1] + [1] * _DIMS[func])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _convolved(x, weight, geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_input, by_weight = _Backward.apply(gradients[0], x, weight, ctx.geometry, ctx.needs_input_grad[:2])
        return by_input, by_weight, None


class _Backward(torch.autograd.Function):
    """The gradients of a convolution by its input and its weight, bilinear in (gradient, weight) and (gradient, input)."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, needed: Sequence[bool]) -> Any:
        ctx.save_for_backward(gradient, x, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _gradients(gradient, x, weight, geometry, needed)

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (gradient, x, weight), (of_input, of_weight) = ctx.saved_tensors, along
        terms = [_convolved(of_input, weight, ctx.geometry)] if of_input is not None else []
        terms += [_convolved(x, of_weight, ctx.geometry)] if of_weight is not None else []
        needs = ctx.needs_input_grad
        by_input = by_weight = None
        if of_weight is not None and needs[1]:
            by_input = _gradients(gradient, x, of_weight, ctx.geometry, (True, False))[0]
        if of_input is not None and needs[2]:
            by_weight = _gradients(gradient, of_input, weight, ctx.geometry, (False, True))[1]
        return sum(terms[1:], terms[0]) if terms and needs[0] else None, by_input, by_weight, None, None


def _convolved(x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    stride, padding, dilation, groups = geometry
    return torch.convolution(x, weight, None, stride, padding, dilation, False, [0] * len(stride), groups)


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, needed: Sequence[bool]) -> Any:
    stride, padding, dilation, groups = geometry
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, [0] * len(stride), groups, [*needed, False]
    )
    return found[:2]
