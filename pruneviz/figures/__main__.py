"""`pruneviz figures`: draw figures of the paper from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.command import INCOMPLETE, command_app, may_be_incomplete, say
from pruneviz.console.options import completing, separated
from pruneviz.errors import FigureError, LogError, PresetError, PrunevizError, unknown_name
from pruneviz.figures.catalogue import FIGURES, find, ordered
from pruneviz.figures.folder import RECORDED, check_recorded, folders, loaded
from pruneviz.figures.formats import FORMATS, check_format
from pruneviz.figures.options import AxisScale, DrawOptions, LossPreservation
from pruneviz.figures.tasks import Place, Task, figure_task
from pruneviz.figures.workers import default_jobs, prepare, results_of
from pruneviz.log.vocabulary import MASK_RATIO, MASK_SCORES, CorrelationMethod
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS

if TYPE_CHECKING:
    import pandas as pd

# pandas, matplotlib and SciPy are imported where they are used, so that --help is fast.

EXAMPLES = """
  # Two figures from recordings that ship with the source
  pruneviz figures 3 13 --data data/cifar-mini

  # All figures, and which of them are recorded
  pruneviz figures --list --data data/cifar-mini

  # All figures, from data/digits into figures/digits
  pruneviz figures

  # An accuracy curve for one of several data sets
  pruneviz figures 1 --data data/paper --dataset cifar10

  # Other options, vector graphics only, into another folder
  pruneviz figures 2 --method spearman --mask-ratio 0.5 --format pdf,svg --out figures/half
"""


def _measures() -> list[str]:
    from pruneviz.analysis.measures import names

    return names()


def _is_measure(name: str) -> bool:
    from pruneviz.analysis.measures import is_measure

    return is_measure(name)


def draw(
    figures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIGURE",
            help="Figures to draw: 1 to 17, H1a, H1b, I1. Default: all; I1 only if recorded.",
            autocompletion=completing(lambda: FIGURE_NEEDS),
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help=f"Folder with the recordings. Default: {RECORDED}."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the figures. Default: figures/NAME for --data .../NAME.",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="pdf, png or svg; several as pdf,png. Default: pdf,png.",
            autocompletion=completing(lambda: FORMATS),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Data set to draw. Default: all recorded ones in accuracy curves; elsewhere "
            "cifar100, or the only one.",
            autocompletion=completing(lambda: DATASET_NAMES),
        ),
    ] = None,
    method: Annotated[
        CorrelationMethod,
        typer.Option(help="Correlation coefficient in scatter and correlation figures."),
    ] = "pearson",
    loss_preservation: Annotated[
        LossPreservation,
        typer.Option(
            help="Loss preservation in Figure 2: the sum of absolute values, or the absolute value "
            "of the sum."
        ),
    ] = "sum_of_abs",
    mask_score: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE",
            help="Pruning measure that defines the masks in Figure 2. "
            f"Default: {MASK_SCORES['filter']}; for single weights {MASK_SCORES['weight']}.",
            autocompletion=completing(_measures),
        ),
    ] = None,
    mask_ratio: Annotated[
        float, typer.Option(metavar="FRACTION", help="Fraction of filters that these masks prune.")
    ] = MASK_RATIO,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed shown in scatter plots. Default: the lowest."),
    ] = None,
    scale: Annotated[
        AxisScale,
        typer.Option(help="Axes of scatter plots: logarithmic on both sides of zero, or linear."),
    ] = "symlog",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of processes that draw. Default: one per core, at most 4.",
        ),
    ] = None,
    list_figures: Annotated[
        bool,
        typer.Option(
            "--list", help="List the figures and their recorded or missing runs, then exit."
        ),
    ] = False,
) -> None:
    """Draw figures of the paper from recordings.

    Each figure is written as pictures, a CSV file of its numbers and a text file with its caption.
    If runs are missing, the rest is drawn, and the command that records them is printed.

    Exit codes: 0 all figures are complete, 1 some are incomplete or missing, 2 wrong use.
    """
    names = _checked_figures(separated(figures or FIGURES))
    if mask_score is not None and not _is_measure(mask_score):
        raise FigureError(unknown_name("pruning measure", mask_score, _measures()))
    options = DrawOptions(method, loss_preservation, mask_score, mask_ratio, seed, dataset, scale)
    endings = [check_format(name) for name in separated(formats or ["pdf", "png"])]
    data, out = folders(data, out)
    if list_figures:
        _list(names, data, options)
        return
    check_recorded(data, names if figures else ())
    if len(names) > 1 and jobs != 1:
        prepare()
    with may_be_incomplete():
        runs = loaded(data)
    _check_dataset(dataset, runs.spec)
    if not figures:
        names = [name for name in names if not _is_passed_over(name, runs.spec)]
    tasks = [figure_task(name, runs, Place(data, out, tuple(endings)), options) for name in names]
    if not _drawn(tasks, jobs or default_jobs()):
        raise typer.Exit(INCOMPLETE)


def _checked_figures(figures: Sequence[str]) -> list[str]:
    for name in figures:
        try:
            find(name)
        except FigureError:
            if name not in FORMATS:
                raise
            command = f"--format pdf,{name}"
            raise FigureError(
                f"{name!r} is no figure; join formats by a comma: {command}"
            ) from None
    return ordered(list(figures))


def _check_dataset(dataset: str | None, spec: pd.DataFrame) -> None:
    """Raise `PresetError` for a data set that is neither recorded nor known."""
    known = list(dict.fromkeys([*DATASET_NAMES, *map(str, spec["dataset"].dropna())]))
    if dataset is not None and dataset not in known:
        raise PresetError(unknown_name("data set", dataset, known))


def _is_passed_over(name: str, spec: pd.DataFrame) -> bool:
    """Whether a figure needs a data set of its own that is not recorded."""
    own = find(name).need.dataset
    return own is not None and own not in set(spec["dataset"])


def _drawn(tasks: Sequence[Task], jobs: int) -> bool:
    """Draw pictures and print their files, in order; returns whether all are complete."""
    complete = True
    with results_of([task.work for task in tasks if task.work], jobs) as results:
        for task in tasks:
            for line in task.lacks:
                say(line)
            result = next(results) if task.work else []
            if isinstance(result, PrunevizError):
                say(f"{task.name} is not drawn: {result}")
            elif result:
                typer.echo(f"{task.name}: {_written(task.stem, result)}")
            complete = complete and not task.lacks and not isinstance(result, PrunevizError)
    return complete


def _written(stem: str, paths: Sequence[Path]) -> str:
    """The files of one picture in short form: figures/digits/figure03{.pdf,.png,.csv,.txt}."""
    endings = ",".join(path.name.removeprefix(stem) for path in paths)
    return f"{paths[0].parent / stem}{{{endings}}}"


def _list(names: Sequence[str], data: Path, options: DrawOptions) -> None:
    """Print one line per figure: its recorded and missing runs."""
    from pruneviz.figures.missing import status

    spec = _spec(data)
    for name in names:
        try:
            state = status(spec, find(name), options)
        except PrunevizError as error:
            state = str(error)
        typer.echo(f"{name:>4}  {find(name).title}  [{state}]")


def _spec(data: Path) -> pd.DataFrame:
    """The specs of the finished runs in a folder; empty if there are none."""
    from pruneviz.log.runs import finished, spec_table

    try:
        return finished(data).spec
    except LogError as error:
        say(str(error))
        return spec_table([])


app = command_app(draw, "figures", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz figures")
