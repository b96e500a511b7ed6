"""Layers that are bilinear in their input and their weight.

Convolutions, linear layers and batch norms in evaluation mode compute y = B(x, w) + b, with b
linear in the parameters. All their derivatives are made from three maps: B, its transpose with
respect to the input, and its transpose with respect to the weight.
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

GradientMask: TypeAlias = tuple[bool, bool, bool]  # with respect to input, weight, bias
Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Bilinear(ABC):
    """One application of a bilinear layer."""

    channel: int  # dimension of the output that counts the filters

    @abstractmethod
    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """B(x, w)."""

    @abstractmethod
    def by_input(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient of <along, B(x, w)> with respect to x."""

    @abstractmethod
    def by_weight(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient of <along, B(x, w)> with respect to w."""

    def product_added(self, to: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """B(x, w) + `to`, in one pass over memory where possible."""
        return self.product(x, weight).add_(to)

    def shift(self, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """b [channels]; None if there is none."""
        return bias

    def per_channel(self, shift: Tensor, ndim: int) -> Tensor:
        """Reshape a shift [channels] to broadcast over an output with `ndim` dimensions."""
        return shift.view([-1 if dim == self.channel % ndim else 1 for dim in range(ndim)])

    def total(self, along: Tensor) -> Tensor:
        """The sum over all dimensions except the channels."""
        return along.sum([dim for dim in range(along.ndim) if dim != self.channel % along.ndim])

    def gradients(self, along: Tensor, x: Tensor, weight: Tensor, mask: GradientMask) -> Gradients:
        """The gradients of <along, B(x, w) + b> with respect to x, w and bias, if in `mask`."""
        by_weight = self.by_weight(along, x, weight) if mask[1] else None
        return (
            self.by_input(along, x, weight) if mask[0] else None,
            by_weight,
            self.total(along) if mask[2] else None,
        )


@dataclass(frozen=True)
class Convolution(Bilinear):
    """A convolution in any number of dimensions, padded with zeros."""

    geometry: tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution, without its bias."""
        stride, padding, dilation, groups = self.geometry
        return torch.convolution(
            x, weight, None, stride, padding, dilation, False, [0] * len(stride), groups
        )

    def by_input(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The transposed convolution of `along`.

        On a GPU it runs as a convolution with mirrored filters if possible, which is faster.
        """
        mirrored = self.mirrored(weight) if along.is_cuda else None
        if mirrored:
            turned = weight.flip(*range(2, weight.ndim)).transpose(0, 1).contiguous()
            return mirrored.product(along, turned)
        return self._gradients(along, x, weight, [True, False, False])[0]

    def mirrored(self, weight: Tensor) -> Convolution | None:
        """The transpose of this convolution as a convolution; None if there is none.

        Its filters are mirrored, with inputs and outputs swapped.
        """
        stride, padding, dilation, groups = self.geometry
        padding = [
            step * (size - 1) - pad
            for step, size, pad in zip(dilation, weight.shape[2:], padding, strict=True)
        ]
        if groups != 1 or set(stride) != {1} or min(padding) < 0:
            return None
        return Convolution(1, (stride, padding, dilation, 1))

    def by_weight(self, along: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The correlation of `along` with the input."""
        return self._gradients(along, x, weight, [False, True, False])[1]

    def gradients(self, along: Tensor, x: Tensor, weight: Tensor, mask: GradientMask) -> Gradients:
        """All gradients; on a CPU, input and weight gradients in one library call."""
        if along.is_cuda or not (mask[0] and mask[1]):
            return super().gradients(along, x, weight, mask)
        by_input, by_weight = self._gradients(along, x, weight, [True, True, False])[:2]
        return by_input, by_weight, self.total(along) if mask[2] else None

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


@dataclass(frozen=True, repr=False)
class FrozenBatchNorm(Bilinear):
    """A batch norm in evaluation mode: w x / s + (b - w m / s).

    m is the running mean, and s^2 the running variance plus `eps`.
    """

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
        """w x / s + `to`."""
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

    def gradients(self, along: Tensor, x: Tensor, weight: Tensor, mask: GradientMask) -> Gradients:
        """All gradients; weight and bias gradients in one pass over memory if possible.

        b counts as a function of w. In channels-last layout the pass sums in float32, with a
        relative error of about 1e-6.
        """
        # a GPU would sum a whole channel on one processor; empty inputs would divide by zero
        alike = along.dtype == x.dtype == weight.dtype and along.device.type == "cpu" and x.numel()
        if not alike or not (mask[1] or mask[2]):
            return self.gradients_one_by_one(along, x, weight, mask)
        statistics = self.mean, self.variance, None, None, False, self.eps
        return torch.ops.aten.native_batch_norm_backward(along, x, weight, *statistics, list(mask))

    def gradients_one_by_one(
        self, along: Tensor, x: Tensor, weight: Tensor, mask: GradientMask
    ) -> Gradients:
        """The same gradients, each in its own pass over memory."""
        with_total = (mask[0], mask[1], mask[1] or mask[2])
        by_input, by_weight, total = super().gradients(along, x, weight, with_total)
        if by_weight is not None and total is not None:
            by_weight = by_weight - total * self.mean * self.precision
        return by_input, by_weight, total if mask[2] else None


@dataclass(frozen=True, repr=False)
class Call:
    """A torch function call as a bilinear layer with its arguments."""

    layer: Bilinear
    x: Tensor
    weight: Tensor
    bias: Tensor | None


def bilinear_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Call | None:
    """Read a torch function call as the call of a bilinear layer.

    Returns:
        None if the function is not bilinear or left to torch, such as a batch norm in training
        mode.
    """
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
        stride, dilation = _per_dimension(stride, dims), _per_dimension(dilation, dims)
        if padding == "same":
            input, padding = _padded_to_same(input, weight, dilation)
        elif padding == "valid":
            padding = 0
        padding = _per_dimension(padding, dims)
        if set(weight.shape[2:]) == {1} and not any(padding) and any(step > 1 for step in stride):
            # The same on the pixels that are not skipped: with a stride, oneDNN crashes on some odd
            # batches in channels last.
            for dim, step in enumerate(stride, start=2):
                used = torch.arange(0, input.shape[dim], step, device=input.device)
                input = input.index_select(dim, used)
            stride = [1] * dims
        return Call(Convolution(1, (stride, padding, dilation, groups)), input, weight, bias)

    return read


def _per_dimension(value: Any, dims: int) -> list[int]:
    """An option of a convolution as one number per dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * (dims // len(values))


def _padded_to_same(input: Tensor, weight: Tensor, dilation: list[int]) -> tuple[Tensor, list[int]]:
    """The symmetric padding that keeps the size, and the input to apply it to.

    If the sides differ, the input is first padded by the surplus on the right.
    """
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
    norm = FrozenBatchNorm(1, running_mean.clone(), running_var.clone(), eps)
    return Call(norm, input, weight, bias)


_READERS: Mapping[Any, Callable[..., Call | None]] = {
    torch.conv1d: _read_convolution(1),
    torch.conv2d: _read_convolution(2),
    torch.conv3d: _read_convolution(3),
    F.linear: _read_linear,
    F.batch_norm: _read_batch_norm,
}
