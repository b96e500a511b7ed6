"""Columns made on request only.

Squared per-example gradients (Fisher), gates after batch norms, synaptic flow, and distances
between filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from pruneviz.errors import MeasureError
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.outputs import logits_of
from pruneviz.measuring.rows import AnyLayer, pruned_mask
from pruneviz.model.filters import Layer
from pruneviz.model.isolation import evaluate, flags_preserved
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import Batch, Forward, Inputs, call_with, mapped, split, tensors_in

_EXAMPLES_PER_GRADIENT = 16  # ratio of chunk sizes: sums over per-example gradients


def squared_gradients(sample: Objective, names: Sequence[str], chunk: int) -> NamedTensors:
    """theta_j^2 E[g_j^2] of every entry, E over the examples, at the first temperature.

    Args:
        sample: The loss to differentiate.
        names: Parameters whose entries are wanted.
        chunk: Examples that fit for a second derivative of their sum.

    Returns:
        {parameter: float64 tensor in its shape}.

    Raises:
        MeasureError: With bn="batch", where single examples have no gradient.

    References:
        Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018.
    """
    if sample.whole:
        raise MeasureError(
            f"theta2_g2 needs the gradient of every example, but {sample.whole}; leave out the "
            "column theta2_g2, or with bn='batch' use bn='eval' or 'calibrated'"
        )
    totals = {
        name: torch.zeros_like(sample.parameters[name], dtype=torch.float64) for name in names
    }
    for batch, found in example_gradients(sample, names, chunk):
        times = sample.relative_weights(batch)
        for name, g in found.items():
            totals[name] += _squared(g, times) / sample.examples
    sample.ranks.total("the squared gradients of examples", list(totals.values()))
    return {
        name: sample.parameters[name].detach().double().square() * totals[name] for name in names
    }


def example_gradients(
    sample: Objective, names: Sequence[str], chunk: int
) -> Iterator[tuple[Batch, NamedTensors]]:
    """The gradient of every example's own loss, at the first temperature, of this rank's share.

    Args:
        sample: The loss; its batches can be split.
        names: Parameters to differentiate by.
        chunk: Examples that fit for a second derivative of their sum.

    Yields:
        A few examples, and {parameter: gradients [examples, ...]}.
    """
    # vmap has no rules for other memory layouts
    ordinary = {name: _contiguous(p.detach()) for name, p in sample.parameters.items()}
    weights = {name: ordinary.pop(name) for name in names}

    def example_loss(chosen: NamedTensors, x: Inputs, y: Any) -> Tensor:
        state = {**sample.as_called({**ordinary, **chosen}), **sample.buffers}
        output = sample.read(call_with(sample.model, state, x, sample.forward))
        return sample.loss_at(output, y, sample.temperatures[0])

    # every example has a gradient of all weights, so fewer examples fit than for the sum
    for x, y in sample.own_chunks(max(1, chunk // _EXAMPLES_PER_GRADIENT)):
        batch = mapped(x, _contiguous), y
        try:
            found = vmap(grad(_of_one(example_loss)), in_dims=(None, 0, 0))(weights, *batch)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            # a network without rules for vmap
            found = _one_by_one(example_loss, weights, batch)
        yield batch, found


def _squared(g: Tensor, times: Tensor | None) -> Tensor:
    """The sum over examples of squared gradients, float64; with their weights in the loss."""
    if times is None:
        return g.square().sum(0, dtype=torch.float64)
    times = times.to(g.device)
    # an example without weight has no loss, which is NaN
    return torch.tensordot(times[times > 0], g[times > 0].double().square(), 1)


def _of_one(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of batches as one of single examples."""

    def of_one(chosen: NamedTensors, x: Inputs, y: Any) -> Tensor:
        return loss(chosen, *mapped((x, y), lambda leaf: leaf[None]))

    return of_one


def _one_by_one(loss: Callable[..., Tensor], weights: NamedTensors, batch: Batch) -> NamedTensors:
    """The gradient of every example, by ordinary differentiation."""
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    rows = []
    for x, y in zip(split(batch[0], 1), split(batch[1], 1), strict=True):
        parts = torch.autograd.grad(
            loss(leaves, x, y), list(leaves.values()), materialize_grads=True
        )
        rows.append(parts)
    return {
        name: torch.stack(row) for name, row in zip(leaves, zip(*rows, strict=True), strict=True)
    }


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def gate_derivatives(
    parameters: NamedTensors, g: NamedTensors, layers: Sequence[AnyLayer]
) -> NamedTensors:
    """(sigma g_sigma + beta g_beta)^2 of the batch norm after each filter.

    Args:
        parameters: Theta by name.
        g: The gradient by name.
        layers: The layers of the filters.

    Returns:
        {layer: float64 [filters]}. NaN where no batch norm follows, or its scale is not in Theta.

    References:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019.
    """

    def of_norm(norm: str) -> Tensor | None:
        if f"{norm}.weight" not in g:
            return None
        held = [name for name in (f"{norm}.weight", f"{norm}.bias") if name in g]
        terms = [parameters[name].detach().double() * g[name].double() for name in held]
        return torch.stack(terms).sum(0).square()

    norms = dict.fromkeys(norm[0] for layer in layers for norm in layer.norms if norm)
    known = {norm: gate for norm in norms if (gate := of_norm(norm)) is not None}
    device = next(iter(g.values())).device
    null = torch.full((), float("nan"), dtype=torch.float64, device=device)
    return {
        layer.name: torch.stack(
            [known[norm[0]][norm[1]] if norm and norm[0] in known else null for norm in layer.norms]
        )
        for layer in layers
    }


def filter_distances(model: nn.Module, layers: Sequence[AnyLayer]) -> NamedTensors:
    """Sum of the distances of each filter to the kept filters of its layer.

    Args:
        model: The network.
        layers: Layers with filters.

    Returns:
        {layer: float64 [filters]}.

    References:
        He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
        Acceleration", CVPR 2019.
    """
    found = {}
    for layer in layers:
        assert isinstance(layer, Layer), "a column of filters"
        weight = model.get_parameter(layer.weight).detach()
        values = torch.view_as_real(weight) if weight.is_complex() else weight
        filters = layer.rows(values.double()).flatten(1)
        pruned = pruned_mask(model, layer, "filter")
        kept = filters if pruned is None else filters[~pruned.to(filters.device)]
        # not by a product of matrices, which loses the distances of nearly equal filters
        mode = "donot_use_mm_for_euclid_dist"
        found[layer.name] = torch.cdist(filters, kept, compute_mode=mode).sum(1)
    return found


def synaptic_flow(
    model: nn.Module, names: Sequence[str], example: Inputs, forward: Forward | None = None
) -> NamedTensors:
    """Synaptic flow through each entry of some parameters, |theta_j| dR/d|theta_j|.

    R is the summed output of the network with absolute weights on an input of ones (one example),
    in evaluation mode and float64.

    Returns:
        {parameter: float64 tensor in its shape}.

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
    chosen = [parameters[name] for name in names]
    parts = torch.autograd.grad(logits.sum(), chosen, materialize_grads=True)
    return {name: w.detach() * g for name, w, g in zip(names, chosen, parts, strict=True)}


def _ones(leaf: Tensor) -> Tensor:
    """Ones in place of real inputs; integers, such as a mask, stay."""
    return torch.ones_like(leaf, dtype=torch.float64) if leaf.is_floating_point() else leaf
