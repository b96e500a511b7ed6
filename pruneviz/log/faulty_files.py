"""Files of a run that are damaged, left behind, or no files at all; torch is not needed."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pruneviz.errors import LogError
from pruneviz.log.checkpoint_names import CHECKPOINTS, INITIAL, named
from pruneviz.log.checksums import sha256_of
from pruneviz.log.epoch_parts import DROPPED, PARTS, complete_epochs, last_dropped, part_named
from pruneviz.log.faulty_weights import check_archive, check_tensors
from pruneviz.log.files import is_unfinished
from pruneviz.log.kept_files import DIGEST, kept_files, network_digests, of_another, unrecorded
from pruneviz.log.leftovers import leftovers
from pruneviz.log.regular_files import check_regular, is_something, unreadable


def not_regular(path: Path) -> Iterator[str]:
    """What in a run directory is neither a folder nor a regular file, nor a link to one."""
    for found in sorted(path.rglob("*")):
        try:
            if not stat.S_ISDIR(found.stat().st_mode):
                check_regular(found)
        except LogError as error:
            yield str(error)
        except OSError as error:
            yield f"{found} cannot be read ({error.strerror}); restore it from a backup"


def left_behind(path: Path, *, sealed: bool) -> Iterator[str]:
    """What a killed process left in a run directory."""
    half_written = sorted(filter(is_unfinished, path.rglob(".*")))
    for file in half_written:
        yield f"{file} is half-written, left by a process that was killed; delete it"
    found = {*leftovers(path)} - {*half_written} if sealed else set()
    for name in (PARTS, CHECKPOINTS):
        inside = {file for file in found if path / name in (file, file.parent)}
        if not inside:
            continue
        found -= inside
        others = {*(path / name).iterdir()} - inside - {*half_written}
        what = "what is not yours in it" if others else "this folder"
        yield _left(path / name, what)
    yield from (_left(file, "it") for file in sorted(found))


def _left(file: Path, what: str) -> str:
    return (
        f"{file} was left by a process that was killed while it finished the run; repeat the "
        f"command that recorded it, or delete {what}"
    )


def unknown_parts(path: Path) -> Iterator[str]:
    """Files among the parts of an unfinished run that are none of its recorded epochs."""
    folder, whole = path / PARTS, set(complete_epochs(path))
    try:
        after = max(whole, default=-1)
        last_dropped(path)
    except LogError as error:
        yield str(error)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        part = part_named(file.name)
        if part is None:
            if file.name != DROPPED and not is_unfinished(file):
                yield f"{file} is no part of a run; move it out of there"
        elif part[1] not in whole and part[1] < after:
            yield f"{file} is of an epoch without its epochs part; restore that from a backup"


def damaged_checkpoints(path: Path) -> Iterator[str]:
    """Checkpoints that are not what was written, by the SHA-256 in their names, else their CRCs."""
    for file in sorted((path / CHECKPOINTS).glob("*.pt")):
        yield from _damage(file, _check_digest if named(file.name) else check_archive)


def damaged_weights(path: Path) -> Iterator[str]:
    """Kept weights that are not what was written, or are of another epoch, network or run."""
    initial = path / CHECKPOINTS / INITIAL
    try:
        recorded = network_digests(path)
        yield from unrecorded(path)
    except LogError:  # the log is named by itself
        recorded = {}
    for file in sorted(path.glob("*.safetensors")):
        yield from _damage(file, check_tensors)
    files = [*kept_files(path).items(), *([(0, initial)] if is_something(initial) else [])]
    for epoch, file in files:
        stated: dict[str, Any] = {}
        damage = [*_damage(file, partial(_check_kept, stated))]
        fault = None if damage else of_another(file, stated, path, epoch, recorded.get(epoch))
        yield from damage if fault is None else [fault]


def _check_kept(stated: dict[str, Any], file: Path) -> None:
    """Check kept weights, and fill in what their header says."""
    stated |= check_tensors(file)
    if stated and DIGEST not in stated:
        raise ValueError(f"its header lacks {DIGEST}")


def _damage(file: Path, check: Callable[[Path], object]) -> Iterator[str]:
    try:
        check_regular(file)
        check(file)
    except LogError as error:
        yield str(error)
    except PermissionError:
        yield str(unreadable(file))
    except Exception as error:  # what is read may have been changed in any way, and so fail in any
        why = str(error) or type(error).__name__
        yield f"{file} is corrupt ({why}); restore it from a backup, or delete it"


def _check_digest(file: Path) -> None:
    name = named(file.name)
    if name is not None and sha256_of(file) != name.sha256:
        raise ValueError("its SHA-256 is not the one in its name")
