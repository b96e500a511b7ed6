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
from pruneviz.measuring.extra_columns import gate_derivatives, squared_gradients
from pruneviz.measuring.objective import NamedTensors, Objective, check_finite
from pruneviz.measuring.rows import AnyLayer, parameters_of, reduced
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
        hg_norm2: ||Hg||^2 at the first temperature; NaN where Hg was not formed in full.
    """

    columns: Columns
    sample_loss: float = float("nan")
    g_norm2: float = float("nan")
    ghg: float = float("nan")
    hg_norm2: float = float("nan")


def derivative_columns(
    sample: Objective, layers: Sequence[AnyLayer], wanted: Sequence[str], chunk: int, unit: str
) -> Derivatives:
    """Measure the wanted columns, halving the chunk if memory runs out."""
    with_errors = unit == "filter" and bool({"theta_g_se", "theta_g_se_iid"} & set(wanted))
    first, chunk = halved_on_out_of_memory(
        lambda size: _first_order(sample, layers, size, with_errors), chunk, sample.whole
    )
    losses, g, standard_errors = first
    check_finite(sample, losses, g, "the loss or its gradient")
    found: Columns = dict.fromkeys(("theta_g_se", "theta_g_se_iid"), standard_errors)
    for name in (name for name in _FROM_GRADIENT if name in wanted):
        found[name] = _per_row(sample, layers, g[0], _FROM_GRADIENT[name], unit)
    if "bn_taylor" in wanted:
        found["bn_taylor"] = gate_derivatives(sample.parameters, g[0], layers)
    ghg = hg_norm2 = float("nan")
    if any(name.startswith(("theta_hg", "hg_norm2")) for name in set(wanted) - {"theta_hg_se"}):
        second, chunk = halved_on_out_of_memory(
            lambda size: _second_order(sample, layers, g, size, unit, "hg_norm2" in wanted),
            chunk,
            sample.whole,
        )
        hg, found["theta_hg_se_given_g"], ghg, whole = second
        check_finite(sample, losses, hg, "the Hessian-gradient product")
        if whole is not None:
            hg_norm2 = _norm2(whole)
        if whole is not None and "hg_norm2" in wanted:
            found["hg_norm2"] = _per_row(sample, layers, whole, lambda _, h: h.square(), unit)
        names = ["theta_hg", *map(schema.temperature_column, sample.temperatures[1:])]
        for name, h in zip(names, hg, strict=True):
            found[name] = {layer.name: h[layer.name] for layer in layers}
    if "theta2_g2" in wanted:
        names = parameters_of(layers)
        squares, _ = halved_on_out_of_memory(
            lambda size: squared_gradients(sample, names, size), chunk
        )
        found["theta2_g2"] = by_layer(layers, squares, unit)
    return Derivatives(found, losses[0], _norm2(g[0]), ghg, hg_norm2)


def _norm2(derivative: NamedTensors) -> float:
    """Squared norm over all parameters."""
    return float(torch.stack([t.square().sum() for t in derivative.values()]).sum())


def by_layer(layers: Sequence[AnyLayer], values: NamedTensors, unit: str) -> NamedTensors:
    """{layer: one number per row}, from one number per entry of every parameter."""
    return {layer.name: reduced(layer, values.__getitem__, unit) for layer in layers}


def _first_order(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, with_errors: bool
) -> tuple[list[float], list[NamedTensors], NamedTensors]:
    """Losses and gradients, and the standard errors of theta^T g."""
    filters = _filters_of(layers)
    if not with_errors or not filters:
        return *gradients(sample, chunk), {}
    terms = _terms(sample, filters, complete=True)
    return *gradients(sample, chunk, terms), _errors(sample, terms)


def _second_order(
    sample: Objective,
    layers: Sequence[AnyLayer],
    g: list[NamedTensors],
    chunk: int,
    unit: str,
    forms_whole: bool,
) -> tuple[list[NamedTensors], NamedTensors, float, NamedTensors | None]:
    """theta H g per row at every temperature; standard errors, g^T H g and H g at the first.

    H g is None where only its inner products were formed.
    """
    filters = _filters_of(layers) if unit == "filter" else []
    if len(filters) == len(layers) and all(layer.is_gathered for layer in filters):
        terms = [_terms(sample, filters, complete=forms_whole and i == 0) for i in range(len(g))]
        whole = {name: torch.zeros_like(t) for name, t in g[0].items()} if forms_whole else None
        ghg = filter_products(sample, g, chunk, terms, whole)
        return [gathered.products() for gathered in terms], _errors(sample, terms[0]), ghg, whole
    # rows that cross the outputs of a layer, or several parameters, need H g in full
    listener = _terms(sample, filters, complete=True) if filters else None
    hg = hessian_products(sample, g, chunk, listener)
    ghg = float(torch.stack([(g[0][name] * hg[0][name]).sum() for name in g[0]]).sum())
    errors = _errors(sample, listener) if listener else {}
    return [_per_row(sample, layers, h, torch.mul, unit) for h in hg], errors, ghg, hg[0]


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
    layers: Sequence[AnyLayer],
    derivative: NamedTensors,
    per_weight: Callable[[Tensor, Tensor], Tensor],
    unit: str,
) -> NamedTensors:
    """{layer: one number per row}, from `per_weight` of the weights and their derivatives."""
    found = {}
    for layer in layers:

        def per_entry(name: str) -> Tensor:
            theta = sample.parameters[name].detach().double()
            return per_weight(theta, derivative[name])

        found[layer.name] = reduced(layer, per_entry, unit)
    return found


def _filters_of(layers: Sequence[AnyLayer]) -> list[Layer]:
    return [layer for layer in layers if isinstance(layer, Layer)]
