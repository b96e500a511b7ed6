"""`pruneviz report`: one HTML file in which recordings can be looked into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.command import command_app, say, tell, tell_left_out
from pruneviz.console.options import Data, PageColumns, recordings_given
from pruneviz.console.shown_text import short
from pruneviz.console.words import counted

if TYPE_CHECKING:
    from pruneviz.log.runs import Runs

EXAMPLES = """
  # One run that ships with the source
  pruneviz report data/cifar-mini/resnet56-cifar100-unpruned-s0

  # Runs beside each other: three seeds, or two batch-norm modes
  pruneviz report data/mine/seed? --out seeds.html

  # A smaller file: some columns only
  pruneviz report data/mine --columns theta_g,theta_hg,theta_g_se
"""

_LARGE = 25 * 2**20  # bytes that many mail servers refuse


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR",
            help="Run directories, or folders with runs.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The HTML file to write; an older one is replaced.")
    ] = Path("report.html"),
    columns: PageColumns = None,
    title: Annotated[
        str | None,
        typer.Option(help="Title of the page. Default: the networks and data sets."),
    ] = None,
) -> None:
    """Write one HTML file in which recordings can be looked into.

    The file needs no network and no server; any browser of 2023 or later opens it, also from a
    mail attachment. It shows a scatter of any two quantities at any epoch, bars per layer, curves
    over epochs, and two runs or two pruning measures beside each other, each with its numbers.

    A run that cannot be read is left out and named, with exit code 1.
    """
    from tqdm import tqdm

    from pruneviz.log.readable_runs import from_readable
    from pruneviz.report.page import report as write

    def written(held: Runs) -> tuple[Path, int]:
        with tqdm(total=len(held), unit="run", disable=None, leave=False) as bar:

            def told(run: str) -> None:
                bar.set_description(short(run), refresh=False)
                bar.update()

            return write(held, out, columns=columns, title=title, told=told), len(held)

    (path, count), damaged = from_readable(recordings_given(runs, data), written, "include")
    size = path.stat().st_size
    tell(f"{path}: {size / 2**20:.1f} MiB, {counted(count, 'run')}; open it in a browser")
    if size > _LARGE:
        say(
            "many mail servers refuse files of this size; name fewer runs, or fewer columns, such "
            "as --columns theta_g,theta_hg"
        )
    tell_left_out(damaged)


app = command_app(report, "report", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz report")
