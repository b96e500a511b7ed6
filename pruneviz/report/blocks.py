"""Arrays as compressed text: what the page holds instead of numbers in JSON.

The bytes of all values are sorted by their place, so that those of the exponents lie together, and
compressed: columns of measured numbers become a tenth smaller, whole numbers far more.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

import numpy as np

# Level 6 takes a third of the time of 9, for files that are 0.3 % larger.
_LEVEL = 6

# Kind and number of upper bytes of rounded values: sign, exponent, and 16 or 21 significant bits.
_ROUNDED = {"f4": ("b3", 3), "f8": ("d4", 4)}
ROUNDING = 2.0**-16
"""Largest relative error of a rounded value."""


@dataclass(frozen=True)
class Block:
    """An array as the page holds it.

    Attributes:
        text: Base64 of the compressed bytes.
        kind: Type of its values: "f4", "f8", "u1", "u2", "u4"; "b3" for the upper three bytes
            of float32, "d4" for the upper four of float64.
        length: Number of values.
    """

    text: str
    kind: str
    length: int


def block_of(values: np.ndarray, *, rounded: bool = False) -> Block:
    """An array as a block.

    Args:
        values: Numbers of any shape, as float32, float64 or unsigned integers; flattened.
        rounded: Keep 16 significant bits of float32, or 21 of float64, a relative error of at most
            `ROUNDING`.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    kind = f"{flat.dtype.kind}{flat.dtype.itemsize}"
    held = flat.view(np.uint8).reshape(len(flat), flat.dtype.itemsize)
    if rounded and kind in _ROUNDED:
        kind, count = _ROUNDED[kind]
        held = _upper_bytes(flat, count)
    # Little-endian on every machine that Python's numbers come from and browsers run on.
    planes = np.ascontiguousarray(held.T).tobytes()
    packed = gzip.compress(planes, _LEVEL, mtime=0)
    return Block(base64.b64encode(packed).decode("ascii"), kind, len(flat))


def _upper_bytes(values: np.ndarray, count: int) -> np.ndarray:
    """The upper bytes [value, byte] of floating-point values, rounded to nearest, ties to even."""
    size = values.dtype.itemsize
    bits = values.view(f"<u{size}")
    cut = 8 * (size - count)
    one = bits.dtype.type(1)
    nearest = bits + ((bits >> cut) & one) + bits.dtype.type((1 << (cut - 1)) - 1)
    # Rounding up the bits of a NaN could give anything.
    chosen = np.where(np.isfinite(values), nearest, bits)
    chosen = np.where(np.isnan(values), np.array([np.nan], values.dtype).view(bits.dtype), chosen)
    return chosen.view(np.uint8).reshape(len(values), size)[:, size - count :]
