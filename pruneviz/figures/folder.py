"""Folders of recordings and figures, as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pruneviz.console.command import may_be_incomplete, say
from pruneviz.console.words import counted
from pruneviz.errors import LogError

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.log.runs import Runs

# pandas and pyarrow are imported where they are used, so that --help is fast.

RECORDED = Path("data/digits")  # where `pruneviz record` records by default
SHIPPED = Path("data/cifar-mini")  # recordings in the repository


def folders(data: Path | None, out: Path | None) -> tuple[Path, Path]:
    """Where recordings are and figures go; --out alone may name recordings, as it records them."""
    if data is None and out is not None and _holds_recordings(out):
        say(f"{out} holds recordings, and is read; --data names them too")
        data, out = out, None
    data = RECORDED if data is None else data
    return data, out or Path("figures") / data.resolve().name


def check_recorded(data: Path, figures: Sequence[str]) -> None:
    """Raise `LogError` for a folder without recordings, with the command that fills it."""
    from pruneviz.log.found_runs import run_paths
    from pruneviz.stores.urls import url_of

    if url_of(data):
        run_paths(data, [])  # says why a store has none, or cannot be read
    elif not _holds_recordings(data):
        raise LogError(*_what_to_record(data, figures))


def loaded(data: Path) -> tuple[Runs, tuple[str, ...]]:
    """The finished runs in a folder; says how many there are, and which are unfinished.

    Returns:
        The runs, and why others cannot be read, a sentence each. Of damaged tables the pictures
        that need them tell.

    Raises:
        LogError: If no run can be read.
    """
    from pruneviz.log.readable_runs import check_spec, readable_runs
    from pruneviz.log.runs import finished

    found = readable_runs(data, check_spec)
    runs = finished(found.paths)
    say(f"drawing from {counted(len(runs), 'recording')} in {data}")
    for run in runs.unfinished:
        say(
            f"run {run} is unfinished and left out; if nothing records it any more, repeat its "
            "command or training loop to go on"
        )
    return runs, found.damaged


def spec_in(data: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The specs of the finished runs in a folder; says so and is empty if there are none.

    Returns:
        The specs, and why others cannot be read, a sentence each.

    Raises:
        Incomplete: If there are runs, and none can be read.
    """
    from pruneviz.log.found_runs import run_paths
    from pruneviz.log.readable_runs import check_files, readable_runs
    from pruneviz.log.runs import finished, spec_table

    unlisted: list[str] = []
    try:
        paths = run_paths(data, unlisted)
    except LogError as error:
        say(str(error))
        return spec_table([]), ()
    if not paths:
        return spec_table([]), tuple(unlisted)
    with may_be_incomplete():
        found = readable_runs(paths, check_files)
    return finished(found.paths).spec, (*unlisted, *found.damaged)


def _holds_recordings(folder: Path) -> bool:
    from pruneviz.log.found_runs import run_paths

    try:
        return bool(run_paths(folder, []))
    except LogError:
        return False


def _what_to_record(data: Path, figures: Sequence[str]) -> list[str]:
    from pruneviz.log.found_runs import folders_beside
    from pruneviz.plans.planning import record_command
    from pruneviz.plans.presets import PRESETS

    preset = data.resolve().name
    if preset not in PRESETS or not set(figures) <= set(PRESETS[preset].figures):
        preset = "digits"
    command = record_command(preset, str(data), figures=list(figures))
    found = f"{data} holds no recordings" if data.is_dir() else f"there is no folder {data}"
    beside = folders_beside(data)
    if beside:
        found += f"; there are recordings in {', '.join(beside)}"
    lines = [found, f"Record what is needed with: {command}"]
    if SHIPPED.is_dir():
        lines.append(f"Or draw from recordings that ship: pruneviz figures 3 13 --data {SHIPPED}")
    return lines
