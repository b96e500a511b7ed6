"""`pruneviz findings`: test the claims in the paper's captions against recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import command_app
from pruneviz.console.options import Data, recordings_given
from pruneviz.errors import LogError

EXAMPLES = """
  # Print all tables
  pruneviz findings data/cifar-mini

  # Update the tables in a Markdown file
  pruneviz findings data/cifar-mini data/cifar-mini-batch --into docs/findings.md
"""


def findings(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Folders with recordings, at most one run per network and seed in each.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Markdown file in which to update the tables. Default: print all tables.",
        ),
    ] = None,
) -> None:
    """Numbers behind the paper's claims, as tables.

    The tables cover unpruned training: Figures 2, 3, 13 to 15, H1a and H1b. In a file, each table
    between `<!-- table: NAME -->` and `<!-- end of table -->` is replaced; all other text is kept.
    """
    from pruneviz.analysis.claim_tables import all_tables, filled_in
    from pruneviz.log.files import disk_errors, write_whole
    from pruneviz.log.runs import load

    sets = [load(folder, unfinished="skip") for folder in recordings_given(folders, data)]
    if into is None:
        typer.echo(all_tables(sets))
        return
    if not into.is_file():
        raise LogError(
            f"there is no file {into}; create it with a line `<!-- table: NAME -->` and a line "
            "`<!-- end of table -->` for each table, or leave out --into to print all tables"
        )
    with disk_errors(into):
        text = filled_in(into.read_text(encoding="utf-8"), sets)
        # A link stays a link.
        write_whole(into.resolve(), lambda part: part.write_text(text, encoding="utf-8"))


app = command_app(findings, "findings", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz findings")
