"""Errors that say that memory ran out, and how much was asked for."""

from __future__ import annotations

import errno
import re

import torch

from pruneviz.errors import PrunevizError

_KINDS = (RuntimeError, MemoryError, OSError, ImportError)  # the last: of a library, loaded late
# oneDNN names no cause, but all that a chunk changes about a primitive is its size. A primitive
# *descriptor* that cannot be made is one that oneDNN does not have.
_SAID = re.compile(
    r"out of memory"  # CUDA, HIP, MPS, XPU
    r"|not enough memory"
    r"|(?:can't|cannot|could not|failed to|unable to) allocate(?! memory in static TLS)"
    r"|bad[ _]alloc"
    r"|ALLOC(?:ATION)?_FAILED"  # cuDNN, cuBLAS, cuSPARSE, cuFFT
    r"|could not (?:create|execute) a primitive(?! desc)",
    re.IGNORECASE,
)
_ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|B|[KMGT]i?B)\b", re.IGNORECASE)
_UNITS = {"b": 1, "bytes": 1} | {
    f"{letter}{kind}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for kind, base in (("b", 1024), ("ib", 1024))  # torch's "GB" of MPS are GiB too
}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device.

    Args:
        error: Any error. Those of pruneviz are none: they say what to do already.
    """
    if isinstance(error, PrunevizError) or not isinstance(error, _KINDS):
        return False
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return bool(_SAID.search(str(error)))


def bytes_asked(error: BaseException) -> int | None:
    """The bytes that could not be allocated; None if the error does not say so."""
    found = _ASKED.search(str(error))
    return int(float(found[1]) * _UNITS[found[2].lower()]) if found else None
