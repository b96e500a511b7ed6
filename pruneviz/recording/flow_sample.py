"""Gradient flow of the loss on a sample, at the weights of now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruneviz.measuring.building import build_objective, chunk_for
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivatives import gradients, hessian_products
from pruneviz.measuring.finiteness import check_finite
from pruneviz.measuring.objective import NamedTensors
from pruneviz.measuring.options import Options
from pruneviz.measuring.rows import over_filters
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.measuring.snapshot import caches_emptied
from pruneviz.model.filters import Layer
from pruneviz.model.isolation import exact_float32, generators_preserved, isolated, module_modes
from pruneviz.model.sample import Batch, model_device

Velocity = Callable[[str, Tensor, Tensor], Tensor]  # name, theta, g -> v


@dataclass(frozen=True, repr=False)
class SampleFlow:
    """Numbers of every filter on the sample, {layer: float64 [filters]}.

    Attributes:
        theta_g: theta^T g.
        slope: g^T v + theta^T H v, the slope of theta^T g along v.
    """

    theta_g: NamedTensors
    slope: NamedTensors


def sample_flow(
    model: nn.Module,
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    options: Options,
    velocity: Velocity,
    whole: str = "",
) -> SampleFlow:
    """Measure theta^T g of every filter on a sample, and how fast it changes.

    Args:
        model: The network; it does not change.
        batches: The sample, on the network's device.
        layers: Layers whose filters are measured.
        options: Measuring options; the first temperature counts.
        velocity: v of a parameter, from its name, values and gradient.
        whole: Why batches cannot be split, if that is known.
    """
    with (
        shortage_explained(model),
        generators_preserved(batches, model_device(model)),
        exact_float32(),
        isolated(model, hooks=options.hooks, also=options.loss),
        module_modes(model, options.bn),
        caches_emptied(model, batches, options),
    ):
        sample = build_objective(model, list(batches), options, whole)
        chunk = chunk_for(sample, options)
        (losses, (g,)), chunk = halved_on_out_of_memory(
            lambda size: gradients(sample, size), chunk, model, sample.whole
        )
        check_finite(sample, losses, [g], "the loss or its gradient")
        theta = {name: p.detach().double() for name, p in sample.parameters.items()}
        theta_g = _per_filter(layers, theta, g)
        v = {name: velocity(name, theta[name], g[name]) for name in g}
        (hv,), _ = halved_on_out_of_memory(
            lambda size: hessian_products(sample, [v], size), chunk, model, sample.whole
        )
        check_finite(sample, losses, [hv], "the Hessian-vector product")
        g_v, theta_hv = _per_filter(layers, g, v), _per_filter(layers, theta, hv)
        return SampleFlow(theta_g, {name: g_v[name] + theta_hv[name] for name in g_v})


def _per_filter(layers: Sequence[Layer], one: NamedTensors, other: NamedTensors) -> NamedTensors:
    """Inner products of filters, {layer: float64 [filters]}."""
    return {
        layer.name: over_filters(layer.rows(one[layer.weight] * other[layer.weight])).to(
            torch.float64
        )
        for layer in layers
    }
