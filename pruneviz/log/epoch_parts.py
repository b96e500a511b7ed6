"""The files of an unfinished run: one for each table and epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.files import write_whole
from pruneviz.log.regular_files import is_something, read_regular

PARTS = "parts"  # folder in a run directory
DROPPED = "dropped.txt"  # in it
_MOST_DIGITS = 20  # of an epoch in it
_PART = re.compile(rf"({'|'.join(schema.TABLES)})-([0-9]{{5,10}})\.parquet")


def parts_of(path: Path, table: str, epochs: Iterable[int] | None = None) -> list[Path]:
    """The files of a table in an unfinished run, one per complete epoch.

    Args:
        path: Run directory.
        table: Table name.
        epochs: The epochs, ascending. Default: those that are complete now.
    """
    chosen = complete_epochs(path) if epochs is None else epochs
    parts = [part_file(path, table, epoch) for epoch in chosen]
    return [part for part in parts if is_something(part)]


def complete_epochs(path: str | Path) -> list[int]:
    """Epochs of an unfinished run that are complete on disk, ascending."""
    parts = map(part_named, _names_in(Path(path) / PARTS))
    return sorted(epoch for table, epoch in filter(None, parts) if table == "epochs")


def part_named(name: str) -> tuple[str, int] | None:
    """The table and epoch of a part by the name of its file; None if it is none."""
    found = _PART.fullmatch(name)
    if found is None or name != _part_name(found[1], int(found[2])):
        return None
    return found[1], int(found[2])


def is_of_parts(name: str) -> bool:
    """Whether a file of the folder of parts is one that pruneviz wrote there."""
    return name == DROPPED or part_named(name) is not None


def _names_in(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [file.name for file in folder.iterdir()]
    return []


def parts_after(path: Path, epoch: int) -> list[Path]:
    """All files of later epochs, in an order in which they can be deleted one by one.

    The last epoch comes first, and of an epoch the part that marks it as complete.
    """
    found = []
    for name in _names_in(path / PARTS):
        named = part_named(name)
        if named is not None and named[1] > epoch:
            found.append((-named[1], named[0] != "epochs", path / PARTS / name))
    return [part for _, _, part in sorted(found)]


def mark_dropped(path: Path, after: int, last: int | None) -> None:
    """Keep the number of the last epoch of an unfinished run whose epochs will be dropped.

    Args:
        path: Run directory.
        after: The last epoch that stays.
        last: The last epoch that was recorded, also if it is lost; None if it is not known.
    """
    held = max([*complete_epochs(path), -1 if last is None else last], default=-1)
    if held > max(after, last_dropped(path)):
        write_whole(path / PARTS / DROPPED, lambda file: file.write_text(str(held)))


def last_dropped(path: Path) -> int:
    """The last epoch that an unfinished run held and dropped, by rewinding; -1 without one."""
    file = path / PARTS / DROPPED
    if not is_something(file):
        return -1
    try:
        return int(read_regular(file, _MOST_DIGITS))
    except (OSError, ValueError) as error:
        raise LogError(
            f"{file} is corrupt ({error}); write the number of the last epoch that was recorded "
            "before the run went back, or record the run again"
        ) from error


def part_file(path: Path, table: str, epoch: int) -> Path:
    """The file of a table's rows of one epoch."""
    return path / PARTS / _part_name(table, epoch)


def _part_name(table: str, epoch: int) -> str:
    return f"{table}-{epoch:05d}.parquet"
