"""What a process that was killed while it finished a run left in it.

A run is finished once its spec says so. Its parts and checkpoints are removed after that, so a
process that is killed in between leaves some; nothing reads them, but they take space.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pruneviz.errors import LogError
from pruneviz.log.checkpoint_names import CHECKPOINTS, is_of_recording
from pruneviz.log.epoch_parts import PARTS, is_of_parts
from pruneviz.log.files import is_unfinished, remove_unfinished
from pruneviz.log.run_lock import LOCK_FILE, RunLock
from pruneviz.log.spec_file import SPEC_FILE, is_sealed

# A person may keep files of these folders' names in a finished run: only those of a recording go.
_OURS = {PARTS: is_of_parts, CHECKPOINTS: is_of_recording}


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove what is left of the recording of finished runs, if a process was killed at its end.

    Runs that another process is about to finish, unfinished runs, and folders that cannot be
    written to or read stay as they are.

    Args:
        paths: Run directories; some may be missing.
    """
    for path in paths:
        with suppress(LogError, OSError):
            if (path / SPEC_FILE).is_file() and is_sealed(path) and any(leftovers(path)):
                _clean(path)


def _clean(path: Path) -> None:
    lock = RunLock(path)
    sealed = False
    try:
        sealed = is_sealed(path)  # again, as it may have been opened for further epochs
        if sealed:
            remove_recording(path)
    finally:
        lock.release(remove=sealed)


def remove_recording(path: Path) -> None:
    """Remove what only the recording of a run needed, but for its lock.

    Args:
        path: Directory of a finished run.
    """
    remove_unfinished(path)
    for file in list(leftovers(path)):
        if file.name != LOCK_FILE and not file.is_dir():
            file.unlink(missing_ok=True)
    for folder in _OURS:
        with suppress(OSError):  # not empty, or not there
            (path / folder).rmdir()


def leftovers(path: Path) -> Iterator[Path]:
    """Files and empty folders of a finished run that only its recording needed.

    Args:
        path: Run directory.
    """
    yield from (file for file in path.rglob(".*") if is_unfinished(file))
    yield from path.glob(LOCK_FILE)
    for folder, is_ours in _OURS.items():
        inside = list((path / folder).iterdir()) if (path / folder).is_dir() else []
        yield from (file for file in inside if is_ours(file.name))
        if not inside and (path / folder).is_dir():
            yield path / folder
