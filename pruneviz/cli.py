"""The `pruneviz` command with its subcommands and version."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

import pruneviz
from pruneviz.console.command import SETTINGS, Group, new_app

_FIRST_STEPS = """Examples:
  # Draw two figures from recordings that ship with the source
  pruneviz figures 3 13 --data data/cifar-mini

  # Look into a recording in a browser
  pruneviz report data/cifar-mini/resnet56-cifar100-unpruned-s0

  # Judge the paper's claims against them
  pruneviz claims --data data/cifar-mini

  # List the runs for all figures, and how long they take
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
        "sweep": (
            "pruneviz.sweep",
            "Record all runs that a file names, as grids of options.",
        ),
        "figures": (
            "pruneviz.figures.__main__",
            "Draw figures of the paper, and pictures of any network.",
        ),
        "report": (
            "pruneviz.report.__main__",
            "Write one HTML file in which recordings can be looked into.",
        ),
        "watch": (
            "pruneviz.watch",
            "Serve that page, refreshed while runs are recorded.",
        ),
        "remeasure": ("pruneviz.remeasure", "Measure recorded runs again, with other options."),
        "findings": (
            "pruneviz.findings",
            "Numbers behind the paper's claims, as tables.",
        ),
        "claims": (
            "pruneviz.verdicts",
            "Judge the claims in the paper's captions against recordings.",
        ),
        "samplesize": ("pruneviz.samplesize", "Compare samples of several sizes with all images."),
        "upload": ("pruneviz.upload", "Upload runs that wait to go into an object store."),
        "check": ("pruneviz.check", "Name every fault of recordings."),
        "thin": ("pruneviz.thin", "Copy finished runs without the epochs between measurements."),
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

    Exit codes: 0 done, 1 some results are missing or failed, 2 wrong use, 128 and its number if a
    signal stopped the command (Ctrl-C 130, SIGTERM 143).
    """
    if version:
        typer.echo(f"pruneviz {pruneviz.__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
