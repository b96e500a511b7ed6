"""Arguments as people give them: one value or several, numbers of any library."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any


def as_tuple(value: Any) -> tuple[Any, ...]:
    """The values as a tuple; a single value, such as a name, becomes a tuple of one."""
    single = isinstance(value, str) or not isinstance(value, Iterable)
    return (value,) if single or getattr(value, "ndim", 1) == 0 else tuple(value)


def is_number(value: object) -> bool:
    """Whether a value is a real number, of Python or NumPy; truth values are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, of Python or NumPy; truth values are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
