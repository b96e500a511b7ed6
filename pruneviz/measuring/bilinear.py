"""Layers that are bilinear in their input and their weight: y = B(x, w) + b, with b linear in the parameters.

Convolutions, linear layers and the scale of a batch norm in evaluation mode are of this kind. The derivatives of all of them are the
same three maps: B itself, its transpose by the input, and its transpose by the weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Wanted: TypeAlias = tuple[bool, bool, bool]  # by the input, by the weight, by the bias
Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Bilinear(ABC):
    """One application of such a layer; `channel` is the dimension of its output that counts the filters."""

    channel: int

    @abstractmethod
    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """B(x, w)."""

    @abstractmethod
    def by_input(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient of <along, B(x, w)> by x."""

    @abstractmethod
    def by_weight(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient of <along, B(x, w)> by w."""

    def product_added(self, to: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """B(x, w) and `to`, in one pass over memory where that can be."""
        return self.product(x, weight).add_(to)

    def shift(self, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """b, one number per channel."""
        return bias

    def per_channel(self, shift: Tensor, ndim: int) -> Tensor:
        """A number per channel, in a shape that goes with the output."""
        return shift.view([-1 if dim == self.channel % ndim else 1 for dim in range(ndim)])

    def total(self, along: Tensor) -> Tensor:
        """The sum over everything but the channels."""
        return along.sum([dim for dim in range(along.ndim) if dim != self.channel % along.ndim])

    def gradients(self, along: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """The gradients of <along, B(x, w) + b> by x, by w and by the bias, those that are wanted."""
        by_weight = self.by_weight(along, x, weight) if wanted[1] else None
        return (
            self.by_input(along, x, weight) if wanted[0] else None,
            by_weight,
            self.total(along) if wanted[2] else None,
        )


@dataclass(frozen=True)
class Convolution(Bilinear):
    """A convolution of any number of dimensions, padded with zeros."""

    geometry: tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution, without its bias."""
        stride, padding, dilation, groups = self.geometry
        return torch.convolution(
            x, weight, None, stride, padding, dilation, False, [0] * len(stride), groups
        )

    def by_input(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The transposed convolution of `along`; on a GPU, where it can be, as one with the filters mirrored, which is faster."""
        mirrored = self.mirrored(weight) if along.is_cuda else None
        if mirrored:
            return mirrored.product(
                along, weight.flip(*range(2, weight.ndim)).transpose(0, 1).contiguous()
            )
        return self._gradients(along, x, weight, [True, False, False])[0]

    def mirrored(self, weight: Tensor) -> Convolution | None:
        """The convolution with mirrored filters, inputs and outputs exchanged, that is the transpose of this one; None where none is."""
        stride, padding, dilation, groups = self.geometry
        padding = [
            step * (size - 1) - pad
            for step, size, pad in zip(dilation, weight.shape[2:], padding, strict=True)
        ]
        return (
            Convolution(1, (stride, padding, dilation, 1))
            if groups == 1 and set(stride) == {1} and min(padding) >= 0
            else None
        )

    def by_weight(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The correlation of `along` with the input."""
        return self._gradients(along, x, weight, [False, True, False])[1]

    def gradients(self, along: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """All of them, on a CPU those by input and weight in one call of the library."""
        if along.is_cuda or not (wanted[0] and wanted[1]):
            return super().gradients(along, x, weight, wanted)
        by_input, by_weight = self._gradients(along, x, weight, [True, True, False])[:2]
        return by_input, by_weight, self.total(along) if wanted[2] else None

    def _gradients(self, along: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> Any:
        stride, padding, dilation, groups = self.geometry
        none = [0] * len(stride)
        return torch.ops.aten.convolution_backward(
            along, x, weight, None, stride, padding, dilation, False, none, groups, mask
        )


@dataclass(frozen=True)
class Linear(Bilinear):
    """A linear layer, applied to the last dimension."""

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x w^T."""
        return x @ weight.T

    def by_input(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """`along` w."""
        return along @ weight

    def by_weight(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """`along`^T x, over all positions."""
        return along.flatten(0, -2).T @ x.flatten(0, -2)


@dataclass(frozen=True)
class Scale(Bilinear):
    """A batch norm in evaluation mode: w x / s + (b - w m / s), with the running mean m and variance s^2, to which it adds `eps`."""

    mean: Tensor
    variance: Tensor
    eps: float

    @cached_property
    def precision(self) -> Tensor:
        """1 / s."""
        return (self.variance + self.eps).rsqrt()

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """w x / s."""
        return x * self.per_channel(weight * self.precision, x.ndim)

    def product_added(self, to: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """w x / s and `to`."""
        return torch.addcmul(to, x, self.per_channel(weight * self.precision, x.ndim))

    def by_input(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """w `along` / s."""
        return self.product(along, weight)

    def by_weight(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The sum of x `along` / s."""
        return self.total(along * x) * self.precision

    def shift(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """b - w m / s."""
        middle = weight * self.mean * self.precision
        return -middle if bias is None else bias - middle

    def gradients(self, along: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Gradients:
        """All of them, those by weight and bias in one walk over memory where that can be; b counts as a function of w.

        Over a channel the walk sums in float32 what is laid out channels last: a relative error of some 1e-6.
        """
        # on a GPU the walk would leave a whole channel to one of many processors; empty activations it divides by
        alike = along.dtype == x.dtype == weight.dtype and along.device.type == "cpu" and x.numel()
        if not alike or not (wanted[1] or wanted[2]):
            return self.gradients_one_by_one(along, x, weight, wanted)
        statistics = self.mean, self.variance, None, None, False, self.eps
        return torch.ops.aten.native_batch_norm_backward(
            along, x, weight, *statistics, list(wanted)
        )

    def gradients_one_by_one(
        self, along: Tensor, x: Tensor, weight: Tensor, wanted: Wanted
    ) -> Gradients:
        """The same, each in walks of its own."""
        by_input, by_weight, total = super().gradients(
            along, x, weight, (wanted[0], wanted[1], wanted[1] or wanted[2])
        )
        if by_weight is not None and total is not None:
            by_weight = by_weight - total * self.mean * self.precision
        return by_input, by_weight, total if wanted[2] else None


@dataclass(frozen=True)
class Call:
    """What a torch function was called with, as a bilinear layer."""

    layer: Bilinear
    x: Tensor
    weight: Tensor
    bias: Tensor | None


def bilinear_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Call | None:
    """The call as one of a bilinear layer; None where it is none, or one that is left to torch, such as a batch norm in training mode."""
    read = _READERS.get(func)
    return read(*args, **kwargs) if read else None


def _read_convolution(dims: int) -> Callable[..., Call | None]:
    def read(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Call | None:
        if input.ndim != weight.ndim:  # a single example without a batch
            return None
        given = [[value] if isinstance(value, int) else list(value) for value in (stride, dilation)]
        stride, dilation = (values * (dims // len(values)) for values in given)
        if padding == "same":
            input, padding = _padded_to_same(input, weight, dilation)
        elif padding == "valid":
            padding = 0
        padding = (
            [padding] * dims if isinstance(padding, int) else list(padding) * (dims // len(padding))
        )
        if set(weight.shape[2:]) == {1} and not any(padding) and any(step > 1 for step in stride):
            # the same of the pixels that it does not skip; with a stride oneDNN crashes on some odd batches laid out channels last
            for dim, step in enumerate(stride, start=2):
                input = input.index_select(
                    dim, torch.arange(0, input.shape[dim], step, device=input.device)
                )
            stride = [1] * dims
        return Call(Convolution(1, (stride, padding, dilation, groups)), input, weight, bias)

    return read


def _padded_to_same(input: Tensor, weight: Tensor, dilation: list[int]) -> tuple[Tensor, list[int]]:
    """The padding on both sides that keeps the size; where it is uneven the input is given what the right side has more."""
    total = [d * (size - 1) for d, size in zip(dilation, weight.shape[2:], strict=True)]
    if any(both % 2 for both in total):
        input = F.pad(input, [side for both in reversed(total) for side in (0, both % 2)])
    return input, [both // 2 for both in total]


def _read_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call | None:
    return Call(Linear(-1), input, weight, bias) if input.ndim > 1 and weight.ndim == 2 else None


def _read_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    if training or weight is None or running_mean is None or running_var is None:
        return None
    return Call(Scale(1, running_mean.clone(), running_var.clone(), eps), input, weight, bias)


_READERS: Mapping[Any, Callable[..., Call | None]] = {
    torch.conv1d: _read_convolution(1),
    torch.conv2d: _read_convolution(2),
    torch.conv3d: _read_convolution(3),
    F.linear: _read_linear,
    F.batch_norm: _read_batch_norm,
}
