"""Columns made on request only: squared per-example gradients (Fisher) and synaptic flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from pruneviz.errors import MeasureError
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.outputs import logits_of
from pruneviz.model.filters import Layer
from pruneviz.model.isolation import evaluate, flags_preserved
from pruneviz.model.sample import Forward, Inputs, call_with, mapped, tensors_in

_EXAMPLES_PER_GRADIENT = 16  # ratio of chunk sizes: sums over per-example gradients


def squared_gradient_columns(
    sample: Objective, layers: Sequence[Layer], chunk: int
) -> NamedTensors:
    """theta_j^2 E[g_j^2] of every weight, E over the examples, at the first temperature.

    Returns:
        {layer: float64 tensor shaped like its weight}.

    Raises:
        MeasureError: With bn="batch", where single examples have no gradient.

    References:
        Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018.
    """
    if not sample.rechunk:
        raise MeasureError(
            "theta2_g2 needs the gradient of every example, which bn='batch' does not define; "
            "use bn='eval' or 'calibrated'"
        )
    # vmap has no rules for other memory layouts
    ordinary = {
        name: p.detach().clone(memory_format=torch.contiguous_format)
        for name, p in sample.parameters.items()
    }
    weights = {layer.weight: ordinary.pop(layer.weight) for layer in layers}
    totals = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}

    def example_loss(chosen: NamedTensors, x: Inputs, y: Any) -> Tensor:
        state = {**ordinary, **chosen, **sample.buffers}
        x, y = mapped((x, y), lambda leaf: leaf[None])
        output = sample.read(call_with(sample.model, state, x, sample.forward))
        return sample.loss_at(output, y, sample.temperatures[0])

    example_gradients = vmap(grad(example_loss), in_dims=(None, 0, 0))
    # every example has a gradient of all weights, so fewer examples fit than for the sum
    for x, y in sample.chunks(max(1, chunk // _EXAMPLES_PER_GRADIENT)):
        found = example_gradients(weights, mapped(x, _contiguous), y)
        for name, g in found.items():
            totals[name] += g.square().sum(0, dtype=torch.float64) / sample.examples
    return {
        layer.name: weights[layer.weight].double().square() * totals[layer.weight]
        for layer in layers
    }


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def synflow_columns(
    model: nn.Module, layers: Sequence[Layer], example: Inputs, forward: Forward | None = None
) -> NamedTensors:
    """Synaptic flow through each weight, |theta_j| dR/d|theta_j|.

    R is the summed output of the network with absolute weights on an input of ones (one example),
    in evaluation mode and float64.

    Returns:
        {layer: float64 tensor shaped like its weight}.

    Raises:
        MeasureError: If the network's inputs are integers.

    References:
        Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
        flow", 2020.
    """
    leaves = tensors_in(example)
    if not any(leaf.is_floating_point() for leaf in leaves):
        raise MeasureError(
            f"synflow feeds the network with ones, but its inputs are {leaves[0].dtype}; "
            "leave out the column synflow"
        )
    parameters = {
        name: p.detach().double().abs().requires_grad_()
        for name, p in model.named_parameters()
        if p.is_floating_point()
    }
    buffers = {
        name: b.detach().double().abs() if b.is_floating_point() else b.detach().clone()
        for name, b in model.named_buffers()
    }
    with flags_preserved(model):
        evaluate(model)
        output = call_with(model, {**parameters, **buffers}, mapped(example, _ones), forward)
    logits = logits_of(output)
    if logits is None:
        raise MeasureError(
            f"synflow sums the logits, but the model returns {type(output).__name__} with several "
            "tensors; leave out the column synflow"
        )
    chosen = [parameters[layer.weight] for layer in layers]
    parts = torch.autograd.grad(logits.sum(), chosen, materialize_grads=True)
    return {layer.name: w.detach() * g for layer, w, g in zip(layers, chosen, parts, strict=True)}


def _ones(leaf: Tensor) -> Tensor:
    """Ones in place of real inputs; integers, such as a mask, stay."""
    return torch.ones_like(leaf, dtype=torch.float64) if leaf.is_floating_point() else leaf
