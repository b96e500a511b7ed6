"""One snapshot: raw columns of a network on a sample, one row per filter, weight or unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from pruneviz.analysis.formulas import LAYER_WEIGHTS, SAMPLE_SIZE
from pruneviz.analysis.noise import stated_degrees
from pruneviz.errors import MeasureError
from pruneviz.log import schema
from pruneviz.measuring.building import build_objective, chunk_for
from pruneviz.measuring.cheap_columns import CheapColumns
from pruneviz.measuring.derivative_columns import Derivatives, derivative_columns
from pruneviz.measuring.further_columns import further_columns
from pruneviz.measuring.half_samples import half_columns, half_samples
from pruneviz.measuring.independence import reason_against_chunks
from pruneviz.measuring.losses import Loss
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.measuring.repeatability import check_answers_twice
from pruneviz.measuring.rows import AnyLayer, pruned_mask, rows_per_filter
from pruneviz.measuring.selection import Rows, choose_rows
from pruneviz.measuring.sharing import check_equal, shared
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.measuring.strata import strata_of
from pruneviz.model.caches import without_caches
from pruneviz.model.filters import unwrap
from pruneviz.model.isolation import exact_float32, generators_preserved, isolated, module_modes
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Batch, Sample, as_batches, first_of, measuring_dtype, model_device
from pruneviz.model.supported import check_supported
from pruneviz.model.units import Grouping


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Columns of one measurement that need the sample, and facts about the whole network.

    Attributes:
        filters: Requested derivative and data-free columns, float64, without keys, in the row order
            of `CheapColumns.table`. Empty if nothing was measured.
        layers: The layers of these rows.
        sample_loss: Mean loss at the first temperature, in nats; NaN where not measured.
        g_norm2: ||g||^2 at the first temperature; NaN where not measured.
        ghg: g^T H g at the first temperature; NaN where not measured.
        hg_norm2: ||Hg||^2 at the first temperature; NaN where Hg was not formed in full.
        terms: Number of examples, or of batches that cannot be split, over which standard errors
            are; 0 where not measured.
        degrees: Degrees of freedom of these errors, by the names of facts of a run.
        halves: The columns that depend on the sample, measured on either half of it, by the name of
            the half; none unless `Options.samples` is 2.
    """

    filters: pd.DataFrame
    layers: Sequence[AnyLayer] = ()
    sample_loss: float = float("nan")
    g_norm2: float = float("nan")
    ghg: float = float("nan")
    hg_norm2: float = float("nan")
    terms: int = 0
    degrees: Mapping[str, float] = field(default_factory=dict)
    halves: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def measure(
    model: AnyNetwork,
    sample: Sample,
    *,
    temperatures: float | Sequence[float] = (1.0, 200.0),
    bn: str = "eval",
    columns: str | Sequence[str] | None = None,
    chunk: int | None = None,
    loss: Loss | None = None,
    dtype: torch.dtype | None = None,
    classifier: bool = False,
    unit: str | Grouping = "filter",
    loss_weight: Callable[..., Any] | None = None,
    forward: Callable[..., Any] | None = None,
    parameters: str | Sequence[str] = "all",
    layers: str | Sequence[str] | None = None,
    skip: str | Sequence[str] = (),
    trace_examples: int | None = 2,
    kept: str = "masks",
    hooks: bool = False,
    oracle: int | None = None,
    seed: int = 0,
    probes: int = 16,
    errors: str = "default",
    strata: str | None = "auto",
    population: int | Mapping[int, int] | None = None,
    ranks: Literal["alone", "share"] = "alone",
) -> pd.DataFrame:
    """Measure every filter, single weight or unit of a network on a sample.

    The model does not change: parameters, gradients, buffers, modes and random state are preserved.

    Args:
        model: Any network. All weights that act as linear maps, except the classifier, are found
            by tracing one forward pass; `pruneviz.coverage` lists them.
        sample: A pair of inputs and target, or an iterable of such batches, such as a DataLoader.
            Inputs are a tensor [N, ...], a tuple of positional arguments or a mapping of keyword
            arguments; a mapping without target holds its labels itself.
        temperatures: Divisors of the logits. The first is used for `theta_g` and `theta_hg`; each
            further T adds a column `theta_hg_tT` with both g and H at T.
        bn: Batch-norm mode. "eval" uses the running statistics as they are; "calibrated"
            re-estimates them on the sample; "batch" normalises every batch of the sample by its own
            statistics.
        columns: Columns to measure. Default: all except those on request, which are expensive
            (`pruneviz.log.schema.REQUEST_COLUMNS`). "default" among others stands for these.
        chunk: Number of examples differentiated at once. Limits memory; affects only rounding.
            Default: as many as fit.
        loss: Callable of (output, target) that returns one number. Default: the loss in the
            network's output, if it has one, or cross-entropy of its logits. Batches are split only
            if it is a sum or a mean over examples.
        dtype: Floating-point type of the computation, such as torch.float64 for exact work.
            Default: float64 if a parameter is, else float32, also for half precision.
        classifier: Whether to measure the output layer too.
        unit: Row kind: "filter" or "weight", or units over several parameters: "head", "neuron",
            "channel" (of embeddings), "expert", "residual" (channels of the residual stream), or a
            grouping {name: [(parameter, dim, indices), ...]}, with a list of such lists for several
            units of one name.
        loss_weight: Callable of a target that returns what `loss` divides its sum by, such as the
            number of tokens that count: a tensor, whose entries are added up, or one number.
        forward: Callable of (model, batch) that returns the output; batches may then be anything
            with tensors, and `loss` gets (output, target) for a pair, else (output, batch).
        parameters: Theta: "all", "trainable" (those that require a gradient), or names and patterns
            of parameters. Rows of others are left out.
        layers: Names or patterns (`*`, `?`) of the layers to measure, also of any parameter, such
            as "attn.in_proj_weight" or "*.bias". A name chooses the classifier too; a pattern that
            matches no layer is matched with all parameters. Default: all linear maps.
        skip: Names or patterns of layers to leave out.
        trace_examples: Number of examples that the network is traced with; None for the whole
            first batch, which is also tried if a few do not run.
        kept: What counts as kept: "masks", all that pruneviz did not prune, or "nonzero", of these
            all with a weight that is not zero.
        hooks: Whether your own hooks run too. By default only hooks that define the network's
            function do: of `torch.nn.utils`, of the network's own modules, and forward hooks that
            return a value.
        oracle: Number of filters for which the column `delta_loss` is measured, drawn as by
            `pruneviz.delta_loss`. With this column and no number, all are.
        seed: Seed of all draws, of filters, probes and labels.
        probes: Number of random probes of columns on request: vectors for `obd`, labels per
            example for `fisher_block`.
        errors: "full" adds the standard errors of `theta_hg` and `abs_theta_g`, and for units and
            single weights that of `theta_g`, if these columns are measured: `theta_hg_se`,
            `abs_theta_g_se`, `theta_g_se`. They come from 8 random half samples and take a few
            times as long as everything else. "default" leaves them out unless `columns` names them.
        strata: How the sample was drawn, for its standard errors: "classes", a fixed number of
            every class; None, at random from everything; "auto" takes classes where class sizes
            differ by at most one and each is 2 or more.
        population: Number of examples that the sample was drawn from without replacement, or
            {label: number}, if these are what it stands for. Default: a distribution.
        ranks: Under `torch.distributed`, "share" measures with all ranks: each calls this with the
            same arguments, takes its share of the sample and gets the same table. "alone" leaves
            other ranks out.

    Returns:
        One row per filter, weight or unit: `layer` (name in `named_modules()`, of a parameter, or
        of a group of units), `filter` (output channel of the unpruned layer, or number of the
        unit), with unit="weight" also `weight` (position in the filter's flattened weights),
        `kept`, and the columns as float64, with the units listed in `pruneviz.log.schema.FILTERS`.
        `attrs["se_df"]` are the degrees of freedom of the standard errors, `attrs["se_df_drawn"]`
        those of errors from half samples.
        Undefined values are NaN: `sigma` without a batch norm, derivatives of pruned rows. Columns
        of single weights summed over a filter or unit give its columns.

    Raises:
        DataError: If the sample is empty or not a sample.
        MeasureError: If an option is invalid, the model has no filters, a label is out of range, or
            the loss or a derivative is not finite; names the layer.

    References:
        Lubana and Dick, "A Gradient Flow Framework For Analyzing Network Pruning", ICLR 2021.

    Example:
        >>> table = pv.measure(model, (images, labels))
        >>> table.groupby("layer")["theta_g"].sum()
    """
    options = Options.of(
        temperatures=temperatures,
        bn=bn,
        columns=columns,
        chunk=chunk,
        loss=loss,
        dtype=dtype,
        classifier=classifier,
        unit=unit,
        loss_weight=loss_weight,
        forward=forward,
        parameters=parameters,
        layers=layers,
        skip=skip,
        trace_examples=trace_examples,
        kept=kept,
        hooks=hooks,
        oracle=oracle,
        seed=seed,
        probes=probes,
        errors=errors,
        strata=strata,
        population=population,
    )
    _check_no_changes(options)
    with shared(model, ranks) as (network, group), group.together("pv.measure"):
        snapshot = take_snapshot(network, sample, options, check=True, ranks=group)
        return group.first("its table", lambda: _table(network, snapshot, options))


def _table(network: nn.Module, snapshot: Snapshot, options: Options) -> pd.DataFrame:
    """The table of `measure`: cheap and measured columns, with facts that measures need."""
    with shortage_explained(network):
        cheap = CheapColumns(network, snapshot.layers, options.row_kind, options.kept)
        table = _beside(cheap.table(cheap.read()), snapshot.filters, options.wanted())
    if snapshot.terms:
        table.attrs[SAMPLE_SIZE] = snapshot.terms  # for measures that need it
        table.attrs.update(snapshot.degrees)
    if options.row_kind == "weight":
        table.attrs[LAYER_WEIGHTS] = {
            str(k): int(n) for k, n in table["layer"].value_counts().items()
        }
    return table


def _check_no_changes(options: Options) -> None:
    changes = [name for name in options.wanted() if name in schema.CHANGE_COLUMNS]
    if changes:
        raise MeasureError(
            f"{', '.join(changes)} compares two epochs, which one snapshot cannot; leave it out, "
            "or request it from a Recorder"
        )


def take_snapshot(
    model: AnyNetwork,
    sample: Sample,
    options: Options,
    layers: Sequence[AnyLayer] | None = None,
    *,
    check: bool = False,
    whole: str = "",
    ranks: Ranks = ALONE,
) -> Snapshot:
    """Measure what `options` ask for, except the cheap columns.

    Args:
        model: The network; it does not change.
        sample: Inputs [N, ...] and targets [N], or an iterable of such batches.
        options: What to measure, and how.
        layers: The network's layers, if it was already traced.
        check: Whether to check on a few examples that the network gives the same answer twice, and
            on all of them that batches may be cut into chunks.
        whole: Why batches cannot be split, if that is known.
        ranks: The processes that share the sample.
    """
    model = unwrap(model)
    check_supported(model)
    device = model_device(model)
    with shortage_explained(model), generators_preserved(sample, device), exact_float32():
        dtype = measuring_dtype(model, options.dtype)
        batches = as_batches(sample, device, dtype, options.forward)
        check_equal(ranks, model, options, batches if check else None)
        layers = layers or rows_of(model, batches, options).layers
        with (
            isolated(model, hooks=options.hooks, also=options.loss),
            module_modes(model, options.bn),
            caches_emptied(model, batches, options),
        ):
            how = layers, options, whole, ranks
            found = _snapshot(model, batches, *how, check=check)
            if options.samples == 1:
                return found
            return replace(found, halves=_halves(model, batches, *how))


def rows_of(model: nn.Module, batches: Sequence[Batch], options: Options) -> Rows:
    """The layers or units that a table of these options describes, and what is left out.

    Args:
        model: The network, unwrapped; it does not change.
        batches: The sample, on the network's device.
        options: Measuring options.

    Raises:
        MeasureError: If nothing can be measured, or a name matches nothing.
    """

    def build() -> Objective:
        return build_objective(model, batches, options)

    with (
        shortage_explained(model),
        exact_float32(),
        isolated(model, hooks=options.hooks, also=options.loss),
        module_modes(model, options.bn),
    ):
        return choose_rows(model, batches[0][0], options, build)


def caches_emptied(
    model: nn.Module, batches: Sequence[Batch], options: Options
) -> AbstractContextManager[None]:
    """Context in which modules of an isolated model keep no tensors made from parameters."""
    inputs = first_of(batches[0][0], options.trace_examples)
    return without_caches(model, inputs, options.forward, hooks=options.hooks)


def _snapshot(
    model: nn.Module,
    batches: list[Batch],
    layers: Sequence[AnyLayer],
    options: Options,
    known: str,
    ranks: Ranks,
    *,
    check: bool = False,
) -> Snapshot:
    elsewhere = (*schema.CHEAP_OF_UNIT[options.row_kind], *schema.CHANGE_COLUMNS)
    wanted = [name for name in options.wanted() if name not in elsewhere]
    whole, terms, degrees = Derivatives({}), 0, dict[str, float]()
    # `theta` of single weights counts too, so that network facts are measured with it alone
    if set(options.wanted()) - {*schema.CHEAP_COLUMNS, *schema.CHANGE_COLUMNS}:
        sample = build_objective(model, batches, options, known, ranks)
        chunk = chunk_for(sample, options)
        if check:
            check_answers_twice(sample)
            sample = replace(sample, whole=reason_against_chunks(sample, chunk))
        strata = strata_of(sample, options)
        whole = derivative_columns(sample, layers, wanted, chunk, options.row_kind, strata)
        degrees = stated_degrees(strata.degrees, wanted, options.row_kind)
        terms = len(batches) if sample.whole else sample.examples
        whole.columns.update(further_columns(sample, layers, wanted, chunk, options, strata))
    found = {name: _without_pruned(model, layers, whole.columns[name], options) for name in wanted}
    rows = sum(layer.filters * rows_per_filter(model, layer, options.row_kind) for layer in layers)
    frame = pd.DataFrame(found, index=pd.RangeIndex(rows), copy=False)
    facts = (whole.sample_loss, whole.g_norm2, whole.ghg, whole.hg_norm2)
    return Snapshot(frame, layers, *facts, terms, degrees)


def _halves(
    model: nn.Module,
    batches: list[Batch],
    layers: Sequence[AnyLayer],
    options: Options,
    known: str,
    ranks: Ranks,
) -> dict[str, pd.DataFrame]:
    """The columns that depend on the sample, on either half of it; nothing if there are none."""
    columns = half_columns(options.wanted())
    if not columns:
        return {}
    of_half = replace(options, columns=columns, samples=1, errors="default")
    return {
        name: _snapshot(model, half, layers, of_half, known, ranks).filters
        for name, half in half_samples(batches, options, known).items()
    }


def _without_pruned(
    model: nn.Module, layers: Sequence[AnyLayer], column: NamedTensors, options: Options
) -> np.ndarray:
    """A column over all layers, NaN at pruned rows."""
    parts = []
    for layer in layers:
        values = column[layer.name].double()
        pruned = pruned_mask(model, layer, options.row_kind)
        if pruned is not None:
            values = values.masked_fill(pruned.to(values.device), float("nan"))
        parts.append(values)
    column_values: np.ndarray = torch.cat(parts).cpu().numpy()
    return column_values


def _beside(cheap: pd.DataFrame, measured: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """Keys, `kept` and the wanted columns in order."""
    keys = [name for name in ("layer", "filter", "weight", "kept") if name in cheap]
    found = {name: (measured if name in measured else cheap)[name] for name in [*keys, *wanted]}
    return pd.DataFrame(found, copy=False)
