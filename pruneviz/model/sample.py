"""The measurement sample as a list of checked batches on the model's device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from pruneviz.errors import DataError

Batch: TypeAlias = tuple[Tensor, Tensor]
Sample: TypeAlias = Batch | Iterable[Batch]

_EXPECTED = "the sample must be a pair of tensors (inputs, targets) or an iterable of such pairs"


def model_device(model: nn.Module) -> torch.device:
    """The device of the model's first parameter; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def model_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter; float32 if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def as_batches(sample: Sample, device: torch.device, dtype: torch.dtype) -> list[Batch]:
    """The sample as batches of (inputs, targets).

    Args:
        sample: A pair of tensors is one batch; anything else is iterated over once.
        device: Device for the batches.
        dtype: Type for floating-point inputs and targets.

    Raises:
        DataError: If the sample is empty or not made of tensor pairs, inputs and targets differ in
            length, or images are integers that were not normalised.
    """
    if not isinstance(sample, Iterable):
        raise DataError(f"{_EXPECTED}, got {type(sample).__name__}")
    given = cast("Iterable[Batch]", [sample] if _is_pair(sample) else sample)
    batches = [_checked(batch) for batch in given]
    batches = [(x, y) for x, y in batches if len(x)]
    if not batches:
        raise DataError(
            "the sample is empty; give at least one (inputs, targets) pair with one example"
        )
    return [(_placed(x, device, dtype), _placed(y, device, dtype)) for x, y in batches]


def check_example(example: object) -> None:
    """Check that a network can be called with an example.

    Raises:
        DataError: If it is not a tensor with at least one input.
    """
    if not isinstance(example, Tensor):
        raise DataError(
            "the example must be a tensor, a batch of inputs alone such as images[:2], "
            f"got {type(example).__name__}"
        )
    if example.ndim == 0 or len(example) == 0:
        raise DataError(
            "the example must hold one input or more, such as images[:2], "
            f"got a tensor of shape {tuple(example.shape)}"
        )


def sample_size(batches: Sequence[Batch]) -> int:
    """Number of examples over all batches."""
    return sum(len(x) for x, _ in batches)


def same_batches(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    """Whether two iterations over a sample gave equal tensors in equal order."""
    if len(first) != len(second):
        return False
    pairs = zip(first, second, strict=True)
    return all(_same(a, c) and _same(b, d) for (a, b), (c, d) in pairs)


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal, with NaN equal to NaN."""
    if first.shape != second.shape:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _is_pair(sample: object) -> bool:
    return (
        isinstance(sample, (tuple, list))
        and len(sample) == 2
        and all(isinstance(part, Tensor) for part in sample)
    )


def _checked(batch: Batch) -> Batch:
    if not _is_pair(batch):
        raise DataError(f"{_EXPECTED}, got {type(batch).__name__}")
    x, y = batch
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"inputs of shape {tuple(x.shape)} and targets of shape {tuple(y.shape)} differ in "
            "their number of examples"
        )
    if x.dtype == torch.uint8:
        raise DataError(
            "the inputs are uint8 images; normalise them first, such as with "
            "pruneviz.normalise(images)"
        )
    return x, y


def _placed(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    placed = tensor.detach().to(device, dtype if tensor.is_floating_point() else None)
    # an inference tensor cannot take part in a derivative
    return placed.clone() if placed.is_inference() else placed
