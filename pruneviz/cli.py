"""The `pruneviz` command: its subcommands, and its version."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

import pruneviz
from pruneviz.console.command import SETTINGS, Group, new_app

_FIRST_STEPS = """Examples:
  # Two figures, from recordings that come with the source
  pruneviz figures 3 13 --data data/cifar-mini

  # Which runs all figures need, and how long recording them takes
  pruneviz record --list

  # Record them, then draw all figures
  pruneviz record
  pruneviz figures

  # Options of a subcommand
  pruneviz record --help
"""


class _Subcommands(Group):
    modules: ClassVar = {
        "record": ("pruneviz.record", "Train networks and record their pruning dynamics."),
        "figures": ("pruneviz.figures.__main__", "Draw figures of the paper from recordings."),
        "remeasure": ("pruneviz.remeasure", "Measure recorded runs again, in another way."),
        "findings": (
            "pruneviz.findings",
            "Tables of what recordings say about the paper's claims.",
        ),
    }


app = new_app(cls=_Subcommands, add_completion=True)


def main() -> None:
    """Run the command line."""
    app(prog_name="pruneviz")


@app.callback(context_settings=SETTINGS, epilog=_FIRST_STEPS, invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure and draw the dynamics of neural-network pruning.

    Exit codes: 0 done, 1 some of it missing or failed, 2 wrong use.
    """
    if version:
        typer.echo(f"pruneviz {pruneviz.__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
