"""`pruneviz figures`: draw figures of the paper from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.command import INCOMPLETE, command_app, may_be_incomplete, say
from pruneviz.console.options import completing, separated
from pruneviz.console.words import counted
from pruneviz.errors import FigureError, LogError, PresetError, PrunevizError, unknown_name
from pruneviz.figures.catalogue import FIGURES, file_stem, find, ordered
from pruneviz.figures.options import AxisScale, DrawOptions, LossPreservation
from pruneviz.log.vocabulary import MASK_RATIO, MASK_SCORES, CorrelationMethod
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.log.runs import Runs

# pandas, matplotlib and SciPy are imported where they are used, so that --help is fast.

RECORDED = Path("data/digits")  # where `pruneviz record` records by default
SHIPPED = Path("data/cifar-mini")  # recordings in the repository
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


def _formats() -> list[str]:
    from pruneviz.figures.write import FORMATS

    return list(FORMATS)


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
            autocompletion=completing(_formats),
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
    endings = _checked_formats(separated(formats or ["pdf", "png"]))
    data, out = _folders(data, out)
    if list_figures:
        _list(names, data, options)
        return
    _check_recorded(data, names if figures else ())
    with may_be_incomplete():
        runs = _loaded(data)
    _check_dataset(dataset, runs.spec)
    if not figures:
        names = [name for name in names if not _is_passed_over(name, runs.spec)]
    whole = [_draw(name, runs, data, out, endings, options) for name in names]
    if not all(whole):
        raise typer.Exit(INCOMPLETE)


def _checked_figures(figures: Sequence[str]) -> list[str]:
    for name in figures:
        try:
            find(name)
        except FigureError:
            if name not in _formats():
                raise
            command = f"--format pdf,{name}"
            raise FigureError(
                f"{name!r} is no figure; join formats by a comma: {command}"
            ) from None
    return ordered(list(figures))


def _checked_formats(formats: Sequence[str]) -> list[str]:
    from pruneviz.figures.write import check_format

    return [check_format(name) for name in formats]


def _check_dataset(dataset: str | None, spec: pd.DataFrame) -> None:
    """Raise `PresetError` for a data set that is neither recorded nor known."""
    known = list(dict.fromkeys([*DATASET_NAMES, *map(str, spec["dataset"].dropna())]))
    if dataset is not None and dataset not in known:
        raise PresetError(unknown_name("data set", dataset, known))


def _folders(data: Path | None, out: Path | None) -> tuple[Path, Path]:
    """Where recordings are and figures go; --out alone may name recordings, as it records them."""
    if data is None and out is not None and _holds_recordings(out):
        say(f"{out} holds recordings, and is read; --data names them too")
        data, out = out, None
    data = RECORDED if data is None else data
    return data, out or Path("figures") / data.resolve().name


def _holds_recordings(folder: Path) -> bool:
    from pruneviz.log.found_runs import run_paths

    try:
        return bool(run_paths(folder))
    except LogError:
        return False


def _check_recorded(data: Path, figures: Sequence[str]) -> None:
    """Raise `LogError` for a folder without recordings, with the command that fills it."""
    if not _holds_recordings(data):
        raise LogError(_what_to_record(data, figures))


def _loaded(data: Path) -> Runs:
    """The finished runs in a folder."""
    from pruneviz.log.runs import finished

    runs = finished(data)
    say(f"drawing from {counted(len(runs), 'recording')} in {data}")
    for run in runs.unfinished:
        say(f"run {run} is unfinished and left out; repeat the command that records it to go on")
    return runs


def _what_to_record(data: Path, figures: Sequence[str]) -> str:
    from pruneviz.plans.planning import record_command
    from pruneviz.plans.presets import PRESETS

    preset = data.resolve().name
    command = record_command(
        preset if preset in PRESETS else "digits", str(data), figures=list(figures)
    )
    found = f"{data} holds no recordings" if data.is_dir() else f"there is no folder {data}"
    lines = [found, f"Record what is needed with: {command}"]
    if SHIPPED.is_dir():
        lines.append(f"Or draw from recordings that ship: pruneviz figures 3 13 --data {SHIPPED}")
    return "\n".join(lines)


def _is_passed_over(name: str, spec: pd.DataFrame) -> bool:
    """Whether a figure needs a data set of its own that is not recorded."""
    own = find(name).need.dataset
    return own is not None and own not in set(spec["dataset"])


def _draw(
    name: str, runs: Runs, data: Path, out: Path, endings: Sequence[str], options: DrawOptions
) -> bool:
    """Draw one figure from the recorded runs; returns whether it is complete."""
    from pruneviz.figures.chosen_runs import has_recorded_runs, missing_runs
    from pruneviz.figures.draw import save_figure
    from pruneviz.figures.missing import commands, told

    entry = find(name)
    try:
        absent = missing_runs(runs.spec, entry, options)
        if absent:
            record = commands(name, entry, absent, runs.spec, str(data), data.resolve().name)
            say(f"figure {name} lacks {told(entry, absent)}")
            say(f"  record with: {' && '.join(record)}")
        if has_recorded_runs(runs.spec, entry, options):
            paths = save_figure(name, runs, out, options=options, formats=endings)
            typer.echo(f"figure {name}: {_written(name, paths)}")
    except PrunevizError as error:
        say(f"figure {name} is not drawn: {error}")
        return False
    return not absent


def _written(name: str, paths: Sequence[Path]) -> str:
    """The files of one figure in short form: figures/digits/figure03{.pdf,.png,.csv,.txt}."""
    stem = file_stem(name)
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
