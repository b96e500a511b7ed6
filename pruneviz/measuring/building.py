"""Build the objective of a network: its parameters, its loss, and whether batches may be split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.measuring.calibration import calibrated
from pruneviz.measuring.chunking import automatic_chunk, halved_on_out_of_memory
from pruneviz.measuring.labels import check_labels
from pruneviz.measuring.losses import CrossEntropy, Loss, labels_of, loss_of_output, understood
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.outputs import logits_of, own_loss
from pruneviz.measuring.parts import (
    NO_MEAN,
    REFUSALS,
    TREE,
    reason_against_splitting,
    with_parts,
)
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.model.isolation import copied
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.sample import (
    Batch,
    Forward,
    examples_in,
    is_splittable,
    mapped,
    measuring_dtype,
)
from pruneviz.model.theta import theta_of
from pruneviz.pruning.held_entries import kept_entries

SHARED = "bn='batch' normalises every batch by its own statistics"


def build_objective(
    model: nn.Module,
    batches: Sequence[Batch],
    options: Options,
    whole: str = "",
    ranks: Ranks = ALONE,
) -> Objective:
    """The loss on these batches, for a model that is already in the mode `options.bn`.

    Args:
        model: The network.
        batches: The sample.
        options: Measuring options.
        whole: Why batches cannot be split, if that is known.
        ranks: The processes that share the sample; all measure the network of rank 0.
    """
    sample = objective(
        model,
        batches,
        temperatures=options.temperatures,
        loss=options.loss,
        whole=SHARED if options.bn == "batch" else whole,
        dtype=measuring_dtype(model, options.dtype),
        forward=options.forward,
        loss_weight=options.loss_weight,
        theta=theta_of(model, options.parameters),
        ranks=ranks,
    )
    return calibrated(sample) if options.bn == "calibrated" else sample


def chunk_for(sample: Objective, options: Options) -> int:
    """The requested chunk, or one that fits into memory; unused if batches must stay whole."""
    return 1 if sample.whole else options.chunk or automatic_chunk(sample)


def objective(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    temperatures: tuple[float, ...],
    loss: Loss | None,
    whole: str,
    dtype: torch.dtype,
    forward: Forward | None = None,
    loss_weight: Callable[..., Any] | None = None,
    theta: Collection[str] | None = None,
    ranks: Ranks = ALONE,
) -> Objective:
    """Build the objective of a model that is already in the mode for measuring.

    Args:
        model: The network, unwrapped.
        batches: The sample.
        temperatures, loss, dtype, forward, loss_weight: As for `pruneviz.measure`.
        whole: Why batches stay whole; "" to find out whether they may be split.
        theta: Names of the parameters in Theta. Default: all floating-point parameters, including
            frozen ones.
        ranks: The processes that share the sample.

    Raises:
        MeasureError: If the output is not a tensor, the loss is not a scalar, or a cross-entropy
            label has no output.
    """
    parameters, constants = _tensors(model, dtype, theta)
    # running statistics may differ between ranks, as each has trained on batches of its own
    buffers = [constants[name] for name, _ in model.named_buffers()]
    ranks.take_first("the buffers of the network", buffers)
    known = understood(loss)
    built = Objective(
        model,
        parameters,
        constants,
        batches,
        temperatures,
        known or _own_copy(loss, dtype),
        whole,
        kept_entries(model),
        forward=forward,
        complex=frozenset(name for name, p in model.named_parameters() if p.is_complex()),
        ranks=ranks,
    )
    built = replace(built, settled=_settled(built))
    if not whole:
        reason = ranks.reason("how batches are split", reason_against_splitting(built))
        built = replace(built, whole=reason)
    with shortage_explained(model, built.whole):
        built = with_parts(_with_checked_loss(built, by_default=loss is None), loss_weight)
        built = replace(built, whole=ranks.reason("how the loss is split", built.whole))
        # oneDNN has no float64 convolutions, and torch's fallback gains nothing from channels last
        faster_turned = built.device.type == "cpu" and dtype == torch.float32
        return _turned(built) if faster_turned else built


def _with_checked_loss(sample: Objective, *, by_default: bool) -> Objective:
    """The objective with a loss that runs on its examples."""
    x, y = sample.first_examples()
    output = sample.output(x)
    sample = _with_loss_of(sample, output, by_default=by_default)
    if not _loss_runs(sample, output, y) and sample.rechunk:
        sample = replace(sample, whole=NO_MEAN)  # such as weights of all examples in the loss
        x, y = sample.first_examples()
        output = sample.output(x)
    _check_loss(sample, sample.read(output), y, by_default=by_default)
    return sample


def _tensors(
    model: nn.Module, dtype: torch.dtype, theta: Collection[str] | None
) -> tuple[NamedTensors, NamedTensors]:
    """Copies of Theta, and of all other tensors: a network may write into its own in place."""
    # converted, because on a GPU measuring is faster in the default layout than in channels last
    every = {name: copied(p, dtype).contiguous() for name, p in model.named_parameters()}
    chosen = {
        name: (torch.view_as_real(p) if p.is_complex() else p).requires_grad_()
        for name, p in every.items()
        if (p.is_floating_point() or p.is_complex()) and (theta is None or name in theta)
    }
    constants = {name: p for name, p in every.items() if name not in chosen}
    return chosen, constants | {name: copied(b, dtype) for name, b in model.named_buffers()}


def _settled(sample: Objective) -> NamedTensors:
    """Embeddings with `max_norm` as a pass over the whole sample leaves them."""
    limited = {
        f"{name}.weight".lstrip(".")
        for name, module in sample.model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None
    } & set(sample.parameters)
    if not limited:
        return {}
    whole = sample.whole or ("" if all(map(is_splittable, sample.batches)) else TREE)
    every = replace(sample, whole=whole)

    def settle(size: int) -> NamedTensors:
        found = {name: sample.parameters[name].detach().clone() for name in limited}
        for x, _ in every.chunks(size):
            with torch.no_grad():
                every.output(x)  # from the live values: every pass undoes what the last one wrote
            for name, before in found.items():
                now, live = sample.parameters[name].detach(), sample.model.get_parameter(name)
                found[name] = torch.where(now != live.to(now.dtype), now, before)
        return found

    largest = max(examples_in(x) for x, _ in sample.batches)
    return halved_on_out_of_memory(settle, largest, sample.model, whole)[0]


def _loss_runs(sample: Objective, output: Any, y: Any) -> bool:
    """Whether a loss other than a cross-entropy, which is checked by its labels, runs on these."""
    if isinstance(sample.loss, CrossEntropy):
        return True
    try:
        with torch.no_grad():
            sample.loss_at(mapped(output, Tensor.clone), y, 1.0)
    except REFUSALS as error:
        if is_out_of_memory(error):
            raise
        return False
    return True


def _own_copy(loss: Loss | None, dtype: torch.dtype) -> Loss:
    """A copy of a loss that is a module, which may keep state, in the measuring dtype."""
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss).to(dtype)
    return loss or CrossEntropy()


def _with_loss_of(sample: Objective, output: Any, *, by_default: bool) -> Objective:
    """The objective with the loss in the network's output, or cross-entropy of its logits."""
    if not isinstance(sample.loss, CrossEntropy):
        return sample
    if by_default and own_loss(output) is not None:
        _check_one_loss(sample)
        return replace(sample, loss=loss_of_output)
    only = not isinstance(output, Tensor) and logits_of(output) is not None
    return replace(sample, logits_only=only)


def _check_one_loss(sample: Objective) -> None:
    """Check that a target is not left unused beside the loss of the network's output."""
    x, y = sample.batches[0]
    if sample.forward is None and y is not x and labels_of((x, y)) is None:
        raise MeasureError(
            "the model's output has a loss of its own, and the sample a target; pass a loss, such "
            "as loss=lambda output, target: F.cross_entropy(output['logits'], target)"
            f"{_and_temperatures(sample)}"
        )


def _turned(sample: Objective) -> Objective:
    """The objective in channels last, if the network can be called with such tensors."""
    turned = replace(sample, channels_last=True)
    parameters = {
        name: turned.laid_out(p.detach()).requires_grad_() for name, p in sample.parameters.items()
    }
    turned = replace(turned, parameters=parameters)
    try:
        x, y = turned.first_examples()
        turned.loss_at(turned.output(x), y, 1.0)
    except (RuntimeError, MeasureError) as error:
        if is_out_of_memory(error):
            raise
        return sample  # a network that views activations as vectors needs the ordinary layout
    return turned


def _check_loss(sample: Objective, output: Any, y: Any, *, by_default: bool) -> None:
    loss = sample.loss
    if not isinstance(output, Tensor):
        _check_other_output(sample, output)
    elif isinstance(loss, CrossEntropy):
        entry = sample.logits_only
        check_labels(loss, sample.batches, output, y, by_default=by_default, entry=entry)
    value = sample.loss_at(output, y, 1.0)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        is_tensor = isinstance(value, Tensor)
        shape = f"tensor of shape {tuple(value.shape)}" if is_tensor else type(value).__name__
        raise MeasureError(
            f"the loss is a {shape}; it must be the mean over the examples, "
            "one number with a gradient by the parameters"
        )
    _check_reads_copies(sample.model, value)


def _check_reads_copies(model: nn.Module, value: Tensor) -> None:
    """Check that a loss reaches parameters through the network that is called, not beside it."""
    own = {id(p): name for name, p in model.named_parameters()}
    seen, stack = set(), [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = own.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise MeasureError(
                f"the loss reads the parameter {name} of the network itself, but the network is "
                "measured with copies of its parameters, so this derivative would be missing; let "
                "the network return it, as in forward=lambda model, batch: (model(batch[0]), "
                "penalty(model)), with a loss of both"
            )
        stack += [child for child, _ in node.next_functions]


def _check_other_output(sample: Objective, output: object) -> None:
    """Check that an output that is not a tensor has a custom loss and no temperature."""
    came = f"the model returns {type(output).__name__}"
    if isinstance(sample.loss, CrossEntropy):
        raise MeasureError(
            f"{came}, not a tensor of logits; pass loss=callable(output, target)"
            f"{_and_temperatures(sample)}"
        )
    if _and_temperatures(sample):
        raise MeasureError(f"{came}, which no temperature divides; pass temperatures=1.0")


def _and_temperatures(sample: Objective) -> str:
    """The second half of a repair: a loss of anything but logits has no temperature."""
    return "" if sample.temperatures == (1.0,) else " and temperatures=1.0"
