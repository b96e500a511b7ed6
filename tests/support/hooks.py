"""Hooks of the training loop made of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _nothing(*arguments: object, **facts: object) -> None:
    """No-op."""


@dataclass
class Hooks:
    """Calls one function for each hook of the training loop; by default nothing happens."""

    record: Callable[..., Any] = _nothing
    prune: Callable[[int], Any] = _nothing
    report: Callable[[float, str], Any] = _nothing
    stepped: Callable[[Any], Any] = _nothing
