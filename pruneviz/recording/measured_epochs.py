"""The epochs at which a recorder measures derivatives."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Collection
from typing import Any

from pruneviz.errors import LogError
from pruneviz.log.arguments import is_whole
from pruneviz.measuring.named_callables import described

Every = int | Callable[[int], bool]
AtEpochs = Every | Collection[int]


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


def chosen_epochs(asked: Any, name: str) -> Callable[[int], bool]:
    """Predicate for epochs that are chosen by any means.

    Args:
        asked: A list of epochs, a number of epochs between two, or a function epoch -> bool.
        name: Name of the argument, for the error.

    Raises:
        LogError: If it is none of these.
    """
    if callable(asked) or (is_whole(asked) and asked >= 1):
        return measured_at(asked)
    epochs = list(asked) if isinstance(asked, Collection) else []
    if not epochs or not all(is_whole(epoch) and epoch >= 0 for epoch in epochs):
        raise LogError(
            f"{name}={asked!r}; give epochs, whole numbers from 0, the number of epochs between "
            "two of them, or a function epoch -> bool"
        )
    return set(epochs).__contains__


def in_spec(every: Every) -> str:
    """Text for the spec: the number, or the function as `described`, which tells it from others."""
    return described(every) if callable(every) else str(every)


def in_words(every: Every) -> str:
    """Short text for messages: the number, or the name of the function."""
    if callable(every):
        return str(getattr(every, "__qualname__", type(every).__qualname__))
    return str(every)


def last_facts(every: Every, measure_last: bool | None) -> dict[str, bool]:
    """Whether the last epoch is measured, for the spec; nothing where it is as by default.

    Args:
        every: Epochs at which derivatives are measured.
        measure_last: As given to the recorder.
    """
    usual = not callable(every)
    return {} if measure_last in (None, usual) else {"measure_last": bool(measure_last)}
