"""`pruneviz upload`: upload what lies in the spool of runs that were recorded into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import INCOMPLETE, command_app, tell
from pruneviz.console.words import counted
from pruneviz.errors import LogError

EXAMPLES = """
  # A run whose recorder was closed before all was uploaded
  pruneviz upload s3://bucket/sets/run0

  # All runs of a set
  pruneviz upload s3://bucket/sets

  # Whatever waits on this machine
  pruneviz upload
"""


def upload(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="URL",
            help="URLs of runs, or of folders with runs. Default: all that wait.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Upload runs that wait to go into an object store.

    A run that is recorded into a URL lies in a folder of this machine until it is uploaded:
    $PRUNEVIZ_SPOOL, else ~/.local/state/pruneviz. Finished runs are removed from there once the
    store has them; of unfinished ones the epochs so far are uploaded. A run that a process records
    is left to it, and named. Exit code 1 tells that a run still waits.
    """
    from pruneviz.log.spooled_runs import upload_runs, waiting_runs
    from pruneviz.stores.spool import spool_folder, spool_root, spool_url
    from pruneviz.stores.urls import url_of

    folders = []
    for given in runs or ():
        url = url_of(given)
        if url is None:
            raise LogError(f"{given} is no URL; name the one into which the run was recorded")
        folders.append(spool_folder(url))
    paths = [path for folder in folders or [spool_root()] for path in waiting_runs(folder)]
    failed = 0
    for path, error in upload_runs(paths):
        failed += error is not None
        tell(f"{spool_url(path)}: {'uploaded' if error is None else error.args[0]}")
    if not paths:
        tell("no run waits to be uploaded")
    if failed:
        tell(f"{counted(failed, 'run')} of {len(paths)} not uploaded")
        raise typer.Exit(INCOMPLETE)


app = command_app(upload, "upload", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz upload")
