"""`pruneviz thin`: copies of finished runs that are small enough to ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import command_app, tell
from pruneviz.console.options import Data, recordings_given
from pruneviz.console.words import counted

EXAMPLES = """
  # One run
  pruneviz thin data/mine/vgg13-cifar100-unpruned-s0 --out data/to-ship

  # All runs in a folder
  pruneviz thin data/mine --out data/to-ship

  # Pruned runs, whose curves and ratios need no filters: those of the last epoch alone
  pruneviz thin data/mine --epochs -1 --out data/to-ship
"""


def thin(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the thin copies.")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories of finished runs, or folders with such runs.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    epochs: Annotated[
        list[int] | None,
        typer.Option(
            metavar="EPOCH,...",
            help="Measured epochs whose filters are kept; -1 is the last one. Default: all.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,...",
            help="Columns of the filters that are kept, besides layer, filter, epoch and kept. "
            "Default: all.",
        ),
    ] = None,
) -> None:
    """Copy finished runs without the epochs between measurements.

    The filters table keeps the epochs at which derivatives were measured. The other tables are
    copied whole, no value changes, and the spec says what was left out. Thin copies draw the same
    figures; a mask distance by another measure or ratio than the logged one needs the full run.
    Curves of accuracy and pruned shares of layers need no filters, so of pruned runs the last epoch
    may do. A thin copy can be thinned further.
    Runs of one name in different folders are copied into folders of their own.
    """
    from pruneviz.log.found_runs import folders_apart, run_paths
    from pruneviz.log.leftovers import remove_leftovers
    from pruneviz.log.thinning import thin as thin_run

    paths = run_paths(recordings_given(runs, data))
    remove_leftovers(paths)
    folders = folders_apart(paths, [path.name for path in paths])
    for path, folder in zip(paths, folders, strict=True):
        done = thin_run(path, out / folder, epochs, columns)
        tell(
            f"{done.path}: filters at {done.epochs} of {counted(done.all_epochs, 'epoch')}, "
            f"{done.size / 2**20:.1f} of {done.full_size / 2**20:.1f} MiB"
        )


app = command_app(thin, "thin", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz thin")
