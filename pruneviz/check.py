"""`pruneviz check`: every fault of recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import INCOMPLETE, command_app, tell
from pruneviz.console.options import Data, recordings_given
from pruneviz.console.progress import with_bar
from pruneviz.console.shown_text import visible
from pruneviz.console.words import counted

EXAMPLES = """
  # All runs below a folder
  pruneviz check data/mine

  # Several folders, such as copies on a backup
  pruneviz check data/mine /mnt/backup/mine

  # In a script: 0 if all are whole, 1 if one has a fault
  pruneviz check data/mine && pruneviz figures --data data/mine
"""


def check(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Run directories, or folders with runs at any depth.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Name every fault of recordings.

    Every file is read to its end, and nothing is changed. A fault is a file that is damaged, lost,
    left by a killed process or no regular file; tables that disagree with each other, with the spec
    or with what was written; checkpoints and kept weights that are not what was written. A run that
    is not finished is no fault, and is named. Exit code 1 tells that there are faults.
    """
    from pruneviz.log.faults import checked_run
    from pruneviz.log.found_runs import run_paths

    faulty = unfinished = 0
    unlisted: list[str] = []
    paths = run_paths(recordings_given(runs, data), unlisted)
    for folder in unlisted:
        tell(visible(folder))
    for path in with_bar(paths, "run"):
        found, name = checked_run(path), visible(path)
        faulty += bool(found.faults)
        if found.sealed is False:
            unfinished += 1
            tell(f"{name}: unfinished, with {counted(found.epochs or 0, 'epoch')}")
        for fault in found.faults:
            tell(fault if name in fault else f"{name}: {fault}")
    open_runs = f", {unfinished} of them unfinished" if unfinished else ""
    tell(
        f"{counted(len(paths), 'run')}{open_runs}: "
        + (f"{counted(faulty, 'run')} with faults" if faulty else "no faults")
    )
    if faulty or unlisted:
        raise typer.Exit(INCOMPLETE)


app = command_app(check, "check", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz check")
