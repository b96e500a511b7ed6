"""Second derivatives along a direction, forming only what is needed.

Inside `Followed`, the bilinear layers y = B(x, w) + b of a network become nodes of this module. The
slope of the loss along a direction v, s = dL(Theta + e v)/de at e = 0, enters each node as the
extra output u = B(x, v_w) + b_v, which needs no gradient with respect to w; the gradient of s is
Hv. A table of filters needs only the inner products of Hv with the filters' weights, which are sums
over tensors that flow through the node:

    w_p^T (Hv)_p = <B(x, w), ds/dy> + <B(ds/dgx, w), gy>     at channel p,

with gy = dL/dy and gx = dL/dx. They need no further convolution and are summed example by example,
which also gives the standard errors. Per temperature this takes five products per layer, where full
Hv takes eight: B(x, v), input gradients of gy at w and at v, B(ds/dgx, w), input gradient of ds/dy.
If a parameter is also used elsewhere, plain double backward adds that contribution, so the numbers
are exact for any network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneviz.measuring.bilinear import Call, bilinear_call
from pruneviz.measuring.objective import NamedTensors
from pruneviz.measuring.rewritten import follows, rewritten
from pruneviz.measuring.swapped import swapped

Phase = Literal["gradient", "slope", "curvature"]
Gather: TypeAlias = Callable[[str, Tensor], None]  # (weight, terms [examples, filters])


@dataclass(frozen=True, repr=False)
class _Pass:
    """State of one backward pass through the followed layers.

    In the phase "gradient", layers compute gradients with respect to input, weight and bias; in
    "slope", input and `Followed.step` (whose value stays 0, since only its gradient is needed); in
    "curvature", input and the weights and biases in `Followed.whole`.
    """

    phase: Phase = "gradient"
    direction: NamedTensors = field(default_factory=dict)
    gather: Gather | None = None
    bend: Tensor | None = None  # v^T H v so far, float64
    forms_whole: bool = True  # whether H v of `Followed.whole` is formed


_OUTSIDE = _Pass()  # a network that differentiates itself gets plain gradients


class Followed(TorchFunctionMode):
    """Follows the bilinear layers of a network, and differentiates it in three phases.

    Run the network inside the context. Then call `gradient`, or `slope` and then `curvature` on the
    returned slope.

    Args:
        parameters: The exact tensors with which the network is called, by name.
        filters: Weights [filters, ...] whose inner products with a derivative are gathered.
        whole: Parameters for which H v is formed in full.
    """

    def __init__(
        self,
        parameters: NamedTensors,
        *,
        filters: Collection[str] = (),
        whole: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.parameters, self.filters, self.whole = parameters, filters, whole
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        some = next(iter(parameters.values()))
        self.step = torch.zeros((), dtype=some.dtype, device=some.device, requires_grad=True)
        self.current = _OUTSIDE

    def gradient(
        self, loss: Tensor, *, gather: Gather | None = None, retain_graph: bool = False
    ) -> NamedTensors:
        """Gradient of a loss with respect to every parameter; zero if unused.

        Args:
            loss: Computed inside the context.
            gather: Receives <w_p, g_p> of every filter in `filters`, example by example.
            retain_graph: Whether another derivative of the same forward pass follows.
        """
        with self.passing(_Pass("gradient", gather=gather)):
            parts = torch.autograd.grad(
                loss,
                list(self.parameters.values()),
                retain_graph=retain_graph,
                materialize_grads=True,
            )
        return dict(zip(self.parameters, parts, strict=True))

    def slope(self, loss: Tensor, direction: NamedTensors) -> Slope:
        """Slope of a loss along a direction, to be differentiated once more.

        Args:
            loss: Computed inside the context.
            direction: v, a tensor for every parameter.
        """
        with self.passing(_Pass("slope")):
            by_step, *by_parameter = torch.autograd.grad(
                loss,
                [self.step, *self.parameters.values()],
                create_graph=True,
                allow_unused=True,
            )
        # gradients of parameters that are used outside followed layers
        others = zip(self.parameters, by_parameter, strict=True)
        terms = [(g * direction[name]).sum() for name, g in others if g is not None]
        if by_step is not None:
            terms.append(by_step)
        value = torch.stack(terms).sum() if terms else self.step.detach()
        return Slope(self, value, direction)

    @contextmanager
    def passing(self, new: _Pass) -> Iterator[None]:
        """Context in which followed layers compute the gradients of a pass."""
        if self.current is not _OUTSIDE:
            raise RuntimeError(f"the {self.current.phase} phase is active; wait for its end")
        self.current = new
        try:
            yield
        finally:
            self.current = _OUTSIDE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        replacement = rewritten(func)
        if replacement is not None:
            return replacement(*args, **kwargs)
        call = bilinear_call(func, args, kwargs)
        name = self._names.get(id(call.weight)) if call else None
        if call is None or name is None or not follows(call.x):
            return func(*args, **kwargs)
        bias_name = None if call.bias is None else self._names.get(id(call.bias))
        node = _Node(self, call, name, bias_name)
        if call.bias is None or bias_name is not None:
            return _Layer.apply(call.x, call.weight, call.bias, self.step, node)
        # a computed bias is added as an ordinary tensor
        output = _Layer.apply(call.x, call.weight, None, self.step, node)
        return output + call.layer.per_channel(call.bias, output.ndim)


class Slope:
    """Slope of a loss along a direction v; its gradient is H v. Can be differentiated once."""

    def __init__(self, followed: Followed, value: Tensor, direction: NamedTensors) -> None:
        self._followed, self._direction = followed, direction
        self._value: Tensor | None = value

    def curvature(
        self,
        *,
        gather: Gather | None = None,
        bend: Tensor | None = None,
        retain_graph: bool = False,
        forms_whole: bool = True,
    ) -> NamedTensors:
        """H v without the gathered contributions.

        Args:
            gather: Receives <w_p, (Hv)_p> of every filter in `filters`, example by example.
            bend: Float64 number to which the followed layers add their part of v^T H v.
            retain_graph: Whether another derivative of the same forward pass follows.
            forms_whole: Whether H v of the parameters in `Followed.whole` is formed in full.

        Returns:
            {parameter: tensor}, without unused parameters.
        """
        followed, value = self._followed, self._value
        if value is None:
            raise RuntimeError("this slope was already differentiated; form a new one with slope()")
        self._value = None
        if not value.requires_grad:
            return {}
        parameters = followed.parameters
        now = _Pass("curvature", self._direction, gather, bend, forms_whole)
        with followed.passing(now):
            parts = torch.autograd.grad(
                value, list(parameters.values()), retain_graph=retain_graph, allow_unused=True
            )
        return {name: d for name, d in zip(parameters, parts, strict=True) if d is not None}


class _Node:
    """One call of a bilinear layer: its names, and tensors that must outlive a backward pass."""

    def __init__(self, followed: Followed, call: Call, name: str, bias_name: str | None) -> None:
        self.followed, self.layer, self.name, self.bias_name = followed, call.layer, name, bias_name
        self.gathers = name in followed.filters
        self._is_whole = name in followed.whole or bias_name in followed.whole
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
        """B(x, w), recomputed if the network has overwritten it in place."""
        if self._product._version != self._as_of:
            self._product = self.layer.product(x, weight)
            self._as_of = self._product._version
        return self._product

    def along_direction(self, x: Tensor) -> Tensor:
        """u = B(x, v_w) + b_v."""
        v = self.followed.current.direction
        bias = None if self.bias_name is None else v[self.bias_name]
        return self._shifted(x, v[self.name], self.layer.shift(v[self.name], bias))

    def _shifted(self, x: Tensor, weight: Tensor, shift: Tensor | None) -> Tensor:
        if shift is None:
            return self.layer.product(x, weight)
        return self.layer.product_added(self.layer.per_channel(shift, x.ndim), x, weight)

    def gather(self, first: Tensor, second: Tensor) -> None:
        """Pass on <first, second> of every example and filter."""
        gather = self.followed.current.gather
        assert gather
        gather(self.name, _per_filter(first, second, self.layer.channel))

    @property
    def whole(self) -> bool:
        """Whether the current pass forms H v of this layer in full."""
        return self._is_whole and self.followed.current.forms_whole

    @property
    def is_gathered(self) -> bool:
        """Whether the current pass gathers this layer's filters."""
        return self.gathers and self.followed.current.gather is not None


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, step: Tensor, node: _Node
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.node, ctx.address = node, weight.data_ptr()
        return node.output(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), node, gy = ctx.saved_tensors, ctx.node, gradients[0]
        if weight.data_ptr() != ctx.address:
            raise swapped(node.name)
        needs, now = ctx.needs_input_grad, node.followed.current
        if now.phase == "slope":
            by_input, by_step = _SlopeLayer.apply(gy, x, weight, node, needs[0])
            return by_input, None, None, by_step, None
        if node.is_gathered:
            node.gather(node.product(x, weight), gy)
        if now.bend is not None:
            now.bend.add_(_inner(node.along, gy))
            node.along = None
        wanted = now.phase == "gradient" or node.whole
        mask = (needs[0], wanted and needs[1], wanted and needs[2])
        return *node.layer.gradients(gy, x, weight, mask), None, None


class _SlopeLayer(torch.autograd.Function):
    """Differentiable gradients of a layer with respect to its input and the step."""

    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, node: _Node, by_input: bool
    ) -> tuple[Tensor | None, Tensor]:
        ctx.save_for_backward(gy, x, weight)
        ctx.set_materialize_grads(False)
        ctx.node = node
        given = node.layer.by_input(gy, x, weight) if by_input else None
        return given, torch.zeros_like(node.followed.step)

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        (gy, x, weight), node, of_input = ctx.saved_tensors, ctx.node, along[0]
        layer, now, needs = node.layer, node.followed.current, ctx.needs_input_grad
        u = node.along_direction(x)
        by_input = layer.by_input(gy, x, now.direction[node.name]) if needs[1] else None
        if now.bend is not None:
            node.along = u
            if of_input is not None and by_input is not None:
                now.bend.add_(_inner(of_input, by_input))
        if of_input is None:
            return u, by_input, None, None, None
        by_weight = layer.by_weight(gy, of_input, weight) if node.whole and needs[2] else None
        if not node.gathers:
            return layer.product_added(u, of_input, weight), by_input, by_weight, None, None
        carried = layer.product(of_input, weight)
        if node.is_gathered:
            node.gather(carried, gy)
        return carried.add_(u), by_input, by_weight, None, None


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of equally shaped tensors; no temporary product for equal layouts."""
    if first.stride() == second.stride() and (first.is_contiguous() or _is_channels_last(first)):
        vectors = (tensor.as_strided((tensor.numel(),), (1,)) for tensor in (first, second))
        return torch.dot(*vectors)
    return (first * second).sum()


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def _per_filter(first: Tensor, second: Tensor, channel: int) -> Tensor:
    """Inner products of two outputs [examples, ..., filters, ...]: [examples, filters]."""
    product = first * second
    if product.ndim <= 2:
        return product
    return product.sum([dim for dim in range(1, product.ndim) if dim != channel % product.ndim])
