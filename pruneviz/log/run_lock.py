"""One writer at a time: the lock of a run that is being recorded.

The operating system holds the lock, on the hidden file `.lock` in the run directory, so that it
ends with its process, however that ends. The file says who records the run and how far it came. It
stays while the run is unfinished and is removed when the run is sealed: by the holder of the lock
alone, and who gets the lock of a removed file tries again, so there are never two holders.

Not `filelock`: before version 4 a forked worker lets go of the lock of its parent, and since then
it puts hooks into the whole process.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import secrets
import stat
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"
LOCK_BYTES = 512  # bytes of its text: one sector of a disk, which is written whole or not at all
_TRIES, _PAUSE = 10, 0.02  # another process may look for a moment whether a run is recorded
_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL))
# A link is not followed, and a pipe of this name does not block.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))

_Id = tuple[int, int]  # device and number of a file: tells whether a name is still the same file

_logger = logging.getLogger("pruneviz")


@dataclass(frozen=True)
class _Text:
    """What the lock file says.

    Attributes:
        process, host, since: Who records the run.
        writer: Tells the holders of the lock apart.
        run_id: Tells the run from others of its name.
        last: The last epoch that was recorded; -1 before the first, None if not known.
    """

    process: int = 0
    host: str = ""
    since: str = ""
    writer: str = ""
    run_id: str = ""
    last: int | None = None


class RunLock:
    """The right to write into a run directory, until `release` or the end of the process.

    In the process that holds it already, a newer lock takes it over, and the older one is refused
    from then on. A process that is forked, such as a worker of a data loader, does not hold it. On
    a file system without locks, a warning says that a second writer is not noticed.

    Args:
        path: Run directory; must exist.

    Raises:
        LogError: If another process holds the lock, or the disk cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._fd: int | None = None
        self._file_id: _Id | None = None
        self._text = _Text()
        self._is_taken = False
        with disk_errors(path):
            self._folder_id = _identity(self.path)
            self._take()

    @property
    def run_id(self) -> str:
        """Tells the run from others of its name; "" before `keep`."""
        return self._text.run_id

    @property
    def last(self) -> int | None:
        """The last epoch that was recorded, by any process; -1 before the first.

        None if that is not known, as of a run that an older pruneviz began.
        """
        return self._text.last

    def check(self) -> None:
        """Check that the run is still to be written by this holder of the lock.

        A lock that was released is taken again, if nobody recorded the run in between.

        Raises:
            LogError: If a newer recorder or another process records the run, or the folder was
                replaced.
        """
        self._check_newest()
        with disk_errors(self.path):
            if self._fd is not None and _identity(self.path / LOCK_FILE) == self._file_id:
                return
            if _identity(self.path) != self._folder_id:
                raise LogError(
                    f"cannot write to {self.path}: the folder was deleted or replaced since this "
                    "recorder opened it; put it back, or record into another folder"
                )
            self._close()
            self._take()

    def check_not_taken(self) -> None:
        """Check that nobody else has taken the run; a lock that was released stays so.

        Raises:
            LogError: If a newer recorder or another process has.
        """
        self._check_newest()
        found = _text_of(self.path)
        if found.writer not in ("", self._text.writer):
            raise self._went_on(found)

    def keep(self, run_id: str, last: int) -> None:
        """Keep what tells whether parts of the run are lost or are those of another one.

        Args:
            run_id: Tells the run from others of its name.
            last: The last recorded epoch; -1 for none.
        """
        self._write(replace(self._text, run_id=run_id, last=last))

    def release(self, *, remove: bool = False) -> None:
        """Let go of the lock; without effect if it is not held.

        Args:
            remove: Whether the run is finished, so that the file is not needed any more.
        """
        if self._fd is None:
            return
        with suppress(OSError):  # the disk, or a system on which open files cannot be removed
            if remove and _identity(self.path / LOCK_FILE) == self._file_id:
                (self.path / LOCK_FILE).unlink()
        # not by closing alone: a process that was forked in C may still hold the file open
        if sys.platform != "win32":
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._close()

    def __deepcopy__(self, memo: dict[int, object]) -> RunLock:
        """A lock that holds nothing: what is copied with it, such as a network, cannot write."""
        copied = object.__new__(RunLock)
        memo[id(self)] = copied
        vars(copied).update(vars(self) | {"_fd": None, "_is_taken": True})
        return copied

    def __reduce__(self) -> NoReturn:
        raise LogError(
            f"the recorder of {self.path} cannot be pickled, as one process records a run; make a "
            "new one with resume=True or 'auto'"
        )

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone
            self.release()

    def _take(self) -> None:
        file = self.path / LOCK_FILE
        for _ in range(_TRIES):
            fd = self._locked()
            if fd is None:
                time.sleep(_PAUSE)
            elif _identity(file) == _id_of(fd):
                return self._hold(fd)
            else:
                os.close(fd)  # the run was finished in between, which removes the file
        raise _busy(self.path)

    def _locked(self) -> int | None:
        """The lock file with its lock, from an older holder in this process or from the system."""
        fd = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
        try:
            older = _held.get(_id_of(fd))
            if older is not None:
                return older._give()
            if _lock(fd, self.path):
                locked, fd = fd, -1
                return locked
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def _hold(self, fd: int) -> None:
        """Hold a lock that was got, unless the run went on without this holder."""
        found, before = _read(fd), self._text
        self._fd, self._file_id = fd, _id_of(fd)
        _held[self._file_id] = self
        if before.writer and found.writer not in ("", before.writer):
            self.release()
            raise self._went_on(found)
        kept = found if found.writer else before  # a file that somebody removed is new
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        own = _Text(os.getpid(), platform.node()[:100], since, secrets.token_hex(8))
        try:
            self._write(replace(own, run_id=kept.run_id, last=kept.last))
        except OSError:
            self.release(remove=not found.writer)
            raise
        with suppress(OSError):  # whoever may write into the folder may take the lock
            (self.path / LOCK_FILE).chmod(stat.S_IMODE(self.path.stat().st_mode) & 0o666)

    def _check_newest(self) -> None:
        if self._is_taken:
            raise LogError(
                f"{self.path} is recorded by a newer recorder of this process, or by the one that "
                "this is a copy of; use that one, or make a new one with resume=True or 'auto'"
            )

    def _went_on(self, found: _Text) -> LogError:
        return LogError(
            f"{self.path} was recorded further {_by(found)}; make a new recorder with "
            "resume=True or 'auto'"
        )

    def _write(self, text: _Text) -> None:
        self._text = text
        if self._fd is not None:
            line = json.dumps(asdict(text)).encode()
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, line[: LOCK_BYTES - 1].ljust(LOCK_BYTES - 1) + b"\n")
            # a file of the same size and place: there is nothing else to flush
            getattr(os, "fdatasync", os.fsync)(self._fd)

    def _give(self) -> int | None:
        """Hand the lock to a newer holder in this process."""
        fd, self._fd, self._is_taken = self._fd, None, True
        return fd

    def _close(self) -> None:
        """Close the file, which holds the lock; not that of the process that was forked."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._file_id and _held.get(self._file_id) is self:
            del _held[self._file_id]


# What this process holds: the system cannot tell two holders of one process apart, and a forked
# process must not keep what it inherits.
_held: weakref.WeakValueDictionary[_Id, RunLock] = weakref.WeakValueDictionary()


def _leave_to_parent() -> None:
    for lock in list(_held.values()):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def released_on_error(release: Callable[[], object]) -> Iterator[None]:
    """Let go of a run that fails to be opened.

    Args:
        release: Lets go of it.
    """
    try:
        yield
    except BaseException:
        release()
        raise


def check_idle(path: Path) -> None:
    """Raise `LogError` if another process records a run; says which."""
    if recorded_by(path):
        raise _busy(path)


def recorded_by(path: Path) -> str:
    """Which other process records a run, in words; "" if none does.

    Args:
        path: Run directory, or a folder that may not be one.
    """
    for _ in range(_TRIES):
        try:
            fd = os.open(path / LOCK_FILE, os.O_RDONLY | _FLAGS)
        except OSError:  # nobody records a run without this file
            return ""
        try:
            if _lock(fd, None, shared=True) or _id_of(fd) in _held:
                return ""
        finally:
            os.close(fd)
        time.sleep(_PAUSE)
    return _by(_text_of(path))


def recorded_so_far(path: Path) -> tuple[str, int | None]:
    """The id of an unfinished run and its last epoch, as its recorder keeps them.

    Args:
        path: Run directory.

    Returns:
        "" and None where they are not known.
    """
    text = _text_of(path)
    return text.run_id, text.last if text.run_id else None


def _text_of(path: Path) -> _Text:
    with suppress(OSError):
        fd = os.open(path / LOCK_FILE, os.O_RDONLY | _FLAGS)
        try:
            return _read(fd)
        finally:
            os.close(fd)
    return _Text()


def _lock(fd: int, path: Path | None, *, shared: bool = False) -> bool:
    """Whether this process has the lock of an open file now; warns where there are no locks."""
    try:
        if sys.platform == "win32":
            raise OSError(errno.ENOSYS, "this system has no such locks")
        fcntl.flock(fd, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in _NO_LOCKS:
            raise
        if path is not None:
            _logger.warning(
                "%s is on a file system without locks (%s), so that a second process that records "
                "into it is not noticed; record it with one process at a time",
                *(path, error.strerror),
            )
    return True


def _busy(path: Path) -> LogError:
    return LogError(f"{path} is being recorded {_by(_text_of(path))}; wait for it or stop it")


def _by(text: _Text) -> str:
    if not text.process:
        return "by another process"
    return f"by process {text.process} ({text.host}) since {text.since}"


def _read(fd: int) -> _Text:
    """What a lock file says; nothing if it is new or was not written by pruneviz."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        given = json.loads(os.read(fd, LOCK_BYTES))
        found = _Text(**{field.name: given[field.name] for field in fields(_Text)})
    except (OSError, ValueError, KeyError, TypeError):
        return _Text()
    texts = (found.host, found.since, found.writer, found.run_id)
    numbers = (found.process, found.last or 0)
    whole = all(isinstance(text, str) and text.isprintable() for text in texts)
    return found if whole and all(type(number) is int for number in numbers) else _Text()


def _id_of(fd: int) -> _Id:
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, f"{LOCK_FILE} is no file")
    return facts.st_dev, facts.st_ino


def _identity(path: Path) -> _Id | None:
    """The device and number of a file or folder; None if there is none."""
    try:
        facts = path.stat(follow_symlinks=True)
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino
