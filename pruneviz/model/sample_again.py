"""A second walk over a measurement sample: whether it gives the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pruneviz.model.sample import Batch, Forward, Sample, each_batch, tensors_in


def batches_again(
    first: Sequence[Batch],
    sample: Sample,
    device: torch.device,
    dtype: torch.dtype,
    forward: Forward | None = None,
) -> int | None:
    """Iterate over a sample again, and compare; one batch at a time is held in memory.

    Args:
        first: Its batches, from `as_batches`.
        sample, device, dtype, forward: As for `as_batches`.

    Returns:
        The number of batches; None if they differ in their number, tensors or order.

    Raises:
        DataError: As for `as_batches`.
    """
    number = 0
    for again in each_batch(sample, device, dtype, forward):
        if number == len(first) or not _same(first[number], again):
            return None
        number += 1
    return number if number in (0, len(first)) else None


def _same(first: Any, second: Any) -> bool:
    """Whether two trees hold equal tensors, with NaN equal to NaN."""
    one, two = tensors_in(first), tensors_in(second)
    return len(one) == len(two) and all(map(_equal, one, two))


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())
