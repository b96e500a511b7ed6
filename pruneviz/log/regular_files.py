"""Files of a recording are regular files: pipes, devices and sockets are refused, never waited for.

A link to a regular file is one too. Of a run in an object store a file is fetched before it is
opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pruneviz.errors import LogError
from pruneviz.stores.mirror import fetched, listed_file

_BLOCK = 1 << 16
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(file: Path) -> None:
    """Check that a file can be read to its end; it is not opened.

    Args:
        file: The file, or a link to it.

    Raises:
        LogError: If it is something else, such as a pipe.
        OSError: If it is missing.
    """
    fetched(file)
    _require_regular(file, file.stat().st_mode)


def read_regular(file: Path, most: int) -> bytes:
    """The content of a regular file.

    Args:
        file: The file, or a link to it.
        most: Bytes that it may have.

    Raises:
        LogError: If it is no regular file, or larger.
        OSError: If it is missing or cannot be read.
    """
    fetched(file)
    # a pipe without a writer is opened at once, not waited for
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(file, flags)
    try:
        _require_regular(file, os.fstat(handle).st_mode)
        with os.fdopen(handle, "rb", closefd=False) as opened:
            content = bytearray()
            # a read of so many bytes at once would take them, however small the file is
            while len(content) <= most and (block := opened.read(_BLOCK)):
                content += block
    finally:
        os.close(handle)
    if len(content) > most:
        raise LogError(f"{file} has more than {most:,} bytes, the most that such a file may have")
    return bytes(content)


def unreadable(file: Path) -> LogError:
    """Error for a file or folder that this person may not read; it may well be whole."""
    return LogError(f"{file} cannot be read: permission denied; make it readable")


def is_something(file: Path) -> bool:
    """Whether there is anything of this name, also a pipe or a link that leads nowhere.

    A remote file is there before its copy is.
    """
    return os.path.lexists(file) or listed_file(file) is not None


def _require_regular(file: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise LogError(f"{file} is {what}, expected a regular file; put the recorded file back")
