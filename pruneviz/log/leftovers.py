"""What a process that was killed while it finished a run left in it.

A run is finished once its spec says so. Its parts and checkpoints are removed after that, so a
process that is killed in between leaves some; nothing reads them, but they take space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.epoch_parts import PARTS
from pruneviz.log.files import is_unfinished, remove_unfinished
from pruneviz.log.run_lock import LOCK_FILE, RunLock
from pruneviz.log.spec_file import SPEC_FILE, is_sealed

# A person may keep files of these folders' names in a finished run: only those of a recording go.
_REMOVED = {
    PARTS: re.compile(rf"(?:{'|'.join(schema.TABLES)})-\d+\.parquet|dropped\.txt"),
    "checkpoint": re.compile(r"epoch-\d+-[0-9a-f]{64}\.pt|initial\.safetensors|noted\.txt"),
}


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove what is left of the recording of finished runs, if a process was killed at its end.

    Runs that another process is about to finish, unfinished runs, and folders that cannot be
    written to or read stay as they are.

    Args:
        paths: Run directories; some may be missing.
    """
    for path in paths:
        with suppress(LogError, OSError):
            if (path / SPEC_FILE).is_file() and is_sealed(path) and any(_leftovers(path)):
                _clean(path)


def _clean(path: Path) -> None:
    lock = RunLock(path)
    sealed = False
    try:
        sealed = is_sealed(path)  # again, as it may have been opened for further epochs
        if sealed:
            remove_unfinished(path)
            for file in list(_leftovers(path)):
                if file.name != LOCK_FILE:
                    file.unlink(missing_ok=True)
            for folder in _REMOVED:
                with suppress(OSError):  # not empty, or not there
                    (path / folder).rmdir()
    finally:
        lock.release(remove=sealed)


def _leftovers(path: Path) -> Iterator[Path]:
    """Files of a finished run that only its recording needed."""
    yield from (file for file in path.rglob(".*") if is_unfinished(file))
    yield from path.glob(LOCK_FILE)
    for folder, ours in _REMOVED.items():
        yield from (file for file in (path / folder).glob("*") if ours.fullmatch(file.name))
