"""Second derivatives along a direction, without forming what is not asked for.

While a network runs inside `Followed`, its bilinear layers y = B(x, w) + b become nodes of this module. The slope of the loss along a
direction v, s = dL(Theta + e v)/de at e = 0, enters each node as the extra output u = B(x, v_w) + b_v, for which no gradient by w is
needed; its own gradient is Hv. Of Hv, too, a table of filters needs only the inner products with the filters' weights, and these
are sums over what flows through the node:

    w_p^T (Hv)_p = <B(x, w), ds/dy> + <B(ds/dgx, w), gy>     at channel p,

with gy = dL/dy, gx = dL/dx. They take no convolution more, and come example by example, which standard errors are made of.
Per temperature that leaves five products a layer where Hv in full takes eight: B(x, v), gy by input at w and at v, B(ds/dgx, w), ds/dy by
input. Parameters that act elsewhere too have these contributions added by plain double backward; so the numbers are exact for any network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from pruneviz.measuring.bilinear import Call, bilinear_call

Named = Mapping[str, Tensor]
Phase = Literal["gradient", "slope", "curvature"]


class Followed(TorchFunctionMode):
    """Follows the bilinear layers of a network whose weights are among `parameters`; keep it entered while derivatives are formed.

    Args: `parameters` by name, the very tensors that the network is called with; `filters`, the weights [filters, ...] whose inner
    products with derivatives are gathered; `whole`, the parameters for which the curvature phase gives Hv in full.
    A layer's gradients are by its input, its weight and its bias in the phase "gradient"; in "slope" by its input and by `step`, the e
    above (a gradient whose value is left at 0, because only its own gradient is wanted); and in "curvature" by its input, and by its
    weight and bias if they are in `whole`.
    """

    def __init__(
        self, parameters: Named, *, filters: Collection[str] = (), whole: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self.filters, self.whole = filters, whole
        some = next(iter(parameters.values()))
        self.step = torch.zeros((), dtype=some.dtype, device=some.device, requires_grad=True)
        self.direction: Named = {}
        self.phase: Phase = "gradient"
        self.gather: Callable[[str, Tensor], None] | None = None
        self.bend: Tensor | None = None  # v^T H v so far, float64, if it is asked for

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (
            func in _RELUS
            and torch.is_grad_enabled()
            and not (kwargs or {}).get("inplace", len(args) > 1 and args[1])
        ):
            x = args[0] if args else kwargs["input"]
            return _Relu.apply(x) if _is_plain(x) else func(*args, **(kwargs or {}))
        call = bilinear_call(func, args, kwargs or {})
        name = self._names.get(id(call.weight)) if call else None
        if call is None or name is None or not torch.is_grad_enabled():
            return func(*args, **(kwargs or {}))
        bias_name = None if call.bias is None else self._names.get(id(call.bias))
        if call.bias is None or bias_name is not None:
            return _Layer.apply(
                call.x, call.weight, call.bias, self.step, _Node(self, call, name, bias_name)
            )
        # a bias that was computed takes part as what it is
        output = _Layer.apply(call.x, call.weight, None, self.step, _Node(self, call, name, None))
        return output + call.layer.per_channel(call.bias, output.ndim)


class _Node:
    """One application of a bilinear layer: its names, and what must outlive a backward pass."""

    def __init__(self, followed: Followed, call: Call, name: str, bias_name: str | None) -> None:
        self.followed, self.layer, self.name, self.bias_name = followed, call.layer, name, bias_name
        self.gathers, self.whole = (
            name in followed.filters,
            name in followed.whole or bias_name in followed.whole,
        )
        self.along: Tensor | None = None  # u

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """B(x, w) + b."""
        shift = self.layer.shift(weight, bias)
        if not self.gathers:
            return self._shifted(x, weight, shift)
        product = self.layer.product(x, weight)
        self._product, self._as_of = product.detach(), product._version
        return product if shift is None else product + self.layer.per_channel(shift, product.ndim)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """B(x, w): as it was computed, or anew where the network has overwritten it in place since, in a way that torch takes note of."""
        if self._product._version != self._as_of:
            self._product = self.layer.product(x, weight)
            self._as_of = self._product._version
        return self._product

    def along_direction(self, x: Tensor) -> Tensor:
        """u = B(x, v_w) + b_v."""
        v = self.followed.direction
        return self._shifted(
            x,
            v[self.name],
            self.layer.shift(v[self.name], None if self.bias_name is None else v[self.bias_name]),
        )

    def _shifted(self, x: Tensor, weight: Tensor, shift: Tensor | None) -> Tensor:
        if shift is None:
            return self.layer.product(x, weight)
        return self.layer.product_added(self.layer.per_channel(shift, x.ndim), x, weight)

    @property
    def is_heard(self) -> bool:
        """Whether somebody wants to hear of its filters at present."""
        return self.gathers and self.followed.gather is not None

    def gather(self, first: Tensor, second: Tensor) -> None:
        """Tell <first, second> of every example at every filter."""
        assert self.followed.gather
        self.followed.gather(self.name, _per_filter(first, second, self.layer.channel))


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, step: Tensor, node: _Node
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.node = node
        return node.output(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), node, gy, needs = (
            ctx.saved_tensors,
            ctx.node,
            gradients[0],
            ctx.needs_input_grad,
        )
        followed: Followed = node.followed
        if followed.phase == "slope":
            by_input, by_step = _Slope.apply(gy, x, weight, node, needs[0])
            return by_input, None, None, by_step, None
        if node.is_heard:
            node.gather(node.product(x, weight), gy)
        if followed.bend is not None and followed.phase == "curvature":
            followed.bend += _inner(node.along, gy)
            node.along = None
        wanted = followed.phase == "gradient" or node.whole
        return (
            *node.layer.gradients(
                gy, x, weight, (needs[0], wanted and needs[1], wanted and needs[2])
            ),
            None,
            None,
        )


class _Slope(torch.autograd.Function):
    """The gradients of a layer by its input and by the step along the direction; differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, node: _Node, by_input: bool
    ) -> tuple[Tensor | None, Tensor]:
        ctx.save_for_backward(gy, x, weight)
        ctx.set_materialize_grads(False)
        ctx.node = node
        return node.layer.by_input(gy, x, weight) if by_input else None, torch.zeros_like(
            node.followed.step
        )

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        (gy, x, weight), node, of_input = ctx.saved_tensors, ctx.node, along[0]
        layer, followed, needs = node.layer, node.followed, ctx.needs_input_grad
        u = node.along_direction(x)
        by_input = layer.by_input(gy, x, followed.direction[node.name]) if needs[1] else None
        if followed.bend is not None:
            node.along = u
            if of_input is not None and by_input is not None:
                followed.bend += _inner(of_input, by_input)
        if of_input is None:
            return u, by_input, None, None, None
        by_weight = layer.by_weight(gy, of_input, weight) if node.whole and needs[2] else None
        if not node.gathers:
            return layer.product_added(u, of_input, weight), by_input, by_weight, None, None
        carried = layer.product(of_input, weight)
        if node.is_heard:
            node.gather(carried, gy)
        return carried.add_(u), by_input, by_weight, None, None


class _Relu(torch.autograd.Function):
    """torch's own gives, when it is differentiated twice, a derivative by its input that is zero, and adds it up like any other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Masked.apply(gradients[0], *ctx.saved_tensors)


class _Masked(torch.autograd.Function):
    """A gradient where an activation is positive."""

    @staticmethod
    def forward(ctx: Any, gy: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return torch.ops.aten.threshold_backward(gy, y, 0)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor, None]:
        return torch.ops.aten.threshold_backward(along[0], *ctx.saved_tensors, 0), None


_RELUS = {F.relu, torch.relu, Tensor.relu}


def _is_plain(x: Tensor) -> bool:
    """Whether nothing else is asked of an activation than its gradient: no vmap, no forward mode, no type of its own."""
    alone = type(x) is Tensor and torch._C._functorch.maybe_current_level() is None
    return alone and x.requires_grad and forward_ad.unpack_dual(x).tangent is None


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of two tensors of one shape, without their product in memory where they are laid out alike."""
    if first.stride() == second.stride() and (first.is_contiguous() or _is_channels_last(first)):
        return torch.dot(
            *(tensor.as_strided((tensor.numel(),), (1,)) for tensor in (first, second))
        )
    return (first * second).sum()


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def _per_filter(first: Tensor, second: Tensor, channel: int) -> Tensor:
    """The inner products of two outputs [examples, ..., filters, ...] at every example and filter: [examples, filters]."""
    product = first * second
    return (
        product.sum([dim for dim in range(1, product.ndim) if dim != channel % product.ndim])
        if product.ndim > 2
        else product
    )
