"""Atomic writing of files, and disk errors with their repair."""

from __future__ import annotations

import errno
import functools
import os
import platform
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pruneviz.errors import LogError, PrunevizError
from pruneviz.stores.urls import url_of

UNFINISHED = ".tmp"  # extension of a file that is being written
_UNFINISHED = re.compile(rf"\..+\.(?:[0-9a-f]{{8}}-)?\d+{re.escape(UNFINISHED)}")

_IN_THE_WAY = "something else is in the way; move it away, or {elsewhere}"
# What to do about a failure, by its number.
_REPAIRS = {
    errno.ENOSPC: "free some space, or {elsewhere}",
    errno.EDQUOT: "free some space, or {elsewhere}",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or {elsewhere}",
    errno.EACCES: "change its permissions, or {elsewhere}",
    errno.EPERM: "change its permissions, or {elsewhere}",
    errno.EROFS: "mount the disk for writing, or {elsewhere}",
    errno.ENOENT: "the folder is missing; put it back, or {elsewhere}",
    errno.EMFILE: "close some files, or raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close some files, or raise the limit on open files of the system",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ENOTEMPTY: _IN_THE_WAY,
}
# How systems say that they cannot flush a folder, or not even open one as Windows.
_CANNOT_FLUSH = frozenset(
    {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES}
)


@contextmanager
def disk_errors(
    path: Path,
    kind: type[PrunevizError] = LogError,
    elsewhere: str = "choose another folder",
) -> Iterator[None]:
    """Turn failures to write to `path` into a pruneviz error that says what to do.

    Args:
        path: The file or folder to write to.
        kind: Error class to raise.
        elsewhere: How to write to another place, for the end of the message.
    """
    try:
        yield
    except OSError as error:
        repair = _REPAIRS.get(error.errno or 0, "check the disk, or {elsewhere}")
        raise kind(
            f"cannot write to {path}: {error.strerror or error}; "
            f"{repair.format(elsewhere=elsewhere)}"
        ) from error


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

    def named(temporary: Path) -> str:
        write(temporary)
        return path.name

    _write_named(_temporary(path), named, flush)


def write_named(folder: Path, name: str, write: Callable[[Path], str]) -> Path:
    """Write a file atomically whose name says something of its content, such as a digest.

    Args:
        folder: Folder of the file.
        name: What its temporary name has in common with others of its kind.
        write: Function that writes the content to a given path and returns the name of the file.

    Returns:
        The file.
    """
    return _write_named(_temporary(folder / name), write, True)


def write_over(path: Path, write: Callable[[Path], object], *, flush: bool = True) -> None:
    """Write a file of a person atomically, and remove what killed processes left of it.

    Args:
        path: The file; an existing one is replaced, a link stays a link. Its folder is made.
        write: Function that writes the content to a given path.
        flush: As for `write_whole`.

    Raises:
        LogError: If the path is a URL.
    """
    _check_no_url(path)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(path)
    write_whole(path, write, flush=flush)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically: a temporary folder that becomes `path` at the end.

    What killed processes left of it is removed.

    Args:
        path: The folder; must not exist. Its parents are made.
    """
    with temporary_folder(path) as temporary:
        yield temporary
        temporary.rename(path)
    flush_folder(path.parent)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, removed at the end unless it was renamed.

    What killed processes left of it is removed.

    Args:
        path: What the folder is for. Its parents are made.
    """
    make_folder(path.parent)
    _remove_dead(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, where missing, so that they survive a power failure.

    Raises:
        LogError: If the path is a URL.
    """
    _check_no_url(folder)
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # The folder itself may be there, but not yet on the disk: its process may have been killed.
    for made in {*missing, folder}:
        flush_folder(made.parent)


def _check_no_url(path: Path) -> None:
    """Check that nothing is written into a folder that is called like a URL."""
    if url_of(path) is not None:
        raise LogError(
            f"{url_of(path)} is a URL, and results are written to a disk; name a folder or file "
            "here, and copy it to the store"
        )


def flush_folder(folder: Path) -> None:
    """Make renamed, new and deleted files of a folder survive a power failure.

    Not every file system can do it, which is no error.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


def remove_unfinished(folder: Path) -> None:
    """Remove half-written files and folders in a run directory and its subfolders.

    Of any process: call it only as the one writer of the run.
    """
    for stray in sorted(filter(is_unfinished, folder.rglob(".*"))):
        _remove(stray)


def is_unfinished(path: Path) -> bool:
    """Whether a file or folder has the name of one that is being written."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _write_named(temporary: Path, write: Callable[[Path], str], flush: bool) -> Path:
    try:
        path = temporary.with_name(write(temporary))
        if path.exists():
            shutil.copymode(path, temporary)
        if flush:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if flush:
        flush_folder(path.parent)
    return path


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}{UNFINISHED}")


def _remove_dead(path: Path) -> None:
    """Remove the temporary files or folders of a path that processes left which are no more."""
    start = f".{path.name}.{_machine()}-"
    for stray in list(path.parent.iterdir()):
        number = stray.name.removeprefix(start).removesuffix(UNFINISHED)
        is_temporary = stray.name == f"{start}{number}{UNFINISHED}" and number.isdecimal()
        if is_temporary and not _is_alive(int(number)):
            _remove(stray)


def _remove(stray: Path) -> None:
    if stray.is_dir() and not stray.is_symlink():
        shutil.rmtree(stray, ignore_errors=True)
    else:
        stray.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs, other than this one."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another person
        return True
    return True


@functools.cache
def _machine() -> str:
    """Tells machines apart, and containers with process numbers of their own."""
    numbers = ""
    with suppress(OSError):
        numbers = str(Path("/proc/self/ns/pid").readlink())
    return f"{zlib.crc32(f'{platform.node()} {numbers}'.encode()):08x}"
