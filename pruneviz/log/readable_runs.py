"""Runs that can be read beside others that cannot: a damaged run stops no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pruneviz.console.shown_text import visible
from pruneviz.errors import LogError
from pruneviz.log.found_runs import Where, run_paths
from pruneviz.log.recordings import recordings_at
from pruneviz.log.runs import Runs, Unfinished, load
from pruneviz.log.schema import TABLES

Result = TypeVar("Result")


@dataclass(frozen=True)
class Readable:
    """Run directories, told apart by whether they can be read.

    Attributes:
        paths: Those that can be read.
        damaged: Why each of the others cannot, in a sentence that names it.
    """

    paths: tuple[Path, ...]
    damaged: tuple[str, ...]


def check_spec(path: Path) -> None:
    """Raise `LogError` if the facts of a run cannot be read; looks at none of its tables."""
    recordings_at([path])


def check_files(path: Path) -> None:
    """Raise `LogError` if `pruneviz.load` refuses a run; reads no rows of a finished one."""
    load([path], unfinished="skip")


def readable_runs(where: Where, check: Callable[[Path], object]) -> Readable:
    """Tell the runs that can be read from those that cannot.

    Args:
        where: Run directories or folders, as for `pruneviz.load`.
        check: Raises `LogError` for a run that cannot be read: `check_spec` or `check_files`.

    Raises:
        LogError: If there are no runs, or none can be read.
    """
    whole: list[Path] = []
    damaged: list[str] = []
    for path in run_paths(where, damaged):
        try:
            check(path)
        except (LogError, OSError) as error:
            why, name = str(error), visible(path)
            damaged.append(why if name in why else f"{name}: {why}")
        else:
            whole.append(path)
    if not whole:
        raise LogError(*damaged)
    return Readable(tuple(whole), tuple(damaged))


def from_readable(
    where: Where, work: Callable[[Runs], Result], unfinished: Unfinished = "skip"
) -> tuple[Result, tuple[str, ...]]:
    """What is made of some runs, without those that cannot be read.

    Args:
        where: Run directories or folders.
        work: Makes it; may be called twice, as damage inside a table shows when rows are read.
        unfinished: What to do with unfinished runs, as for `pruneviz.load`.

    Returns:
        What `work` returns, and for each run that is left out why, in a sentence that names it.

    Raises:
        LogError: If no run can be read; what `work` raises.
    """
    found = readable_runs(where, check_files)
    try:
        return work(load(found.paths, unfinished)), found.damaged
    except LogError:
        inside = readable_runs(found.paths, _check_rows)
        if not inside.damaged:
            raise
        return work(load(inside.paths, unfinished)), (*found.damaged, *inside.damaged)


def _check_rows(path: Path) -> None:
    runs = load([path], unfinished="skip")
    for table in TABLES:
        runs.read(table)
