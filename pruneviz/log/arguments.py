"""Arguments as people give them: one value or several, numbers of any library."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

_SIMPLE = 10**7  # largest denominator of a fraction that a person means by a float


def as_tuple(value: Any) -> tuple[Any, ...]:
    """The values as a tuple; a single value, such as a name, becomes a tuple of one."""
    single = isinstance(value, str) or not isinstance(value, Iterable)
    return (value,) if single or getattr(value, "ndim", 1) == 0 else tuple(value)


def is_number(value: object) -> bool:
    """Whether a value is a real number, of Python or NumPy; truth values are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def exactly(value: Any) -> Fraction:
    """The number that a person means by a float: 0.29 is 29/100 and 1/3 is a third.

    A binary float is only near to either, so that 0.29 times 100 is below 29, and rounding down the
    product gives 28.

    Args:
        value: A finite number, of Python or NumPy.

    Returns:
        The fraction with a denominator up to ten million that is this float, else the number that
        its shortest decimal digits name, as for floats of single precision.
    """
    if isinstance(value, numbers.Rational):
        return Fraction(value)
    if isinstance(value, float):  # of double precision, where few fractions are so near
        simple = Fraction(value).limit_denominator(_SIMPLE)
        if float(simple) == value:
            return simple
    return Fraction(str(value))


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, of Python or NumPy; truth values are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
