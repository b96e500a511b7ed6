"""Atomic writing of files, and disk errors with their repair."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pruneviz.errors import LogError, PrunevizError

UNFINISHED = ".tmp"  # extension of a file that is being written


@contextmanager
def disk_errors(
    path: Path,
    kind: type[PrunevizError] = LogError,
    repair: str = "free some space, or choose a folder that you may write to",
) -> Iterator[None]:
    """Turn failures to write to `path` into a pruneviz error.

    Args:
        path: The file or folder to write to.
        kind: Error class to raise.
        repair: What to do about it, at the end of the message.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write to {path}: {error.strerror or error}; {repair}") from error


def write_whole(path: Path, write: Callable[[Path], object], *, flush: bool = True) -> None:
    """Write a file atomically, even if the process is killed or the disk is full.

    The file is written under a temporary name in the same folder, flushed to the disk and renamed.
    The folder must exist: a folder that was deleted meanwhile is an error, not a new start.

    Args:
        path: The file; an existing one is replaced and keeps its permissions.
        write: Function that writes the content to a given path.
        flush: Wait until the content is on the disk, so that it survives a power failure; this
            takes some milliseconds per file.
    """
    temporary = _temporary(path)
    try:
        write(temporary)
        if path.exists():
            shutil.copymode(path, temporary)
        if flush:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if flush:
        _flush_folder(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically: a temporary folder that becomes `path` at the end.

    Args:
        path: The folder; must not exist. Its parents are made.
    """
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _flush_folder(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove half-written files of killed processes in a folder and its subfolders."""
    for stray in folder.rglob(f".*{UNFINISHED}"):
        stray.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power failure; not every file system can flush a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
