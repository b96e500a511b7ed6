"""Columns that are not made with the derivatives of the whole sample, most of them on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pruneviz.log.request_columns import drawn_columns
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivative_columns import Columns, by_layer
from pruneviz.measuring.drawn_errors import drawn_errors
from pruneviz.measuring.extra_columns import filter_distances, synaptic_flow
from pruneviz.measuring.hutchinson import obd_columns
from pruneviz.measuring.input_norms import weights_times_inputs
from pruneviz.measuring.model_labels import model_fisher
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.removed_rows import delta_loss_column
from pruneviz.measuring.rows import AnyLayer, parameters_of
from pruneviz.measuring.strata import Strata
from pruneviz.model.sample import first_of


def further_columns(
    sample: Objective,
    layers: Sequence[AnyLayer],
    wanted: Sequence[str],
    chunk: int,
    options: Options,
    strata: Strata,
) -> Columns:
    """Those of the wanted columns that this module makes.

    Args:
        sample: The loss on the sample.
        layers: Layers of the table.
        wanted: Names of columns.
        chunk: Examples differentiated at once.
        options: Measuring options.
        strata: The strata that the sample was drawn from.
    """
    found: Columns = {
        name: column(sample, layers, chunk, options)
        for name, column in _FURTHER.items()
        if name in wanted
    }
    if {"obd", "obd_se"} & set(wanted):
        found |= obd_columns(sample, layers, chunk, options)
    errors = drawn_columns(wanted, options.row_kind)
    if errors:
        unit, seed = options.row_kind, options.seed
        found |= drawn_errors(sample, layers, strata, errors, unit=unit, chunk=chunk, seed=seed)
    return found


def _synflow(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, options: Options
) -> NamedTensors:
    example = first_of(sample.batches[0][0], 1)
    flow = synaptic_flow(sample.model, parameters_of(layers), example, options.forward)
    return by_layer(layers, flow, options.row_kind)


def _wanda(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, options: Options
) -> NamedTensors:
    found, _ = halved_on_out_of_memory(
        lambda size: weights_times_inputs(sample, layers, size, options.row_kind),
        chunk,
        sample.model,
        sample.whole,
    )
    return found


def _fpgm(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, options: Options
) -> NamedTensors:
    return filter_distances(sample.model, layers)


# Columns on request that are not made with the derivatives; obd makes two.
_FURTHER: Mapping[str, Callable[[Objective, Sequence[AnyLayer], int, Options], NamedTensors]] = {
    "synflow": _synflow,
    "delta_loss": delta_loss_column,
    "fisher_block": model_fisher,
    "wanda": _wanda,
    "fpgm": _fpgm,
}
