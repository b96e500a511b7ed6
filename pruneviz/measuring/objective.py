"""The loss of a model on a sample."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from pruneviz.errors import MeasureError
from pruneviz.model.sample import Batch, sample_size
from pruneviz.pruning.held_entries import kept_entries

Named: TypeAlias = dict[str, Tensor]


Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """The loss L(Theta) on a sample, at one or more temperatures: the mean over all examples of loss(output / T, target).

    `parameters` and `buffers` are the model's own, by name, in the dtype and layout of the measurement. With `rechunk` the
    batches may be cut freely; without it every batch is one chunk, because its examples share statistics. `kept` says which entries
    of parameters are not pruned; pruned ones are no parameters, and every derivative by them is 0. `channels_last` is how chunks of
    images, and the parameters, are laid out in memory.
    """

    model: nn.Module
    parameters: Named
    buffers: Named
    batches: Sequence[Batch]
    temperatures: tuple[float, ...]
    loss: Loss
    rechunk: bool
    kept: Named = field(default_factory=dict)
    channels_last: bool = False

    @property
    def examples(self) -> int:
        """Number of examples in the sample."""
        return sample_size(self.batches)

    @property
    def device(self) -> torch.device:
        """Where it is all computed."""
        return self.batches[0][0].device

    def chunks(self, chunk: int) -> Iterator[Batch]:
        """The sample in pieces of at most `chunk` examples (whole batches where they may not be cut)."""
        for x, y in self.batches:
            pieces = zip(x.split(chunk), y.split(chunk), strict=True) if self.rechunk else [(x, y)]
            yield from ((self.laid_out(part), of_part) for part, of_part in pieces)

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor as all of four dimensions lie in memory here."""
        form = (
            torch.channels_last
            if self.channels_last and tensor.ndim == 4
            else torch.contiguous_format
        )
        return tensor.contiguous(memory_format=form)

    def output(self, x: Tensor) -> Tensor:
        """The network's output; the graph reaches `parameters`, buffers are written to copies only."""
        copies = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return functional_call(self.model, (self.parameters, copies), (x,))

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """This chunk's share of L at every temperature, from one forward pass."""
        output = self.output(x)
        share = len(x) / self.examples
        return [self.loss(output if t == 1 else output / t, y) * share for t in self.temperatures]


def objective(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    temperatures: tuple[float, ...],
    loss: Loss | None,
    rechunk: bool,
    dtype: torch.dtype,
) -> Objective:
    """Build the objective of a model that is already in the mode in which it is to be measured.

    Theta is all floating-point parameters of the model, frozen ones included. Errors: `MeasureError` for an output that is no
    tensor, a loss that is not one number, and, with cross-entropy, labels that the network has no output for.
    """
    # laid out anew, because a network that trains channels last is not measured fastest that way on a GPU
    parameters = {
        name: _alias(p, dtype).contiguous().requires_grad_()
        for name, p in model.named_parameters()
        if p.is_floating_point()
    }
    buffers = {name: _alias(b, dtype) for name, b in model.named_buffers()}
    built = Objective(
        model,
        parameters,
        buffers,
        batches,
        temperatures,
        loss or F.cross_entropy,
        rechunk,
        kept_entries(model),
    )
    _check_loss(built)
    # of float64 oneDNN has no convolutions, and what torch falls back to gains nothing
    return (
        _turned(built) if batches[0][0].device.type == "cpu" and dtype == torch.float32 else built
    )


def check_finite(
    sample: Objective, losses: Sequence[float], derivatives: Sequence[Named], what: str
) -> None:
    """Raise `MeasureError` that names the layer when a loss or a derivative is NaN or infinite."""
    finite = (
        torch.stack([d[name].isfinite().all() for name in derivatives[0] for d in derivatives])
        .view(-1, len(derivatives))
        .all(1)
    )
    bad = [
        name
        for name, is_finite in zip(derivatives[0], finite.tolist(), strict=True)
        if not is_finite
    ]
    if all(map(math.isfinite, losses)) and not bad:
        return
    broken = [name for name, p in sample.parameters.items() if not p.isfinite().all()]
    if broken:
        raise MeasureError(
            f"{what} is not finite because the parameter {broken[0]} is not; the training diverged before this measurement"
        )
    where = _first_nonfinite_layer(sample)
    found = (
        f"first in the output of layer {where}"
        if where
        else f"in the derivative by {bad[0]}"
        if bad
        else "in the loss itself"
    )
    repair = "check the inputs, lower the learning rate, or measure with dtype=torch.float64"
    raise MeasureError(f"{what} is NaN or infinite, {found}; {repair}")


def _turned(sample: Objective) -> Objective:
    """The same objective laid out channels last, if the network can be called with such tensors."""
    turned = replace(sample, channels_last=True)
    turned = replace(
        turned,
        parameters={
            name: turned.laid_out(p.detach()).requires_grad_()
            for name, p in sample.parameters.items()
        },
    )
    try:
        _check_loss(turned)
    except (
        RuntimeError
    ):  # a network that views its activations as vectors needs the ordinary layout
        return sample
    return turned


def _alias(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach()


def _check_loss(sample: Objective) -> None:
    x, y = first_examples(sample)
    output = sample.output(x)
    if not isinstance(output, Tensor):
        if sample.loss is F.cross_entropy:
            raise MeasureError(
                f"the model returns {type(output).__name__}, not a tensor of logits; pass loss=callable(output, target)"
            )
        if sample.temperatures != (1.0,):
            raise MeasureError(
                f"the model returns {type(output).__name__}, which no temperature divides; pass temperatures=(1.0,)"
            )
    elif sample.loss is F.cross_entropy:
        _check_labels(sample, output, y)
    value = sample.loss(output, y)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        came = (
            f"a tensor of shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else f"a {type(value).__name__}"
        )
        raise MeasureError(
            f"the loss is {came}; it must be the mean over the examples, one number with a gradient by the parameters"
        )


def first_examples(sample: Objective) -> Batch:
    """Two examples, or a whole batch where it may not be cut; copies, since a slice would keep the memory of its whole batch."""
    x, y = (part[: 2 if sample.rechunk else None] for part in sample.batches[0])
    return sample.laid_out(x).clone(), y.clone()


def _check_labels(sample: Objective, output: Tensor, y: Tensor) -> None:
    fits = (
        y.shape == output.shape
        if y.is_floating_point()
        else y.shape == output.shape[:1] + output.shape[2:] and output.ndim > 1
    )
    if not fits or y.dtype in (torch.bool, torch.int8, torch.int16, torch.int32):
        came = f"for {len(y)} examples, {y.dtype} labels of shape {tuple(y.shape)} do not fit outputs of shape {tuple(output.shape)}"
        raise MeasureError(
            f"{came}; give int64 labels, one per example, or probabilities of the outputs' shape, or pass loss=callable"
        )
    labels = [y for _, y in sample.batches if not y.is_floating_point()]
    low, high = (
        min((int(y.min()) for y in labels), default=0),
        max((int(y.max()) for y in labels), default=0),
    )
    classes = output.shape[1]
    if low < 0 or high >= classes:
        raise MeasureError(
            f"labels run from {low} to {high}, but the network has {classes} outputs; labels must lie in 0..{classes - 1}"
        )


def _first_nonfinite_layer(sample: Objective) -> str | None:
    found: list[str] = []

    def hook_for(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return hook

    leaves = [
        (name, module)
        for name, module in sample.model.named_modules()
        if not any(module.children())
    ]
    handles = [module.register_forward_hook(hook_for(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            for x, _ in sample.chunks(64):
                sample.output(x)
                if found:
                    break
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def calibrated_buffers(sample: Objective) -> Objective:
    """The objective with running statistics that are the average of those of the sample's batches.

    This is torch's own procedure with momentum=None: reset, one forward pass in training mode per batch, cumulative average
    (the variance unbiased). A pair of tensors is one batch, which needs the memory of one forward pass of all its examples.
    """
    statistics = {
        f"{name}.{buffer}"
        for name, norm in _norms(sample.model)
        for buffer, _ in norm.named_buffers()
    }
    buffers = {
        name: torch.zeros_like(b) if name in statistics else b.clone()
        for name, b in sample.buffers.items()
    }
    with _estimating(sample.model), torch.no_grad():
        for x, _ in sample.batches:
            functional_call(sample.model, (sample.parameters, buffers), (x,))
    return dataclasses.replace(sample, buffers=buffers)


def _norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [
        (name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)
    ]


@contextmanager
def _estimating(model: nn.Module) -> Iterator[None]:
    before = [(norm, norm.training, norm.momentum) for _, norm in _norms(model)]
    try:
        for norm, _, _ in before:
            norm.training, norm.momentum = True, None
        yield
    finally:
        for norm, training, momentum in before:
            norm.training, norm.momentum = training, momentum
