"""How much memory this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_OF_GROUPS = (  # limits of a container, of Linux control groups version 2 and 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_limit() -> int:
    """Bytes that this process may use: of the machine, its container and `ulimit -v`."""
    return min([*_of_machine(), *_of_container(), *_of_process()], default=1 << 62)


def _of_machine() -> list[int]:
    with suppress(AttributeError, ValueError, OSError):  # not on every system
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return []


def _of_container() -> list[int]:
    found = []
    for file in _OF_GROUPS:
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(file.read_text()))
    return found


def _of_process() -> list[int]:
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if soft == resource.RLIM_INFINITY else [soft]
