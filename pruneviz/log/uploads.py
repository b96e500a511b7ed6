"""A run of the spool and its place in a store: uploads in the background, and their end.

The run is recorded on this disk as any other. A thread uploads what changed after each epoch, and
tries again when that fails, so training never waits for the network, but for a bounded time at the
start and the end. Everything that is not uploaded lies in the spool, also after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from pruneviz.errors import LogError
from pruneviz.log.recording_files import (
    deletion_order,
    files_to_upload,
    is_of_recording,
    lock_to_upload,
)
from pruneviz.log.run_lock import LOCK_BYTES, LOCK_FILE
from pruneviz.log.spec_file import SPEC_FILE, is_sealed
from pruneviz.log.upload_state import LocalFile, Uploaded
from pruneviz.stores.background import Background
from pruneviz.stores.listing import RemoteFile, RemoteRun
from pruneviz.stores.mirror import Copy, copy_at, place
from pruneviz.stores.remote_folder import RemoteFolder
from pruneviz.stores.spool import spool_url

START_SECONDS = 30.0  # that a recorder waits for the store when it is made
END_SECONDS = 300.0  # that it waits when it is closed
LEAVE_SECONDS = 5.0  # that it waits after an error
_TRIES = 10  # of a run that is written while it is uploaded

Files: TypeAlias = Mapping[str, tuple[LocalFile, RemoteFile]]


class _ChangedError(Exception):
    """A run was written while it was uploaded."""


class Uploads:
    """Uploads of a run while it is recorded; nothing happens for a run outside of the spool.

    Args:
        path: Run directory, whose lock is held.
        checkpoints: Whether to upload checkpoints of training too.
    """

    def __init__(self, path: Path, *, checkpoints: bool = False) -> None:
        self._path, self._checkpoints, self._url = path, checkpoints, spool_url(path)
        self._running: tuple[Background, Upload] | None = None

    def begin(self) -> None:
        """Take the place in the store; a store that does not answer in time is tried again.

        Raises:
            LogError: If another recording is there.
        """
        self.changed()
        if self._running is not None:
            self._running[0].wait(START_SECONDS)
            self._check(self._running[0])

    def changed(self) -> None:
        """Upload what changed, in the background.

        Raises:
            LogError: If uploading ended for good, such as by another recorder of the run.
        """
        background, _ = self._begun() or (None, None)
        if background is not None:
            self._check(background)
            background.ask()

    def finish(self, seconds: float = END_SECONDS) -> None:
        """Upload the rest of a finished run, and leave a copy in the spool that is read on demand.

        Args:
            seconds: How long to wait at most.

        Raises:
            LogError: If not all is uploaded then; says where it lies and how to go on.
        """
        if (begun := self._begun()) is None:
            return
        background, upload = begun
        self.changed()
        done = background.wait(seconds)
        self._check(background)
        self._end()
        if not done:
            raise upload.not_uploaded(background.failure)
        if is_sealed(self._path):
            upload.leave_copy()

    def leave(self) -> None:
        """Upload what is there after an error, for a few seconds, and end."""
        if self._running is not None:
            self._running[0].ask()
            self._running[0].wait(LEAVE_SECONDS)
            self._end()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, as of a network that holds the recorder, uploads nothing."""
        return {**vars(self), "_url": None, "_running": None}

    def _begun(self) -> tuple[Background, Upload] | None:
        """The thread and its work; none for a run that lies in the store already, or elsewhere."""
        if self._running is None and self._url is not None and copy_at(self._path) is None:
            upload = Upload(self._path, self._url, checkpoints=self._checkpoints)
            meanwhile = f"The recording goes on in {self._path}, and uploading is tried again"
            self._running = Background(upload.work, meanwhile, upload.remote.renew), upload
        return self._running

    def _end(self) -> None:
        if self._running is not None:
            self._running[0].end()
            self._running = None

    @staticmethod
    def _check(background: Background) -> None:
        if background.refused is not None:
            raise background.refused


class Upload:
    """Brings the place of a run in a store up to date.

    Args:
        path: Run directory in the spool.
        url: Where it goes.
        checkpoints: Whether to upload checkpoints too.

    Attributes:
        remote: The place.
    """

    def __init__(self, path: Path, url: str, *, checkpoints: bool = False) -> None:
        self._path, self._checkpoints = path, checkpoints
        self.remote = RemoteFolder(url)
        self._known = Uploaded.read(path)
        self._lock: bytes | None = None  # as it was written last
        self._sent: dict[str, LocalFile] = {}  # not seen in the store yet

    def work(self) -> LogError | None:
        """Upload what the store lacks, then delete what the run has no more.

        Returns:
            The error if somebody else records the run.

        Raises:
            LogError: If the store fails.
        """
        for _ in range(_TRIES):
            with suppress(_ChangedError):  # written meanwhile; what is there now goes up
                return self._work()
        raise LogError(f"{self._path} changed whenever it was uploaded")

    def _work(self) -> LogError | None:
        there = self.remote.files()
        if refused := self._someone_else(there):
            return refused
        spec = self._spec()
        try:
            local = files_to_upload(self._path, checkpoints=self._checkpoints)
            self._put(local, there, spec)
        except FileNotFoundError as error:
            raise _ChangedError from error
        if self._spec() != spec:
            raise _ChangedError
        sealed = is_sealed(self._path)
        gone = {name for name in there if name in self._known.files or is_of_recording(name)}
        gone |= {LOCK_FILE} & set(there) if sealed else set()
        for name in sorted(gone - set(local), key=deletion_order):
            self.remote.delete(name)
        kept = {name: both for name, both in self._known.files.items() if name in local}
        self._know(kept, None if sealed else self._known.lock)
        return None

    def leave_copy(self) -> None:
        """Make the run directory a copy of what is in the store, filled when it is read.

        Raises:
            LogError: If the run is not there as it is here, or the store does not answer.
        """
        try:
            files = self.remote.files()
        except LogError as error:
            raise self.not_uploaded(error) from error
        local = files_to_upload(self._path, checkpoints=False)
        if self._known.lacks(local, files):
            raise self.not_uploaded(None)
        place(Copy(self._path, RemoteRun(self.remote.url, files)))
        for name in local:
            if name != SPEC_FILE:
                (self._path / name).unlink(missing_ok=True)
        Uploaded.remove(self._path)

    def not_uploaded(self, failure: Exception | None) -> LogError:
        """The error for a run that is finished on this disk alone."""
        why = f" ({failure.args[0]})" if failure is not None and failure.args else ""
        return LogError(
            f"{self._path} is recorded, and not all of it is uploaded yet{why}; keep the folder, "
            f"and go on with: pruneviz upload {self.remote.url}"
        )

    def _put(self, local: dict[str, LocalFile], there: dict[str, RemoteFile], spec: bytes) -> None:
        """Upload files one after the other; the spec comes last, once all others are there."""
        lacking = self._known.lacks(local, there)
        missing = {name for name in lacking if not self._was_sent(name, local[name], there)}
        for name in local:
            if name in missing and name != SPEC_FILE:
                self.remote.put(name, self._path / name)
                self._sent[name] = local[name]
        self._put_lock(set(local))
        now = self.remote.files() if missing - {SPEC_FILE} else there
        short = [n for n in local if n != SPEC_FILE and not _is_whole(local[n], now.get(n))]
        if short:
            if LocalFile.of(self._path / short[0]) != local[short[0]]:
                raise _ChangedError
            raise LogError(
                f"{self.remote.url}/{short[0]} is not what was uploaded; uploading goes on"
            )
        if SPEC_FILE in missing:
            self.remote.write(SPEC_FILE, spec)
            now = {**now, SPEC_FILE: self.remote.version(SPEC_FILE)}
        before = self._known.files
        held = {name: (file, now[name]) for name, file in local.items()}
        self._know({**before, **held}, self._known.lock)
        self._sent.clear()

    def _was_sent(self, name: str, file: LocalFile, there: Mapping[str, RemoteFile]) -> bool:
        """Whether a try that failed later uploaded a file, and it is whole in the store."""
        return self._sent.get(name) == file and _is_whole(file, there.get(name))

    def _put_lock(self, names: set[str]) -> None:
        """Tell in the store who records the run and how far it came."""
        lock = lock_to_upload(self._path, names)
        if lock is None or lock == self._lock:
            return
        self._sign()
        self.remote.write(LOCK_FILE, lock)
        version = self.remote.version(LOCK_FILE)
        if self.remote.content(LOCK_FILE, LOCK_BYTES) != lock:
            raise _ChangedError  # by somebody else, which is seen when it is tried again
        self._lock = lock
        self._know(self._known.files, version)

    def _someone_else(self, there: dict[str, RemoteFile]) -> LogError | None:
        """The error if another recorder wrote into the place since this one did."""
        now, known = there.get(LOCK_FILE), self._known
        if now is None:
            spec = known.files[SPEC_FILE][1] if SPEC_FILE in known.files else None
            if known.lock is None or there.get(SPEC_FILE) in (None, spec):
                return self._claim(there)
        elif now == known.lock:
            return None
        found = lock_of(self.remote)
        if found and found.get("writer") in {lock_text(self._path).get("writer"), *known.writers}:
            return None
        by = f"by process {found.get('process')} ({found.get('host')}) since {found.get('since')}"
        return LogError(
            f"{self.remote.url} was recorded {by if found else 'further by another process'}, "
            f"too; stop one of the two. To go on from what is there, delete {self._path}"
        )

    def _claim(self, there: dict[str, RemoteFile]) -> LogError | None:
        """Take a place that nobody has; some stores let only one of two take it."""
        lock = lock_to_upload(self._path, set(there))
        self._sign()
        if lock is None or self.remote.write(LOCK_FILE, lock, new=True):
            return None
        there = self.remote.files()
        if LOCK_FILE not in there:  # it would be claimed again, for ever
            raise LogError(f"{self.remote.url} has a {LOCK_FILE} that is not listed")
        return self._someone_else(there)

    def _sign(self) -> None:
        """Note on this disk who writes the lock, before it is in the store: a kill may follow."""
        if lock_text(self._path).get("writer") not in (None, *self._known.writers):
            self._know(self._known.files, self._known.lock)

    def _know(self, files: Files, lock: RemoteFile | None) -> None:
        own = lock_text(self._path).get("writer")
        writers = dict.fromkeys([*self._known.writers, *([str(own)] if own else [])])
        self._known = Uploaded(files, lock, tuple(writers))
        self._known.write(self._path)

    def _spec(self) -> bytes:
        return (self._path / SPEC_FILE).read_bytes()


def lock_of(remote: RemoteFolder) -> dict[str, Any]:
    """What the lock in a store says; nothing if there is none that can be read."""
    return _parsed(remote.content(LOCK_FILE, LOCK_BYTES) or b"")


def lock_text(path: Path) -> dict[str, Any]:
    """What the lock of a run directory says; nothing if there is none."""
    try:
        return _parsed((path / LOCK_FILE).read_bytes()[:LOCK_BYTES])
    except OSError:
        return {}


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_whole(file: LocalFile, there: RemoteFile | None) -> bool:
    return there is not None and there.size == file.size
