"""The files of an unfinished run: one for each table and epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PARTS = "parts"  # folder in a run directory


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


def part_file(path: Path, table: str, epoch: int) -> Path:
    """The file of a table's rows of one epoch."""
    return path / PARTS / f"{table}-{epoch:05d}.parquet"
