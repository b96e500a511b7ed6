"""`python -m pruneviz.findings`: what recordings say about the claims of the paper's captions, as the tables of docs/findings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.analysis.claim_tables import all_tables, filled_in
from pruneviz.console.command import command_app
from pruneviz.errors import PrunevizError
from pruneviz.log.files import disk_errors
from pruneviz.log.runs import load


def findings(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of recordings. Two runs of one network and seed belong in two folders."
        ),
    ],
    into: Annotated[
        Path | None,
        typer.Option(help="A Markdown file whose tables are made anew. Default: print all tables."),
    ] = None,
) -> None:
    """What recordings of unpruned training say about the claims of Figures 2, 3, 13-15, H1a and H1b.

    In the file, the table between `<!-- table: figure-3 -->` and `<!-- end of table -->` is replaced; what is around it stays.

    Examples: `python -m pruneviz.findings data/digits`; `python -m pruneviz.findings data/cifar-mini data/cifar-mini-batch --into
    docs/findings.md`.
    """
    try:
        sets = [load(folder, unfinished="skip") for folder in data]
        if into is None:
            typer.echo(all_tables(sets))
            return
        with disk_errors(into):
            into.write_text(filled_in(into.read_text(encoding="utf-8"), sets), encoding="utf-8")
    except PrunevizError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error


app = command_app(findings, "findings", "")

if __name__ == "__main__":
    app(prog_name="pruneviz findings")
