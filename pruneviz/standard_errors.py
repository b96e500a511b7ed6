"""Standard errors of theta^T g and theta^T H g over the sample, gathered while the sums themselves are formed.

The contribution of one example to theta_p^T g_p needs no gradient of its own: for a layer y = theta * x + b it is the inner
product of (y - b) and d = dL/dy of that example at channel p. Likewise, with s = v^T g and v's own weights v_p and bias v_b,

    theta_p^T (H_n v)_p = <y - b, ds/dy> + <d, ds/dd> - <v_p * x + v_b, d>:

the first two terms differentiate s by a factor on theta_p, which enters s through y and through the map that carries d back; the
last takes out what s gains from d directly, through v. Where a batch is normalised by its own statistics, examples have no
contribution of their own, and the batch is the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from pruneviz.derivatives import Listener, Named
from pruneviz.filters import Layer

_NULL = float("nan")
_ADDS_UP = 1e-2  # far above rounding in float32, far below what a use of the weight elsewhere takes away
_KNOWN_FORWARDS = {cls.forward for cls in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}


class RunningSpread:
    """Mean and squared deviations of per-unit values, gathered block by block (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.units = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in a block of values [units, filters]."""
        block = values.double()
        units, mean = len(block), block.mean(0)
        squares = (block - mean).square().sum(0)
        if self.mean is None or self.squares is None:
            self.units, self.mean, self.squares = units, mean, squares
            return
        total, shift = self.units + units, mean - self.mean
        self.squares = self.squares + squares + shift.square() * (self.units * units / total)
        self.mean, self.units = self.mean + shift * (units / total), total

    def standard_error(self, filters: int) -> Tensor:
        """Standard error of the mean, float64 [filters] on the CPU; NaN with fewer than two units."""
        if self.squares is None or self.units < 2:
            return torch.full((filters,), _NULL, dtype=torch.float64)
        return (self.squares / (self.units - 1) / self.units).sqrt().cpu()


class ExampleTerms(Listener):
    """Listens to a network and gathers every example's contribution to theta^T g (no vector) or theta^T H v (with one).

    Args: `layers` of `model`, with its `parameters`; `examples`, the size of the sample; `vector` {parameter: tensor}. The
    standard error is NaN for a layer whose output does not keep the examples in its first dimension, whose class has a forward of
    its own, or whose contributions do not add up to the derivative, because its weight acts elsewhere too.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], parameters: Named, examples: int, vector: Named | None = None) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._model, self._parameters, self._examples, self._vector = model, parameters, examples, vector
        self._spread = {layer.name: RunningSpread() for layer in layers}
        self._whole = {layer.name: torch.zeros((), dtype=torch.float64) for layer in layers}
        self._terms: dict[str, Tensor] = {}
        self._phase = ""
        self._stack = ExitStack()

    def __enter__(self) -> ExampleTerms:
        for name, layer in self._layers.items():
            module = self._model.get_submodule(name)
            if layer.examples_first and type(module).forward in _KNOWN_FORWARDS:
                self._stack.callback(module.register_forward_hook(self._listen(name), with_kwargs=True).remove)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def phase(self, name: str) -> None:
        """Remember what is formed next, so that gradients on their way back are taken for what they are."""
        self._phase = name

    def end_chunk(self, examples: int, part: Named) -> None:
        """Take the chunk's contributions into the spread; `part` is the chunk's share of the derivative that they make up."""
        for name, terms in self._terms.items():
            if len(terms) == examples:
                self._spread[name].add(terms * self._examples)
                self._whole[name] = self._whole[name].to(terms.device) + _along_weight(self._parameters, part, self._layers[name].weight)
        self._terms = {}

    def standard_errors(self) -> Named:
        """{layer: standard error of each filter, float64 [filters] on the CPU}."""
        found = {name: self._spread[name].standard_error(layer.filters) for name, layer in self._layers.items()}
        return {name: errors if self._adds_up(name) else torch.full_like(errors, _NULL) for name, errors in found.items()}

    def _adds_up(self, name: str) -> bool:
        spread, whole = self._spread[name], self._whole[name]
        if spread.mean is None or spread.squares is None or spread.units != self._examples:
            return False
        apart, size = (spread.mean - whole).norm(), (spread.mean.square() + spread.squares / spread.units).sum().sqrt()
        return bool(apart <= _ADDS_UP * size)

    def _listen(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
            if output.requires_grad:
                x = args[0] if args else kwargs["input"]
                # a clone, because the network may overwrite its activation in place afterwards
                product = _without_bias(module, output.detach().clone())
                output.register_hook(lambda gradient: self._on_gradient(name, module, x, product, gradient))

        return hook

    def _on_gradient(self, name: str, module: nn.Module, x: Tensor, product: Tensor, gradient: Tensor) -> Tensor | None:
        if self._phase == "gradient" and self._vector is None:
            self._note(name, module, product * gradient.detach())
        elif self._phase == "gradient" and self._vector is not None:
            fixed = gradient.detach()
            self._note(name, module, -self._along_vector(name, module, x.detach()) * fixed)
            if gradient.requires_grad:
                own = gradient.view_as(gradient)  # after a residual sum the other branch is handed the very same tensor
                own.register_hook(lambda second: self._note(name, module, fixed * second.detach()))
                return own
        elif self._phase == "product":
            self._note(name, module, product * gradient.detach())
        return None

    def _along_vector(self, name: str, module: nn.Module, x: Tensor) -> Tensor:
        """The layer's output with the vector's weights and bias in the place of its own."""
        assert self._vector is not None
        weight = self._layers[name].weight
        bias = self._vector.get(f"{name}.bias" if name else "bias")
        return _apply(module, x, self._vector[weight].to(x.dtype), None if bias is None else bias.to(x.dtype))

    def _note(self, name: str, module: nn.Module, product: Tensor) -> None:
        channel = product.ndim - 1 if isinstance(module, nn.Linear) else 1
        summed = product.movedim(channel, 1).flatten(2).sum(2, dtype=torch.float64) if product.ndim > 2 else product.double()
        before = self._terms.get(name)
        if before is not None and before.shape != summed.shape:  # applied to other batches too
            before, summed = None, summed[:0]
        self._terms[name] = summed if before is None else before + summed


class BatchTerms(Listener):
    """Gathers every batch's theta^T g or theta^T H v, for samples whose batches are normalised by their own statistics."""

    def __init__(self, layers: Sequence[Layer], parameters: Named, examples: int) -> None:
        self._layers, self._parameters, self._examples = layers, parameters, examples
        self._spread = {layer.name: RunningSpread() for layer in layers}

    def end_chunk(self, examples: int, part: Named) -> None:
        """Take in the values of one batch, from its share `part` of the derivative."""
        for layer in self._layers:
            value = _along_weight(self._parameters, part, layer.weight)
            self._spread[layer.name].add(value[None] * (self._examples / examples))

    def standard_errors(self) -> Named:
        """{layer: standard error of each filter, float64 [filters] on the CPU}; NaN with a single batch."""
        return {layer.name: self._spread[layer.name].standard_error(layer.filters) for layer in self._layers}


def _along_weight(parameters: Named, part: Named, weight: str) -> Tensor:
    return (parameters[weight].detach().double() * part[weight].detach()).flatten(1).sum(1)


def _without_bias(module: nn.Module, output: Tensor) -> Tensor:
    bias = module.bias
    if not isinstance(bias, Tensor):
        return output
    shape = [1] * output.ndim
    shape[output.ndim - 1 if isinstance(module, nn.Linear) else 1] = -1
    return output - bias.detach().view(shape)


def _apply(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer's map with another weight and bias."""
    with torch.no_grad():
        if isinstance(module, nn.Linear):
            return torch.nn.functional.linear(x, weight, bias)
        return module._conv_forward(x, weight, bias)  # type: ignore[operator]
