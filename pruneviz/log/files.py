"""Files written whole or not at all, and disk errors told with their repair."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pruneviz.errors import LogError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn every failure to write to `path` into a `LogError` that says what to do."""
    try:
        yield
    except OSError as error:
        repair = "free some space, or choose a folder that you may write to"
        raise LogError(f"cannot write to {path}: {error.strerror or error}; {repair}") from error


UNFINISHED = ".tmp"  # ending of a file that is being written


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, flush it to the disk, and give it its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
