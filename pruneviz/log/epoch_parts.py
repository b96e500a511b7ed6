"""The files of an unfinished run: one for each table and epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pruneviz.log.files import write_whole

PARTS = "parts"  # folder in a run directory
_DROPPED = "dropped.txt"  # in it


def parts_of(path: Path, table: str, epochs: Iterable[int] | None = None) -> list[Path]:
    """The files of a table in an unfinished run, one per complete epoch.

    Args:
        path: Run directory.
        table: Table name.
        epochs: The epochs, ascending. Default: those that are complete now.
    """
    chosen = complete_epochs(path) if epochs is None else epochs
    parts = [part_file(path, table, epoch) for epoch in chosen]
    return [part for part in parts if part.exists()]


def complete_epochs(path: str | Path) -> list[int]:
    """Epochs of an unfinished run that are complete on disk, ascending."""
    parts = (Path(path) / PARTS).glob("epochs-*.parquet")
    return sorted(int(part.stem.removeprefix("epochs-")) for part in parts)


def mark_dropped(path: Path, after: int) -> None:
    """Keep the number of the last epoch of an unfinished run whose epochs will be dropped.

    Args:
        path: Run directory.
        after: The last epoch that stays.
    """
    held = complete_epochs(path)
    if held and held[-1] > max(after, last_dropped(path)):
        write_whole(path / PARTS / _DROPPED, lambda file: file.write_text(str(held[-1])))


def last_dropped(path: Path) -> int:
    """The last epoch that an unfinished run held and dropped, by rewinding; -1 without one."""
    file = path / PARTS / _DROPPED
    return int(file.read_text()) if file.exists() else -1


def part_file(path: Path, table: str, epoch: int) -> Path:
    """The file of a table's rows of one epoch."""
    return path / PARTS / f"{table}-{epoch:05d}.parquet"
