"""Pairs of parameters: a share of all pairs in each test run, the others in `make soak`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def crossed(names: str, ones: Iterable[Any], others: Iterable[Any], share: int) -> Any:
    """Parametrize a test by all pairs; those that are not chosen are marked `soak`.

    Each of `ones` and each of `others` is in a chosen pair, if `share` is at most the number of
    either.

    Args:
        names: The two arguments of the test, "one, other".
        ones, others: Their values.
        share: One of so many pairs is chosen.
    """
    several = list(others)
    pairs = [
        pytest.param(
            one,
            other,
            id=f"{_text(one)}-{_text(other)}",
            marks=[] if (i + j) % share == 0 else [pytest.mark.soak],
        )
        for i, one in enumerate(ones)
        for j, other in enumerate(several)
    ]
    return pytest.mark.parametrize(names, pairs)


def _text(value: str | Callable[..., object]) -> str:
    return value if isinstance(value, str) else value.__name__
