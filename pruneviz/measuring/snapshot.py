"""The columns of one snapshot: every raw fact of a network on a sample, as a table with one row per filter or weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.log import schema
from pruneviz.log.vocabulary import BN_MODES, ROW_KINDS
from pruneviz.measuring.cheap_columns import TERMS
from pruneviz.measuring.chunking import automatic_chunk, halved_on_out_of_memory
from pruneviz.measuring.derivatives import filter_products, gradients, hessian_products
from pruneviz.measuring.extra_columns import squared_gradient_columns, synflow_columns
from pruneviz.measuring.objective import (
    Loss,
    Named,
    Objective,
    calibrated_buffers,
    check_finite,
    objective,
)
from pruneviz.measuring.rows import REDUCTIONS, key_columns, pruned_units, scale_of_units
from pruneviz.measuring.standard_errors import FilterTerms
from pruneviz.model.filters import Layer, find_layers, sigma, unwrap
from pruneviz.model.isolation import exact_float32, generators_preserved, module_modes
from pruneviz.model.sample import Batch, Sample, as_batches, model_device, model_dtype

Columns = dict[
    str, dict[str, Tensor]
]  # column -> layer -> one number per row, all of a column on one device

_FROM_GRADIENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "theta_g": lambda theta, g: theta * g,
    "abs_theta_g": lambda theta, g: (theta * g).abs(),
    "theta2_abs_g": lambda theta, g: theta.square() * g.abs(),
    "g_norm2": lambda theta, g: g.square(),
}


@dataclass(frozen=True)
class Options:
    """How to measure; checked on construction. The meaning of each field is that of the argument of `measure`."""

    temperatures: tuple[float, ...] = (1.0, 200.0)
    bn: str = "eval"
    columns: tuple[str, ...] | None = None
    chunk: int | None = None
    loss: Loss | None = None
    dtype: torch.dtype | None = None
    classifier: bool = False
    unit: str = "filter"

    def __post_init__(self) -> None:
        if self.unit not in ROW_KINDS:
            raise MeasureError(
                f"unit={self.unit!r}; a row is about a 'filter' or about a single 'weight', choose one of them"
            )
        if self.bn not in BN_MODES:
            raise MeasureError(
                f"bn={self.bn!r} is not a batch-norm mode; choose one of {', '.join(BN_MODES)}"
            )
        if not self.temperatures or not all(0 < t < float("inf") for t in self.temperatures):
            raise MeasureError(
                f"temperatures={self.temperatures!r}; give one or more positive numbers, such as (1.0, 200.0)"
            )
        if self.chunk is not None and self.chunk < 1:
            raise MeasureError(
                f"chunk={self.chunk}; give the number of examples to differentiate at once, 1 or more, or None to choose it"
            )
        if self.dtype is not None and not self.dtype.is_floating_point:
            raise MeasureError(
                f"dtype={self.dtype} has no derivatives; give a floating-point dtype, such as torch.float64"
            )
        unknown = sorted(set(self.columns or ()) - set(self.available()))
        if unknown:
            asked = f"no column {', '.join(unknown)} can be measured of a {self.unit} at temperatures {self.temperatures}"
            raise MeasureError(f"{asked}; there are {', '.join(self.available())}")

    def available(self) -> tuple[str, ...]:
        """Every column that can be measured of such units with these temperatures."""
        further = [schema.temperature_column(t) for t in self.temperatures[1:]]
        given = [
            name
            for name in schema.MEASURED_OF_UNIT[self.unit]
            if name != "theta_hg_t200" or name in further
        ]
        return tuple(dict.fromkeys([*given, *further]))

    def wanted(self) -> tuple[str, ...]:
        """The columns to measure: those asked for, else all but the expensive ones that are made on request only."""
        return (
            self.columns
            if self.columns is not None
            else tuple(c for c in self.available() if c not in schema.REQUEST_COLUMNS)
        )


@dataclass(frozen=True)
class Snapshot:
    """One measurement: the filters table, and the facts of the whole network (NaN where not measured)."""

    filters: pd.DataFrame
    sample_loss: float = float("nan")
    g_norm2: float = float("nan")
    ghg: float = float("nan")


def measure(
    model: nn.Module,
    sample: Sample,
    *,
    temperatures: tuple[float, ...] = (1.0, 200.0),
    bn: str = "eval",
    columns: Sequence[str] | None = None,
    chunk: int | None = None,
    loss: Loss | None = None,
    dtype: torch.dtype | None = None,
    classifier: bool = False,
    unit: str = "filter",
) -> pd.DataFrame:
    """Measure every filter of a network on a sample: one row per filter (or per single weight), nothing of the model changed.

    Args:
        model: any network; its convolutions and linear layers but the last are found by following one forward pass.
        sample: a pair of tensors (inputs [N, ...], targets [N]) or an iterable of such batches.
        temperatures: the logits are divided by these; the first is that of `theta_g` and `theta_hg`, each further T gives a
            column `theta_hg_tT` with both g and H at T.
        bn: "eval", running statistics as they are; "calibrated", re-estimated on the sample; "batch", every batch of the
            sample normalised by its own statistics.
        columns: the columns to measure; None for all but `theta2_g2` and `synflow`, which are made on request.
        chunk: examples differentiated at once, which bounds the memory and changes no number; None chooses it.
        loss: any callable of (output, target) that is the mean over examples, in the place of cross-entropy.
        dtype: of the arithmetic; None for the model's own, torch.float64 for exact work.
        classifier: also measure the layer that is the network's output.
        unit: what a row is about, a "filter" or a single "weight".

    Returns: DataFrame with `layer` (name in named_modules()), `filter` (output channel of the unpruned layer), with unit "weight" also
    `weight` (position in the filter's flattened weights), `kept` (any weight is not zero) and the columns, float64; units in
    `pruneviz.log.schema.FILTERS`. A value that does not exist, such as `sigma` where no batch norm follows or a derivative by a filter
    that `pruneviz.pruning` pruned, is NaN. Summed over a filter's weights, columns of single weights are those of the filter.

    Errors: `DataError` for a sample that is empty or no sample; `MeasureError` for a model without filters, labels out of
    range, and a loss or derivative that is not finite (the layer is named).

    Source: Lubana and Dick, "A Gradient Flow Framework For Analyzing Network Pruning", ICLR 2021.
    """
    chosen = None if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)
    options = Options(tuple(temperatures), bn, chosen, chunk, loss, dtype, classifier, unit)
    return take_snapshot(model, sample, options).filters


def take_snapshot(
    model: nn.Module, sample: Sample, options: Options, layers: Sequence[Layer] | None = None
) -> Snapshot:
    """`measure` with the facts of the whole network beside the table; `layers` saves tracing the network again."""
    model = unwrap(model)
    device = model_device(model)
    with generators_preserved(sample, device), exact_float32():
        batches = as_batches(sample, device, options.dtype or model_dtype(model))
        layers = layers or find_layers(model, batches[0][0], classifier=options.classifier)
        with module_modes(model, options.bn):
            return _snapshot(model, batches, list(layers), options)


def build_objective(model: nn.Module, batches: Sequence[Batch], options: Options) -> Objective:
    """The loss on these batches, for a model that is already in the mode that `options.bn` asks for."""
    dtype, rechunk = options.dtype or model_dtype(model), options.bn != "batch"
    sample = objective(
        model,
        batches,
        temperatures=options.temperatures,
        loss=options.loss,
        rechunk=rechunk,
        dtype=dtype,
    )
    return calibrated_buffers(sample) if options.bn == "calibrated" else sample


def chunk_for(sample: Objective, options: Options) -> int:
    """The chunk asked for, or one that fits the memory; without meaning where batches may not be cut."""
    return options.chunk or (automatic_chunk(sample) if sample.rechunk else 1)


def _snapshot(
    model: nn.Module, batches: list[Batch], layers: list[Layer], options: Options
) -> Snapshot:
    wanted = options.wanted()
    found = _cheap_columns(model, layers, options.unit)
    whole = Snapshot(pd.DataFrame())
    if set(wanted) - set(schema.CHEAP_COLUMNS):
        sample = build_objective(model, batches, options)
        whole = _derivative_columns(sample, layers, options, wanted, found)
        if "synflow" in wanted:
            found["synflow"] = _reduced(
                synflow_columns(model, layers, batches[0][0][:1]), options.unit
            )
    _nullify_pruned(model, layers, found, options.unit)
    frame = _frame(model, layers, found, wanted, options.unit)
    return Snapshot(frame, whole.sample_loss, whole.g_norm2, whole.ghg)


def _derivative_columns(
    sample: Objective, layers: list[Layer], options: Options, wanted: Sequence[str], found: Columns
) -> Snapshot:
    """Fill `found` with the columns that need derivatives; returns the facts of the whole network."""
    chunk = chunk_for(sample, options)
    first, chunk = halved_on_out_of_memory(
        lambda size: _first_order(sample, layers, size, "theta_g_se" in wanted), chunk
    )
    losses, g, found["theta_g_se"] = first
    check_finite(sample, losses, g, "the loss or its gradient")
    for name in (name for name in _FROM_GRADIENT if name in wanted):
        found[name] = _per_unit(sample, layers, g[0], _FROM_GRADIENT[name], options.unit)
    ghg = float("nan")
    if any(name.startswith("theta_hg") for name in wanted):
        second, chunk = halved_on_out_of_memory(
            lambda size: _second_order(sample, layers, g, size, options.unit), chunk
        )
        hg, found["theta_hg_se"], ghg = second
        check_finite(sample, losses, hg, "the Hessian-gradient product")
        names = ["theta_hg", *map(schema.temperature_column, sample.temperatures[1:])]
        found.update(
            {
                name: {layer.name: h[layer.name] for layer in layers}
                for name, h in zip(names, hg, strict=True)
            }
        )
    if "theta2_g2" in wanted:
        squares, _ = halved_on_out_of_memory(
            lambda size: squared_gradient_columns(sample, layers, size), chunk
        )
        found["theta2_g2"] = _reduced(squares, options.unit)
    return Snapshot(
        pd.DataFrame(),
        losses[0],
        float(torch.stack([t.square().sum() for t in g[0].values()]).sum()),
        ghg,
    )


def _first_order(
    sample: Objective, layers: list[Layer], chunk: int, spread: bool
) -> tuple[list[float], list[Named], Named]:
    terms = (
        FilterTerms(
            layers, sample.parameters, sample.examples, by_batch=not sample.rechunk, complete=True
        )
        if spread
        else None
    )
    losses, g = gradients(sample, chunk, terms)
    return losses, g, terms.standard_errors() if terms else {}


def _second_order(
    sample: Objective, layers: list[Layer], g: list[Named], chunk: int, unit: str
) -> tuple[list[Named], Named, float]:
    """theta H g of every unit at every temperature, its standard errors at the first, and g^T H g."""
    if unit == "weight":
        hg = hessian_products(sample, g, chunk)
        ghg = float(torch.stack([(g[0][name] * hg[0][name]).sum() for name in g[0]]).sum())
        return [_per_unit(sample, layers, h, torch.mul, unit) for h in hg], {}, ghg
    terms = [
        FilterTerms(
            layers, sample.parameters, sample.examples, by_batch=not sample.rechunk, complete=False
        )
        for _ in g
    ]
    ghg = filter_products(sample, g, chunk, terms)
    return [heard.products() for heard in terms], terms[0].standard_errors(), ghg


def _per_unit(
    sample: Objective,
    layers: list[Layer],
    derivative: Named,
    terms: Callable[[Tensor, Tensor], Tensor],
    unit: str,
) -> Named:
    pairs = {
        layer.name: (sample.parameters[layer.weight].detach().double(), derivative[layer.weight])
        for layer in layers
    }
    return {name: REDUCTIONS[unit](terms(theta, d)) for name, (theta, d) in pairs.items()}


def _reduced(values: Named, unit: str) -> Named:
    return {name: REDUCTIONS[unit](value) for name, value in values.items()}


def _cheap_columns(model: nn.Module, layers: Sequence[Layer], unit: str) -> Columns:
    weights = {layer.name: model.get_parameter(layer.weight).detach().double() for layer in layers}
    names = [name for name in schema.CHEAP_OF_UNIT[unit] if name in TERMS]
    found = {c: {name: REDUCTIONS[unit](TERMS[c](w)) for name, w in weights.items()} for c in names}
    return {
        **found,
        "sigma": {
            layer.name: scale_of_units(model, layer, sigma(model, layer), unit) for layer in layers
        },
    }


def _nullify_pruned(model: nn.Module, layers: Sequence[Layer], found: Columns, unit: str) -> None:
    """A filter or weight that is pruned has no derivatives: null, not the 0 that it would give."""
    for layer in layers:
        pruned = pruned_units(model, layer, unit)
        for column in set(found) - set(schema.CHEAP_OF_UNIT[unit]):
            if pruned is not None and layer.name in found[column]:
                values = found[column][layer.name].double()
                found[column][layer.name] = values.masked_fill(
                    pruned.to(values.device), float("nan")
                )


def _frame(
    model: nn.Module, layers: Sequence[Layer], found: Columns, wanted: Sequence[str], unit: str
) -> pd.DataFrame:
    kept = torch.cat([found["theta_l1"][layer.name] != 0 for layer in layers]).cpu().numpy()
    values = {
        c: torch.cat([found[c][layer.name].double() for layer in layers]).cpu().numpy()
        for c in wanted
    }
    return pd.DataFrame({**key_columns(model, layers, unit), "kept": kept, **values}, copy=False)
