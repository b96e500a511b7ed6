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

# Number of leading bytes that a rounded float32 keeps: sign, exponent and 7 bits of 23.
_ROUNDED_BYTES = 2
ROUNDING = 2.0**-8
"""Largest relative error of a rounded value."""


@dataclass(frozen=True)
class Block:
    """An array as the page holds it.

    Attributes:
        text: Base64 of the compressed bytes.
        kind: Type of its values: "f4", "f8", "u1", "u2", "u4", or "b2" for float32 whose lower two
            bytes were rounded away.
        length: Number of values.
    """

    text: str
    kind: str
    length: int


def block_of(values: np.ndarray, *, rounded: bool = False) -> Block:
    """An array as a block.

    Args:
        values: Numbers of any shape, as float32, float64 or unsigned integers; flattened.
        rounded: Keep 8 significant bits of float32, a relative error of at most `ROUNDING`.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    kind = f"{flat.dtype.kind}{flat.dtype.itemsize}"
    held = flat.view(np.uint8).reshape(len(flat), flat.dtype.itemsize)
    if rounded and kind == "f4":
        kind, held = "b2", _rounded(flat)
    # Little-endian on every machine that Python's numbers come from and browsers run on.
    planes = np.ascontiguousarray(held.T).tobytes()
    packed = gzip.compress(planes, _LEVEL, mtime=0)
    return Block(base64.b64encode(packed).decode("ascii"), kind, len(flat))


def _rounded(values: np.ndarray) -> np.ndarray:
    """The two upper bytes [value, 2] of float32 values, rounded to nearest."""
    bits = values.view(np.uint32)
    carry = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    nearest = bits + carry
    # Rounding up the bits of the largest number gives infinity, of a NaN anything.
    special = ~np.isfinite(values)
    upper = np.where(special, bits >> 16, nearest >> 16)
    upper = np.where(np.isnan(values), 0x7FC0, upper)
    kept = upper.astype(np.uint16)
    return kept.view(np.uint8).reshape(len(kept), _ROUNDED_BYTES)
