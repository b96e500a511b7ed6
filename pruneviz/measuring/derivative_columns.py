"""The columns that need derivatives of the loss, and facts about the whole network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from pruneviz.log import schema
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivatives import filter_products, gradients, hessian_products
from pruneviz.measuring.extra_columns import squared_gradient_columns
from pruneviz.measuring.objective import NamedTensors, Objective, check_finite
from pruneviz.measuring.rows import REDUCTIONS
from pruneviz.measuring.standard_errors import FilterTerms
from pruneviz.model.filters import Layer

# column -> layer -> one number per row; each column on one device
Columns: TypeAlias = dict[str, NamedTensors]

_FROM_GRADIENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "theta_g": lambda theta, g: theta * g,
    "abs_theta_g": lambda theta, g: (theta * g).abs(),
    "theta2_abs_g": lambda theta, g: theta.square() * g.abs(),
    "g_norm2": lambda theta, g: g.square(),
}


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Columns that need derivatives, and facts about the whole network (NaN if not measured).

    Attributes:
        columns: {column: {layer: one number per row}}.
        sample_loss: Mean loss at the first temperature, in nats.
        g_norm2: ||g||^2 at the first temperature.
        ghg: g^T H g at the first temperature.
    """

    columns: Columns
    sample_loss: float = float("nan")
    g_norm2: float = float("nan")
    ghg: float = float("nan")


def derivative_columns(
    sample: Objective, layers: list[Layer], wanted: Sequence[str], chunk: int, unit: str
) -> Derivatives:
    """Measure the wanted columns, halving the chunk if memory runs out."""
    first, chunk = halved_on_out_of_memory(
        lambda size: _first_order(sample, layers, size, "theta_g_se" in wanted), chunk
    )
    losses, g, standard_errors = first
    check_finite(sample, losses, g, "the loss or its gradient")
    found: Columns = {"theta_g_se": standard_errors}
    for name in (name for name in _FROM_GRADIENT if name in wanted):
        found[name] = _per_row(sample, layers, g[0], _FROM_GRADIENT[name], unit)
    ghg = float("nan")
    if any(name.startswith("theta_hg") for name in wanted):
        second, chunk = halved_on_out_of_memory(
            lambda size: _second_order(sample, layers, g, size, unit), chunk
        )
        hg, found["theta_hg_se"], ghg = second
        check_finite(sample, losses, hg, "the Hessian-gradient product")
        names = ["theta_hg", *map(schema.temperature_column, sample.temperatures[1:])]
        for name, h in zip(names, hg, strict=True):
            found[name] = {layer.name: h[layer.name] for layer in layers}
    if "theta2_g2" in wanted:
        squares, _ = halved_on_out_of_memory(
            lambda size: squared_gradient_columns(sample, layers, size), chunk
        )
        found["theta2_g2"] = reduced(squares, unit)
    g_norm2 = float(torch.stack([t.square().sum() for t in g[0].values()]).sum())
    return Derivatives(found, losses[0], g_norm2, ghg)


def reduced(values: NamedTensors, unit: str) -> NamedTensors:
    """{layer: one number per row}, from one number per weight."""
    return {name: REDUCTIONS[unit](value) for name, value in values.items()}


def _first_order(
    sample: Objective, layers: list[Layer], chunk: int, with_errors: bool
) -> tuple[list[float], list[NamedTensors], NamedTensors]:
    """Losses and gradients, and the standard errors of theta^T g."""
    if not with_errors:
        return *gradients(sample, chunk), {}
    terms = _terms(sample, layers, complete=True)
    return *gradients(sample, chunk, terms), _errors(sample, terms)


def _second_order(
    sample: Objective, layers: list[Layer], g: list[NamedTensors], chunk: int, unit: str
) -> tuple[list[NamedTensors], NamedTensors, float]:
    """theta H g per row at every temperature, standard errors at the first, and g^T H g."""
    if unit == "weight":
        hg = hessian_products(sample, g, chunk)
        ghg = float(torch.stack([(g[0][name] * hg[0][name]).sum() for name in g[0]]).sum())
        return [_per_row(sample, layers, h, torch.mul, unit) for h in hg], {}, ghg
    terms = [_terms(sample, layers, complete=False) for _ in g]
    ghg = filter_products(sample, g, chunk, terms)
    return [gathered.products() for gathered in terms], _errors(sample, terms[0]), ghg


def _errors(sample: Objective, terms: FilterTerms) -> NamedTensors:
    """Standard errors; NaN if examples have unequal weights in the loss, a ratio of two means."""
    errors = terms.standard_errors()
    if sample.weights is None:
        return errors
    return {name: torch.full_like(values, float("nan")) for name, values in errors.items()}


def _terms(sample: Objective, layers: list[Layer], *, complete: bool) -> FilterTerms:
    by_batch = not sample.rechunk
    return FilterTerms(
        layers, sample.parameters, sample.examples, by_batch=by_batch, complete=complete
    )


def _per_row(
    sample: Objective,
    layers: list[Layer],
    derivative: NamedTensors,
    per_weight: Callable[[Tensor, Tensor], Tensor],
    unit: str,
) -> NamedTensors:
    """{layer: one number per row}, from `per_weight` of the weights and their derivatives."""
    found = {}
    for layer in layers:
        theta = sample.parameters[layer.weight].detach().double()
        found[layer.name] = REDUCTIONS[unit](per_weight(theta, derivative[layer.weight]))
    return found
