"""The epochs at which a recorder measures derivatives."""

from __future__ import annotations

import numbers
from collections.abc import Callable

from pruneviz.errors import LogError

Every = int | Callable[[int], bool]


def measured_at(every: Every) -> Callable[[int], bool]:
    """Predicate for the measured epochs.

    Args:
        every: Measure at epochs 0, `every`, 2 `every`, ..., or where this function of the epoch is
            true.

    Raises:
        LogError: If `every` is neither a whole number from 1 nor a function.
    """
    if callable(every):
        return every
    if not isinstance(every, numbers.Integral) or isinstance(every, bool) or every < 1:
        raise LogError(
            f"every={every!r}; give the number of epochs between measurements, 1 or more, "
            "or a function epoch -> bool"
        )
    return lambda epoch: epoch % every == 0


def in_spec(every: Every) -> str:
    """Text for the spec: the number, or the name of the function."""
    if callable(every):
        return str(getattr(every, "__qualname__", repr(every)))
    return str(every)
