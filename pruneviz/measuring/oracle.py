"""The oracle: what the loss really does when a filter is removed, for all filters or for a draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.errors import MeasureError
from pruneviz.measuring.building import build_objective, chunk_for
from pruneviz.measuring.independence import reason_against_chunks
from pruneviz.measuring.options import Options
from pruneviz.measuring.removed_rows import (
    Filters,
    RemovedRows,
    chosen_rows,
    removals_of,
    row_losses,
)
from pruneviz.measuring.repeatability import check_answers_twice
from pruneviz.measuring.rows import AnyLayer
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.measuring.snapshot import caches_emptied, rows_of
from pruneviz.model.filters import FilterOf, unwrap
from pruneviz.model.isolation import exact_float32, generators_preserved, isolated, module_modes
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Sample, as_batches, measuring_dtype, model_device
from pruneviz.model.supported import check_supported


def delta_loss(
    model: AnyNetwork, sample: Sample, filters: Filters = None, seed: int = 0, **measuring: Any
) -> pd.DataFrame:
    """Measure how the loss changes when filters are really removed, one after another.

    The ground truth for pruning measures. A filter goes with its coupled group and all that reads
    nothing else, as `pruneviz.Pruner` masks it and `pruneviz.remove` takes it out. The model does
    not change. One forward pass for each group, from its first layer on where that is exact.

    Args:
        model: Any network; it may be pruned already.
        sample: As for `pruneviz.measure`.
        filters: Number of filters to draw, or {layer: filters}. Default: all. A draw has about as
            many filters from every layer; small layers are taken whole. Filters that cannot be
            removed are not drawn.
        seed: Seed of all draws. The drawn filters are the same at every epoch. A layer gives the
            first ones of an order of its own; a larger draw takes as many or more, at times one
            fewer.
        **measuring: Options of `pruneviz.measure` that say how the loss is computed (`bn`, `loss`,
            `loss_weight`, `forward`, `dtype`, `chunk`, `hooks`) and which rows there are (`unit`,
            `layers`, `skip`, `classifier`, `trace_examples`). `temperatures`: the first counts.

    Returns:
        One row per filter: `layer`, `filter` (output channel of the unpruned layer) and
        `delta_loss` (loss without the filter minus loss with it, nats; negative if the network is
        better without). NaN for filters that are pruned already or cannot be removed;
        `attrs["not_removable"]` says why, {layer: reason}. With bn="calibrated" statistics are
        estimated anew without the filter.

    Raises:
        MeasureError: If `filters` or an option is invalid, or a loss is not finite; names the
            filter.
        PruningError: If no filter of the network can be pruned.
        DataError: If the sample is empty or not a sample.

    Example:
        >>> truth = pv.delta_loss(model, (images, labels), filters=200)
        >>> table = pv.measure(model, (images, labels)).merge(truth, on=["layer", "filter"])
        >>> pv.correlate(table, "theta_g", "delta_loss", method="spearman")
    """
    options = Options.of(seed=seed, **measuring)
    _check_options(options)
    model = unwrap(model)
    check_supported(model)
    device = model_device(model)
    with shortage_explained(model), generators_preserved(sample, device), exact_float32():
        dtype = measuring_dtype(model, options.dtype)
        batches = as_batches(sample, device, dtype, options.forward)
        layers = rows_of(model, batches, options).layers
        with (
            isolated(model, hooks=options.hooks, also=options.loss),
            module_modes(model, options.bn),
            caches_emptied(model, batches, options),
        ):
            built = build_objective(model, batches, options)
            chunk = chunk_for(built, options)
            check_answers_twice(built)
            built = replace(built, whole=reason_against_chunks(built, chunk))
            removals = removals_of(built, options)
            rows = chosen_rows(layers, removals, filters, seed)
            removed = row_losses(built, removals, rows, chunk, options)
    return _table(layers, rows, removed)


def _check_options(options: Options) -> None:
    if options.columns is not None:
        raise MeasureError("delta_loss measures one column; leave out columns")
    if options.oracle is not None:
        raise MeasureError(
            "oracle is the number of drawn filters for measure and Recorder; pass filters="
        )


def _table(
    layers: Sequence[AnyLayer], rows: Sequence[FilterOf], removed: RemovedRows
) -> pd.DataFrame:
    names = {layer.name: layer.numbers for layer in layers}
    table = pd.DataFrame(
        {
            "layer": pd.Categorical([name for name, _ in rows], categories=list(names)),
            "filter": np.array([names[name][p] for name, p in rows], dtype=np.int64),
            "delta_loss": [removed.losses.get(row, float("nan")) for row in rows],
        }
    )
    table.attrs["not_removable"] = dict(removed.reasons)
    return table
