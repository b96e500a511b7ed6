"""The loss of a model on a sample, as a function that can be differentiated chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.errors import MeasureError
from pruneviz.measuring.outputs import logits_of, own_loss
from pruneviz.model.finite import first_nonfinite_layer
from pruneviz.model.sample import (
    Batch,
    Forward,
    Inputs,
    call_with,
    examples_in,
    first_of,
    mapped,
    sample_size,
    split,
    tensors_in,
)
from pruneviz.pruning.held_entries import kept_entries

NamedTensors: TypeAlias = dict[str, Tensor]
Loss: TypeAlias = Callable[[Any, Any], Tensor]

_WATCHED_AT_ONCE = 64  # examples per forward pass when searching for a layer that is not finite
_NO_LABELS = (torch.bool, torch.int8, torch.int16, torch.int32)


@dataclass(frozen=True)
class Objective:
    """The loss L(Theta) on a sample: the mean over its examples of loss(output / T, target).

    Attributes:
        model: The network, already in the mode for measuring.
        parameters: Theta by name, in the measuring dtype and memory layout.
        buffers: The model's buffers by name.
        batches: Inputs and targets of the sample, as in `pruneviz.model.sample`.
        temperatures: One loss per temperature T.
        loss: Callable of (output, target), the mean over examples.
        rechunk: Whether batches may be split. If not, every batch is one chunk, because its
            examples share statistics.
        kept: {parameter: boolean tensor}, False at pruned entries, where every derivative is 0.
        channels_last: Whether four-dimensional parameters and chunks are channels last.
        forward: Callable of (model, inputs) that calls the network; None for `model(inputs)`.
        logits_only: Whether `output` returns the logits of the network's output alone.
    """

    model: nn.Module
    parameters: NamedTensors
    buffers: NamedTensors
    batches: Sequence[Batch]
    temperatures: tuple[float, ...]
    loss: Loss
    rechunk: bool
    kept: NamedTensors = field(default_factory=dict)
    channels_last: bool = False
    forward: Forward | None = None
    logits_only: bool = False

    @property
    def examples(self) -> int:
        """Number of examples in the sample."""
        return sample_size(self.batches)

    @property
    def device(self) -> torch.device:
        """The sample's device."""
        return tensors_in(self.batches[0])[0].device

    def chunks(self, chunk: int) -> Iterator[Batch]:
        """Split the sample into at most `chunk` examples, or into batches without `rechunk`."""
        for x, y in self.batches:
            size = chunk if self.rechunk else examples_in(x)
            for part, of_part in zip(split(x, size), split(y, size), strict=True):
                yield mapped(part, self.laid_out), of_part

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Convert a tensor to the memory layout of this objective."""
        turned = self.channels_last and tensor.ndim == 4
        form = torch.channels_last if turned else torch.contiguous_format
        return tensor.contiguous(memory_format=form)

    def output(self, x: Inputs) -> Any:
        """The network's output. Its graph reaches `parameters`; buffers stay as they are."""
        copies = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return self.read(call_with(self.model, {**self.parameters, **copies}, x, self.forward))

    def read(self, output: Any) -> Any:
        """The part of a network's output that the loss takes."""
        return logits_of(output) if self.logits_only else output

    def losses(self, x: Inputs, y: Any) -> list[Tensor]:
        """A chunk's part of L at every temperature, from one forward pass."""
        output = self.output(x)
        share = examples_in(x) / self.examples
        return [self.loss_at(output, y, t) * share for t in self.temperatures]

    def loss_at(self, output: Any, y: Any, temperature: float) -> Tensor:
        """The loss of an output at one temperature."""
        return self.loss(output if temperature == 1 else output / temperature, y)

    def first_examples(self) -> Batch:
        """Two examples, or a whole batch without `rechunk`.

        Copied, because a slice would keep the memory of its batch.
        """
        x, y = (first_of(part, 2 if self.rechunk else None) for part in self.batches[0])
        return mapped(x, lambda leaf: self.laid_out(leaf).clone()), mapped(y, Tensor.clone)


def objective(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    temperatures: tuple[float, ...],
    loss: Loss | None,
    rechunk: bool,
    dtype: torch.dtype,
    forward: Forward | None = None,
) -> Objective:
    """Build the objective of a model that is already in the mode for measuring.

    Theta is all floating-point parameters of the model, including frozen ones.

    Raises:
        MeasureError: If the output is not a tensor, the loss is not a scalar, or a cross-entropy
            label has no output.
    """
    # converted, because on a GPU measuring is faster in the default layout than in channels last
    parameters = {
        name: _copy(p, dtype).contiguous().requires_grad_()
        for name, p in model.named_parameters()
        if p.is_floating_point()
    }
    buffers = {name: _copy(b, dtype) for name, b in model.named_buffers()}
    built = Objective(
        model,
        parameters,
        buffers,
        batches,
        temperatures,
        loss or F.cross_entropy,
        rechunk,
        kept_entries(model),
        forward=forward,
    )
    built = _with_default_loss(built) if loss is None else built
    _check_loss(built)
    # oneDNN has no float64 convolutions, and torch's fallback gains nothing from channels last
    faster_turned = built.device.type == "cpu" and dtype == torch.float32
    return _turned(built) if faster_turned else built


def check_finite(
    sample: Objective, losses: Sequence[float], derivatives: Sequence[NamedTensors], what: str
) -> None:
    """Check that losses and derivatives are finite.

    Raises:
        MeasureError: If one is NaN or infinite; names `what` and the layer where it begins.
    """
    names = list(derivatives[0])
    finite = torch.stack([d[name].isfinite().all() for name in names for d in derivatives])
    finite_by_name = finite.view(-1, len(derivatives)).all(1).tolist()
    bad = [name for name, is_finite in zip(names, finite_by_name, strict=True) if not is_finite]
    if all(map(math.isfinite, losses)) and not bad:
        return
    broken = [name for name, p in sample.parameters.items() if not p.isfinite().all()]
    if broken:
        raise MeasureError(
            f"{what} is not finite because the parameter {broken[0]} is not; "
            "the training diverged before this measurement"
        )
    repair = "check the inputs, lower the learning rate, or measure with dtype=torch.float64"
    raise MeasureError(f"{what} is NaN or infinite, {_place(sample, bad)}; {repair}")


def _place(sample: Objective, bad: Sequence[str]) -> str:
    """Location of the first value that is not finite."""
    inputs = (x for x, _ in sample.chunks(_WATCHED_AT_ONCE))
    layer = first_nonfinite_layer(sample.model, sample.output, inputs)
    if layer:
        return f"first in the output of layer {layer}"
    return f"in the derivative by {bad[0]}" if bad else "in the loss itself"


def _turned(sample: Objective) -> Objective:
    """The objective in channels last, if the network can be called with such tensors."""
    turned = replace(sample, channels_last=True)
    parameters = {
        name: turned.laid_out(p.detach()).requires_grad_() for name, p in sample.parameters.items()
    }
    turned = replace(turned, parameters=parameters)
    try:
        _check_loss(turned)
    except RuntimeError:  # a network that views activations as vectors needs the ordinary layout
        return sample
    return turned


def _copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # never an alias, because a network may write into its weights in place
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def _own_loss(output: Any, target: Any) -> Tensor:
    """The loss that a network computes by itself."""
    found = own_loss(output)
    if found is None:
        raise MeasureError(
            "the model's output has a loss for some batches only; pass loss=callable"
        )
    return found


def _with_default_loss(sample: Objective) -> Objective:
    """The objective with the loss in the network's output, or cross-entropy of its logits."""
    output = sample.output(sample.first_examples()[0])
    if own_loss(output) is not None:
        return replace(sample, loss=_own_loss)
    only = not isinstance(output, Tensor) and logits_of(output) is not None
    return replace(sample, logits_only=only)


def _check_loss(sample: Objective) -> None:
    x, y = sample.first_examples()
    output = sample.output(x)
    if not isinstance(output, Tensor):
        _check_other_output(sample, output)
    elif sample.loss is F.cross_entropy:
        _check_target(y)
        _check_labels(sample, output, y)
    value = sample.loss(output, y)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        is_tensor = isinstance(value, Tensor)
        shape = f"tensor of shape {tuple(value.shape)}" if is_tensor else type(value).__name__
        raise MeasureError(
            f"the loss is a {shape}; it must be the mean over the examples, "
            "one number with a gradient by the parameters"
        )


def _check_other_output(sample: Objective, output: object) -> None:
    """Check that an output that is not a tensor has a custom loss and no temperature."""
    came = f"the model returns {type(output).__name__}"
    if sample.loss is F.cross_entropy:
        raise MeasureError(f"{came}, not a tensor of logits; pass loss=callable(output, target)")
    if sample.temperatures != (1.0,):
        raise MeasureError(f"{came}, which no temperature divides; pass temperatures=(1.0,)")


def _check_target(y: Any) -> None:
    if not isinstance(y, Tensor):
        raise MeasureError(
            f"the target is a {type(y).__name__}, and the model's output has no loss; give "
            "(inputs, labels), or pass loss=callable(output, target)"
        )


def _check_labels(sample: Objective, output: Tensor, y: Tensor) -> None:
    """Check labels for cross-entropy: classes within the outputs, or probabilities."""
    if y.is_floating_point():
        fits = y.shape == output.shape
    else:
        fits = y.shape == output.shape[:1] + output.shape[2:] and output.ndim > 1
    if not fits or y.dtype in _NO_LABELS:
        raise MeasureError(
            f"for {len(y)} examples, {y.dtype} labels of shape {tuple(y.shape)} do not fit outputs "
            f"of shape {tuple(output.shape)}; give int64 labels, one per example, or probabilities "
            "of the outputs' shape, or pass loss=callable"
        )
    labels = [y for _, y in sample.batches if not y.is_floating_point()]
    low = min((int(y.min()) for y in labels), default=0)
    high = max((int(y.max()) for y in labels), default=0)
    classes = output.shape[1]
    if low < 0 or high >= classes:
        raise MeasureError(
            f"labels run from {low} to {high}, but the network has {classes} outputs; "
            f"labels must lie in 0..{classes - 1}"
        )
