"""Which files of a run that is recorded go into a store, and in which order.

The order is one in which the store holds a run that can be read after every file: of an epoch the
part that marks it as complete comes last, then the lock with the last epoch, then the spec, which
says whether the run is finished.
"""

from __future__ import annotations

import json
from pathlib import Path

from pruneviz.log import schema
from pruneviz.log.checkpoint_names import CHECKPOINTS, INITIAL, NOTED
from pruneviz.log.checkpoint_names import is_of_recording as is_of_checkpoint
from pruneviz.log.epoch_parts import PARTS, is_of_parts, part_named
from pruneviz.log.files import is_unfinished
from pruneviz.log.regular_files import read_regular
from pruneviz.log.run_lock import LOCK_BYTES, LOCK_FILE
from pruneviz.log.spec_file import SPEC_FILE, is_sealed
from pruneviz.log.upload_state import LocalFile

_NEEDED = (NOTED, INITIAL)  # without which a recording cannot go on; smaller than a checkpoint
_TABLES = tuple(f"{table}.parquet" for table in schema.TABLES)


def files_to_upload(run: Path, *, checkpoints: bool) -> dict[str, LocalFile]:
    """The files of a run that belong into the store now, in the order of their upload.

    Args:
        run: Run directory.
        checkpoints: Whether checkpoints of training are among them.

    Raises:
        OSError: If a file vanished meanwhile, as when the run is finished.
        LogError: If the spec cannot be read.
    """
    sealed = is_sealed(run)
    names = [
        file.relative_to(run).as_posix()
        for file in sorted(run.rglob("*"))
        if file.is_file() and not is_unfinished(file)
    ]
    chosen = [name for name in names if _belongs(name, sealed, checkpoints)]
    return {name: LocalFile.of(run / name) for name in sorted(chosen, key=_order)}


def is_of_recording(name: str) -> bool:
    """Whether a file in a store is one that a recorder put there, by its name."""
    folder, _, inner = name.rpartition("/")
    if folder == PARTS:
        return is_of_parts(inner)
    if folder == CHECKPOINTS:
        return is_of_checkpoint(inner)
    return name in _TABLES


def deletion_order(name: str) -> tuple[bool, bool, int, str]:
    """Sorts files by when they may be deleted: later epochs first, and their last part."""
    part = part_named(name.removeprefix(f"{PARTS}/"))
    if part is None:
        return (name == LOCK_FILE, True, 0, name)
    return (False, part[0] != "epochs", -part[1], name)


def lock_to_upload(run: Path, names: set[str]) -> bytes | None:
    """The lock of a run, with the last epoch that the store holds; None if it is finished.

    Args:
        run: Run directory.
        names: Files in the store.
    """
    try:
        text = json.loads(read_regular(run / LOCK_FILE, LOCK_BYTES))
    except (FileNotFoundError, ValueError):
        return None
    parts = (part_named(name.removeprefix(f"{PARTS}/")) for name in names)
    held = [part[1] for part in parts if part and part[0] == "epochs"]
    last = max(held, default=-1)
    known = text.get("last")
    line = json.dumps({**text, "last": last if known is None else min(known, last)}).encode()
    return line[: LOCK_BYTES - 1].ljust(LOCK_BYTES - 1) + b"\n"


def _belongs(name: str, sealed: bool, checkpoints: bool) -> bool:
    folder, _, inner = name.rpartition("/")
    if name == LOCK_FILE or (folder == "" and name.startswith(".")):
        return False  # written by itself; what is ours alone
    if folder == PARTS:
        return not sealed
    if folder == CHECKPOINTS:
        return not sealed and (checkpoints or inner in _NEEDED)
    return sealed or name not in _TABLES


def _order(name: str) -> tuple[int, int, bool, str]:
    part = part_named(name.removeprefix(f"{PARTS}/"))
    epoch, is_last = (-1, False) if part is None else (part[1], part[0] == "epochs")
    return (name == SPEC_FILE, epoch, is_last, name)
