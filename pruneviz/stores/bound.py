"""The mirror is bounded: what was used longest ago goes first, and is fetched again when needed."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from pruneviz.console.url_names import mirror_root
from pruneviz.errors import LogError
from pruneviz.stores.mirror import MARKER

SIZE_VARIABLE = "PRUNEVIZ_MIRROR_GB"  # environment variable
_GB = 20.0  # by default
_IN_USE = 120.0  # seconds for which a file that was used stays: it may just be opened
_FORGOTTEN = 30 * 86_400.0  # seconds after which an unused copy goes, whatever its size


def bounded_mirror() -> None:
    """Remove files that were used longest ago, until the mirror is within its bound.

    Files that were used within two minutes stay. Copies that were unused for 30 days go.

    Raises:
        LogError: If $PRUNEVIZ_MIRROR_GB is no number.
    """
    most, now = _most_bytes(), time.time()
    _remove_forgotten(now)
    files = sorted(_files())
    held = sum(size for _, size, _ in files)
    for used, size, file in files:
        if held <= most:
            break
        if now - used > _IN_USE:
            with suppress(OSError):
                file.unlink()
                held -= size


def _files() -> list[tuple[float, int, Path]]:
    """When each file was used, its bytes and its path; not those that say what a copy is of."""
    found = []
    for folder, _, names in os.walk(mirror_root()):
        for name in names:
            if name != MARKER:
                file = Path(folder) / name
                with suppress(OSError):
                    facts = file.stat()
                    found.append((facts.st_atime, facts.st_size, file))
    return found


def _remove_forgotten(now: float) -> None:
    for folder, below, names in os.walk(mirror_root()):
        if MARKER in names:
            below.clear()
            with suppress(OSError):
                if now - (Path(folder) / MARKER).stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(folder)


def _most_bytes() -> float:
    given = os.environ.get(SIZE_VARIABLE, "")
    try:
        most = float(given) if given else _GB
    except ValueError:
        most = -1.0
    if not most >= 0:
        raise LogError(f"${SIZE_VARIABLE} is {given!r}; give a number of GB, such as 20")
    return most * 1e9
