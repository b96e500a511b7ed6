"""Runs in object stores, as folders to read: local copies that are filled when they are read."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from pruneviz.errors import LogError
from pruneviz.log.checkpoint_names import CHECKPOINTS, NOTED
from pruneviz.log.epoch_parts import PARTS
from pruneviz.log.run_lock import LOCK_BYTES, LOCK_FILE
from pruneviz.log.spec_file import SPEC_FILE
from pruneviz.stores.bound import bounded_mirror
from pruneviz.stores.listing import RemoteRun, content_of, files_below, runs_below
from pruneviz.stores.mirror import copied, fetch_together

_MARKS = (SPEC_FILE, "epochs.parquet")
_TRIES = 3  # of a run that is recorded meanwhile

_logger = logging.getLogger("pruneviz")


def remote_run_paths(url: str, unlisted: list[str] | None = None) -> list[Path]:
    """The runs at or below a URL, or that match a pattern, as folders.

    Args:
        url: URL of a run, of a folder with runs, or a glob pattern.
        unlisted: Gets a sentence for each unfinished run that cannot be copied. Default: these are
            errors.

    Raises:
        LogError: If there are no runs, or the store cannot be read.
    """
    runs, inside = runs_below(url, _MARKS)
    for one in inside:
        _logger.warning("%s lies inside another run and is left out; move it out of there", one)
    if not runs:
        raise LogError(
            f"{url} holds no recordings (no {SPEC_FILE} in it or below it); check it, or record "
            f"some with pruneviz record --out {url}"
        )
    found = []
    for run in runs:
        try:
            found.append(_whole_if_unfinished(run))
        except LogError as error:
            if unlisted is None:
                raise
            unlisted.append(str(error))
    fetch_together([path / SPEC_FILE for path in found])
    bounded_mirror()
    return found


def _whole_if_unfinished(run: RemoteRun) -> Path:
    """The copy of a run; of an unfinished one all its parts, as they were at one moment.

    The last epoch is read before the parts are listed, so none of them can be missing.
    """
    if not any(map(_is_of_unfinished, run.files)):
        return copied(run).folder
    for _ in range(_TRIES - 1):
        with suppress(LogError):  # changed while it was read
            return _as_now(run.url)
    return _as_now(run.url)


def _as_now(url: str) -> Path:
    lock = content_of(f"{url}/{LOCK_FILE}", LOCK_BYTES)
    run = RemoteRun(url, files_below(url))
    copy = copied(run)
    file = copy.folder / LOCK_FILE
    if lock and not file.exists():
        file.write_bytes(lock)
    copy.fetch(name for name in run.files if _is_of_unfinished(name) or name == SPEC_FILE)
    return copy.folder


def _is_of_unfinished(name: str) -> bool:
    return name == LOCK_FILE or name == f"{CHECKPOINTS}/{NOTED}" or name.startswith(f"{PARTS}/")
