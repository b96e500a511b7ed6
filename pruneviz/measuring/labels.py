"""Check that targets fit a cross-entropy: labels within the outputs, or probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pruneviz.errors import MeasureError
from pruneviz.measuring.losses import CrossEntropy
from pruneviz.model.sample import Batch

_LABELS = (torch.int64, torch.uint8)  # types of labels that torch's cross-entropy takes
_OTHER_LOSSES = (
    "pass loss=F.mse_loss for values, or loss=F.binary_cross_entropy_with_logits for yes or no in "
    "several labels (F is torch.nn.functional)"
)
_ROUNDING, _HALF_ROUNDING = 1e-3, 1e-2  # of sums of probabilities; the latter of half precision


def check_labels(
    loss: CrossEntropy,
    batches: Sequence[Batch],
    output: Tensor,
    y: Any,
    *,
    by_default: bool,
    entry: bool,
) -> None:
    """Check the targets of a sample.

    Args:
        loss: The cross-entropy.
        batches: The sample.
        output: Logits of some examples.
        y: The target of the same examples.
        by_default: Whether the loss was not chosen, so that targets may be meant for another one.
        entry: Whether the logits are an entry of the model's output.

    Raises:
        MeasureError: If a target does not fit.
    """
    if not isinstance(y, Tensor):
        raise MeasureError(
            f"the target is a {type(y).__name__}, and the model's output has no loss; give "
            "(inputs, labels), or pass loss=callable(output, target)"
        )
    _check_shape(output, y, "o['logits']" if entry else "o")
    if output.shape[1] == 1 and by_default:
        raise MeasureError(
            f"the network has one output (shape {tuple(output.shape)}), for which cross-entropy "
            f"is always 0; {_OTHER_LOSSES}"
        )
    targets = [y for _, y in batches]
    _check_forms(output, targets)
    _check_options(loss, output.shape[1], targets)
    if by_default:
        _check_probabilities(targets)
    _check_range(targets, output.shape[1], loss.ignore_index)


def _check_shape(output: Tensor, y: Tensor, logits: str) -> None:
    if y.is_floating_point():
        fits = y.shape == output.shape and output.ndim > 1
    else:
        fits = y.shape == output.shape[:1] + output.shape[2:] and output.ndim > 1
    if not fits and output.ndim > 2 and y.shape == output.shape[:-1]:
        raise MeasureError(
            f"outputs of shape {tuple(output.shape)} have their classes last, where cross-entropy "
            f"expects them second; pass loss=lambda o, y: F.cross_entropy({logits}.flatten(0, -2), "
            "y.flatten()) and loss_weight=lambda y: y != -100 (F is torch.nn.functional)"
        )
    if _is_one_hot(output, y):
        raise MeasureError(
            f"{y.dtype} labels of shape {tuple(y.shape)} look one-hot; give labels.argmax(1), or "
            f"labels.float(), which are probabilities; {_OTHER_LOSSES}"
        )
    if not fits or not _are_labels(output, y):
        raise MeasureError(
            f"for {len(y)} examples, {y.dtype} labels of shape {tuple(y.shape)} do not fit outputs "
            f"of shape {tuple(output.shape)}; give int64 labels, one per example, or probabilities "
            f"of the outputs' shape, or pass loss=callable; {_OTHER_LOSSES}"
        )


def _check_forms(output: Tensor, targets: Sequence[Any]) -> None:
    """Check that the targets of all batches are labels or probabilities, as those of the first."""
    for place, y in enumerate(targets, start=1):
        fits = isinstance(y, Tensor) and _are_labels(output, y)
        if fits and y.is_floating_point():
            fits = y.ndim == output.ndim and y.shape[1] == output.shape[1]
        elif fits:
            fits = y.ndim == output.ndim - 1
        if not fits:
            what = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y)
            raise MeasureError(
                f"the targets of batch {place} of {len(targets)} are {what}, which do not fit "
                f"outputs of {output.shape[1]} classes; give int64 labels, one per example, or "
                "probabilities of the outputs' shape, in every batch"
            )


def _check_options(loss: CrossEntropy, classes: int, targets: Sequence[Tensor]) -> None:
    """Check that the options of the loss fit the classes and the targets of all batches."""
    name = loss.function.__name__
    if loss.weight is not None and loss.weight.shape != (classes,):
        raise MeasureError(
            f"the weight of the classes has shape {tuple(loss.weight.shape)}, but the network has "
            f"{classes} outputs; give one weight for each"
        )
    if not 0 <= loss.label_smoothing <= 1:
        raise MeasureError(
            f"label_smoothing={loss.label_smoothing!r}; give a fraction between 0 and 1"
        )
    for place, y in enumerate(targets, start=1):
        if y.is_floating_point():
            soft = f"the targets{_of_batch(place, targets)} are probabilities"
            if loss.function is F.nll_loss:
                raise MeasureError(f"{soft}, and {name} takes labels; use F.cross_entropy")
            if loss.ignore_index >= 0:
                raise MeasureError(
                    f"{soft}, which have no label to ignore; leave ignore_index out, or give labels"
                )
            if bool(y.isnan().any()):
                raise MeasureError(f"{soft} with NaN; leave these examples out")
        elif y.dtype == torch.uint8 and loss.weight is not None and loss.label_smoothing:
            raise MeasureError(
                f"the labels{_of_batch(place, targets)} are torch.uint8, and {name} with weights "
                "and label_smoothing takes int64; give labels.long()"
            )


def _are_labels(output: Tensor, y: Tensor) -> bool:
    """Whether targets are labels, or probabilities, of a type that torch's cross-entropy takes."""
    if y.layout != torch.strided or y.is_complex():
        return False
    if y.is_floating_point() or y.dtype == torch.int64:
        return True
    return y.dtype in _LABELS and output.ndim == 2  # of labels at positions int64 alone


def _is_one_hot(output: Tensor, y: Tensor) -> bool:
    """Whether labels are whole numbers or truth values with a single 1 per example."""
    if y.is_floating_point() or y.is_complex():
        return False
    if y.shape != output.shape or output.ndim < 2 or output.shape[1] < 2:
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())


def _check_probabilities(targets: Sequence[Tensor]) -> None:
    for place, y in enumerate(targets, start=1):
        if not y.is_floating_point():
            continue
        lowest, sums = float(y.min()), y.double().sum(1)
        furthest = float((sums - 1).abs().max())
        if lowest < 0 or furthest > _rounding(y):
            worst = float(sums.flatten()[(sums - 1).abs().argmax()])
            raise MeasureError(
                "floating-point targets of the default cross-entropy are probabilities: rows >= 0 "
                f"that sum to 1, but the lowest value{_of_batch(place, targets)} is {lowest:.3g} "
                f"and a row sums to {worst:.5g}; {_OTHER_LOSSES}"
            )


def _rounding(y: Tensor) -> float:
    """How far sums of probabilities may be from 1: farther if all are numbers of half precision."""
    halves = (y.to(dtype).to(y.dtype) == y for dtype in (torch.bfloat16, torch.float16))
    return _HALF_ROUNDING if any(bool(same.all()) for same in halves) else _ROUNDING


def _of_batch(place: int, targets: Sequence[Tensor]) -> str:
    return f" of batch {place} of {len(targets)}" if len(targets) > 1 else ""


def _check_range(targets: Sequence[Tensor], classes: int, ignored: int) -> None:
    known = {
        place: y if y.is_floating_point() else y[y != ignored]
        for place, y in enumerate(targets, start=1)
    }
    if not any(y.numel() for y in known.values()):
        raise MeasureError(
            f"all labels are {ignored}, which the loss ignores; give labels of some examples"
        )
    for place, y in known.items():
        if y.is_floating_point() or not y.numel():
            continue
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= classes:
            raise MeasureError(
                f"labels{_of_batch(place, targets)} run from {low} to {high}, but the network has "
                f"{classes} outputs; labels must lie in 0..{classes - 1}"
            )
