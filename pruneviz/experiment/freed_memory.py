"""Keep freed CPU memory in the commands' own processes instead of returning it to the system.

By default glibc returns large freed blocks at once, and the system clears their pages again for
every chunk of a sample.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

# parameters of mallopt(3): return nothing, and map no block, since mapped ones are returned
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_KEEPING = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
_CHOSEN_BY_USER = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "GLIBC_TUNABLES",
)


def keep_freed_memory() -> None:
    """Keep freed CPU memory in this process until it ends.

    This cannot be undone, so call it only at the start of a command's own process. No-op without
    glibc, or if the environment configures the allocator (`MALLOC_*`, `GLIBC_TUNABLES`).
    """
    library = _glibc()
    if library is None:
        return
    for parameter, value in _KEEPING.items():
        library.mallopt(parameter, value)


def _glibc() -> Any:
    """The C library, or None if its allocator should not be configured."""
    try:
        is_glibc = str(os.confstr("CS_GNU_LIBC_VERSION")).startswith("glibc")
    except (AttributeError, ValueError, OSError):  # another system, or another C library
        is_glibc = False
    if not is_glibc or any(name in os.environ for name in _CHOSEN_BY_USER):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
