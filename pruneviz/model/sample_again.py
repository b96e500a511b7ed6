"""A second walk over a measurement sample: whether it gives the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruneviz.model.sample import Batch, Forward, Sample, arrays_in, each_batch, tensors_in


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
    """Whether two trees hold equal tensors and arrays, with NaN equal to NaN."""
    one, two = tensors_in(first), tensors_in(second)
    arrays, others = arrays_in(first), arrays_in(second)
    same_numbers = len(one) == len(two) and len(arrays) == len(others)
    return same_numbers and all(map(_equal, one, two)) and all(map(_equal_arrays, arrays, others))


def _equal_arrays(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())
