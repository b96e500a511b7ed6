"""`pruneviz findings`: the numbers behind the paper's claims, as tables made from recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.command import command_app, tell, tell_left_out
from pruneviz.console.options import Data, recordings_given
from pruneviz.errors import LogError

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """
  # Print all tables
  pruneviz findings data/cifar-mini

  # Pruned and unpruned runs of several folders
  pruneviz findings data/cifar-mini data/cifar-mini-pruned data/cifar-mini-oracle

  # Update the tables in a Markdown file
  pruneviz findings data/cifar-mini data/cifar-mini-batch --into docs/findings.md

  # Update one of them from other recordings
  pruneviz findings data/cifar-mini-oracle --table delta-loss --into docs/findings.md
"""


def findings(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Folders with recordings, taken as one set; settings are told apart.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Tables to make; in a file, others stay. Default: all."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Markdown file in which to update the tables. Default: print all tables.",
        ),
    ] = None,
) -> None:
    """Numbers behind the paper's claims, as tables.

    Tables of unpruned training: recordings, figure-3, figure-3-curve (Figures 3 and 13 to 15),
    initialisation, signal, figure-2, figure-2-association, figure-2-curve, single-weights (Figures
    H1a and H1b).

    Tables of pruned runs: figure-1 and figure-4-12 (convergence, with the lead over the next
    measure; networks and rounds that no figure shows are in the latter), figure-16-17 (where rounds
    prune), final-accuracy (beside unpruned runs of the same scale, such as those of
    `pruneviz record --baseline`, with parameters and MACs left).

    Of both: claims (the verdicts), and delta-loss (which measure predicts the loss without a
    filter, of runs recorded with --oracle).

    Folders may hold runs of several kinds and scales. Of runs that repeat a setting and a seed one
    counts. A table without runs is a sentence that says
    what to record. In a file, each table between `<!-- table: NAME -->` and `<!-- end of table -->`
    is replaced; all other text is kept.

    A run that cannot be read is left out of printed tables and named, with exit code 1; a file is
    then not updated.
    """
    from pruneviz.analysis.claim_tables import all_tables, filled_in
    from pruneviz.log.files import disk_errors, write_over
    from pruneviz.log.found_runs import run_paths
    from pruneviz.log.leftovers import remove_leftovers
    from pruneviz.log.readable_runs import from_readable
    from pruneviz.log.runs import Runs, load

    def costs(runs: Runs) -> pd.DataFrame:
        from pruneviz.experiment.pruned_costs import costs_of  # loads torch

        return costs_of(runs)

    def finished(runs: Runs) -> Runs:
        if not len(runs):
            raise LogError(
                f"no run is finished yet: {', '.join(runs.unfinished)}; repeat the command that "
                "records them to go on"
            )
        return runs

    paths = run_paths(recordings_given(folders, data))
    remove_leftovers(paths)
    if into is None:
        printed, damaged = from_readable(
            paths, lambda runs: all_tables(finished(runs), costs, table or ())
        )
        tell(printed)
        tell_left_out(damaged)
        return
    runs = finished(load(paths, unfinished="skip"))
    if not into.is_file():
        raise LogError(
            f"there is no file {into}; create it with a line `<!-- table: NAME -->` and a line "
            "`<!-- end of table -->` for each table, or leave out --into to print all tables"
        )
    with disk_errors(into):
        text = filled_in(into.read_text(encoding="utf-8"), runs, costs, table or ())
        write_over(into, lambda part: part.write_text(text, encoding="utf-8"))


app = command_app(findings, "findings", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz findings")
