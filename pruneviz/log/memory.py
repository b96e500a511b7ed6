"""Memory that this process may take on a CPU: what limits it, and what is taken already.

A limit of the process (`ulimit -v`, `ulimit -d`) gives errors when it is reached, a limit of a
control group, as of a container or a batch system, ends the process without one.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_RESOURCES = {"RLIMIT_AS": "VmSize", "RLIMIT_DATA": "VmData"}  # limit -> line of what it counts
_GROUPS = {  # controllers in /proc/self/cgroup -> where they are, limits, usage, reclaimable part
    "": ("sys/fs/cgroup", ("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "memory": (
        "sys/fs/cgroup/memory",
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


def free_memory(root: Path = _ROOT) -> int | None:
    """Bytes that this process may still take.

    The least of what the limits of the process, the control groups that it is in and the machine
    leave. Memory that the C library keeps after it was freed is free.

    Args:
        root: The folder that holds `proc` and `sys`.

    Returns:
        None if nothing is known, as on other systems than Linux.
    """
    left = [bound - taken + _kept_by_allocator() for bound, taken in _limits(root)]
    found = left + _of_machine(root, "MemAvailable")
    return max(0, min(found)) if found else None


def most_memory(root: Path = _ROOT) -> int | None:
    """Bytes that this process may take in all; as `free_memory`, whatever is taken already."""
    found = [bound for bound, _ in _limits(root)] + _of_machine(root, "MemTotal")
    return min(found, default=None)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limits of this process and its control groups, each with what counts for it by now."""
    yield from _of_process(root)
    yield from _of_groups(root)


def _of_process(root: Path) -> Iterator[tuple[int, int]]:
    if sys.platform == "win32":
        return
    import resource

    status = _table(root / "proc/self/status")
    for name, line in _RESOURCES.items():
        limit, _ = resource.getrlimit(getattr(resource, name))
        if limit != resource.RLIM_INFINITY and line in status:
            yield limit, status[line]


def _of_groups(root: Path) -> Iterator[tuple[int, int]]:
    """Of the control groups of this process, from its own up to the outermost one."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", "", ""][:3]
        for known in {"", "memory"} & set(controllers.split(",")) if path else ():
            mount, limits, usage, reclaimable = _GROUPS[known]
            # Within a container the path may be that outside of it: then the outermost one counts.
            own = PurePosixPath(*(part for part in PurePosixPath(path).parts[1:] if part != ".."))
            for group in (own, *own.parents):
                folder = root / mount / group
                taken = _number(folder / usage)
                if taken is None:
                    continue
                taken -= min(taken, _table(folder / "memory.stat").get(reclaimable, 0))
                limit = (_number(folder / name) for name in limits)
                yield from ((bound, taken) for bound in limit if bound is not None)


def _of_machine(root: Path, name: str) -> list[int]:
    """A number of the whole machine, without swapping."""
    found = _table(root / "proc/meminfo")
    return [found[name]] if name in found else []


def _kept_by_allocator() -> int:
    """Bytes that were freed and that glibc keeps for new tensors; 0 without glibc."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    return int(mallinfo().fordblks)


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _table(path: Path) -> dict[str, int]:
    """Numbers of a file by name, one a line, in bytes: "MemAvailable:  1024 kB"."""
    found = {}
    for line in _text(path).splitlines():
        name, *values = line.replace(":", " ").split() or [""]
        if values and values[0].isdigit():
            found[name] = int(values[0]) * (1024 if values[1:] == ["kB"] else 1)
    return found


def _number(path: Path) -> int | None:
    """The number in a file; None without the file, or where it says "max"."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """The content of a file; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
