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
from pruneviz.measuring.finiteness import check_finite
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.rows import AnyLayer, parameters_of, reduced
from pruneviz.measuring.standard_errors import FilterTerms
from pruneviz.measuring.strata import Strata
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
    sample: Objective,
    layers: Sequence[AnyLayer],
    wanted: Sequence[str],
    chunk: int,
    unit: str,
    strata: Strata,
) -> Derivatives:
    """Measure the wanted columns, halving the chunk if memory runs out.

    Args:
        sample: The loss on the sample.
        layers: Layers of the table.
        wanted: Names of columns.
        chunk: Examples differentiated at once.
        unit: Row kind.
        strata: The strata that the sample was drawn from.
    """
    with_errors = unit == "filter" and bool({"theta_g_se", "theta_g_se_iid"} & set(wanted))
    first, chunk = halved_on_out_of_memory(
        lambda size: _first_order(sample, layers, size, strata if with_errors else None),
        chunk,
        sample.model,
        sample.whole,
    )
    losses, g, found = first
    check_finite(sample, losses, g, "the loss or its gradient")
    for name in (name for name in _FROM_GRADIENT if name in wanted):
        found[name] = _per_row(sample, layers, g[0], _FROM_GRADIENT[name], unit)
    if "bn_taylor" in wanted:
        found["bn_taylor"] = gate_derivatives(sample.parameters, g[0], layers)
    ghg = hg_norm2 = float("nan")
    if any(name.startswith(("theta_hg", "hg_norm2")) for name in set(wanted) - {"theta_hg_se"}):
        second, chunk = halved_on_out_of_memory(
            lambda size: _second_order(sample, layers, g, size, unit, strata, "hg_norm2" in wanted),
            chunk,
            sample.model,
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
            lambda size: squared_gradients(sample, names, size), chunk, sample.model
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
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, strata: Strata | None
) -> tuple[list[float], list[NamedTensors], Columns]:
    """Losses and gradients, and the standard errors of theta^T g for a sample from strata."""
    filters = _filters_of(layers)
    if strata is None or not filters:
        return *gradients(sample, chunk), {}
    terms = _terms(sample, filters, strata, complete=True)
    losses, found = gradients(sample, chunk, terms)
    errors = {"theta_g_se": terms.standard_errors(), "theta_g_se_iid": terms.independent_errors()}
    return losses, found, errors


def _second_order(
    sample: Objective,
    layers: Sequence[AnyLayer],
    g: list[NamedTensors],
    chunk: int,
    unit: str,
    strata: Strata,
    forms_whole: bool,
) -> tuple[list[NamedTensors], NamedTensors, float, NamedTensors | None]:
    """theta H g per row at every temperature; standard errors, g^T H g and H g at the first.

    H g is None where only its inner products were formed.
    """
    filters = _filters_of(layers) if unit == "filter" else []
    if len(filters) == len(layers) and all(layer.is_gathered for layer in filters):
        terms = [_terms(sample, filters, strata, complete=forms_whole)]
        terms += [_terms(sample, filters, complete=False) for _ in g[1:]]
        whole = {name: torch.zeros_like(t) for name, t in g[0].items()} if forms_whole else None
        ghg = filter_products(sample, g, chunk, terms, whole)
        products = [gathered.products() for gathered in terms]
        return products, terms[0].standard_errors(), ghg, whole
    # rows that cross the outputs of a layer, or several parameters, need H g in full
    listener = _terms(sample, filters, strata, complete=True) if filters else None
    hg = hessian_products(sample, g, chunk, listener)
    ghg = float(torch.stack([(g[0][name] * hg[0][name]).sum() for name in g[0]]).sum())
    errors = listener.standard_errors() if listener else {}
    return [_per_row(sample, layers, h, torch.mul, unit) for h in hg], errors, ghg, hg[0]


def _terms(
    sample: Objective, layers: list[Layer], strata: Strata | None = None, *, complete: bool
) -> FilterTerms:
    return FilterTerms(
        layers,
        sample.parameters,
        sample.examples,
        by_batch=not sample.rechunk,
        complete=complete,
        strata=strata,
        weights=sample.weights,
        start=sample.own.start,
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
