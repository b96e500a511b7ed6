"""`python -m pruneviz.figures`: draw figures of the paper from recordings; see `--help`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pruneviz.errors import LogError, PrunevizError
from pruneviz.figures.catalogue import FIGURES, file_stem, find, ordered
from pruneviz.figures.options import AxisScale, DrawOptions, LossPreservation
from pruneviz.log.vocabulary import CorrelationMethod
from pruneviz.plans.needs import DATASET_NAMES

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.log.runs import Runs
    from pruneviz.log.schema import RunSpec

# What draws (pandas, matplotlib, SciPy) is imported where it is used, so that --help answers at once.

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    figures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIGURES",
            help="Figures to draw (1 to 17, H1a, H1b, I1); all when none is named.",
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the recordings.")] = Path("data/digits"),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the figures.  [default: figures/<name of the data folder>]"),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="pdf, png or svg; may be repeated.  [default: pdf and png]"),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set to draw.  [default: in accuracy curves all that are recorded; else cifar100, or the only one]"
        ),
    ] = None,
    method: Annotated[CorrelationMethod, typer.Option(help="Correlation coefficient.")] = "pearson",
    loss_preservation: Annotated[
        LossPreservation, typer.Option(help="Form of loss preservation in Figure 2.")
    ] = "sum_of_abs",
    mask_score: Annotated[
        str | None,
        typer.Option(
            help="Pruning measure of the masks in Figure 2.  [default: bn_scale; of single weights, magnitude]"
        ),
    ] = None,
    mask_ratio: Annotated[
        float, typer.Option(help="Fraction of filters that these masks prune.")
    ] = 0.2,
    seed: Annotated[
        int | None, typer.Option(help="Seed whose points a scatter shows.  [default: the lowest]")
    ] = None,
    scale: Annotated[AxisScale, typer.Option(help="Axes of a scatter.")] = "symlog",
    list_: Annotated[
        bool,
        typer.Option(
            "--list", help="Say which figures there are and which the recordings hold, and stop."
        ),
    ] = False,
) -> None:
    """Draw figures of the paper from recordings, each with its numbers (CSV) and a caption (text).

    A figure whose recordings are missing is named with the command that records them; what is there of it, and the other figures, are
    drawn. The exit status is 0 when every figure was drawn whole, 1 when one was not, and 2 for arguments that cannot be used. Figure I1
    is left out unless it is named or Tiny-ImageNet is recorded.

    \b
    Examples:
      python -m pruneviz.figures                                   every figure, from data/digits
      python -m pruneviz.figures 5 16 H1a --data data/paper        three figures, from other recordings
      python -m pruneviz.figures 1 --dataset cifar10               of an accuracy curve one data set alone
      python -m pruneviz.figures 2 --method spearman --mask-ratio 0.5 --out figures/half
      python -m pruneviz.figures --list --data data/paper          what there is to draw, and what is missing
    """
    try:
        for name in figures or ():
            find(name)
        names = ordered(figures or list(FIGURES))
        options = DrawOptions(
            method, loss_preservation, mask_score, mask_ratio, seed, dataset, scale
        )
        endings = _checked(formats or ["pdf", "png"])
    except PrunevizError as error:
        _stop(str(error), status=2)
    if list_:
        _list(names, data, options)
        return
    runs = _loaded(data)
    _check_dataset(dataset, runs.spec)
    if not figures:
        names = [name for name in names if not _is_passed_over(name, runs.spec)]
    out = out or Path("figures") / data.resolve().name
    whole = [_draw(name, runs, data, out, endings, options) for name in names]
    raise typer.Exit(0 if all(whole) else 1)


def _checked(formats: Sequence[str]) -> list[str]:
    from pruneviz.figures.write import check_format

    return [check_format(name) for name in formats]


def _check_dataset(dataset: str | None, spec: pd.DataFrame) -> None:
    """Stop at a data set that is neither recorded nor could be."""
    known = list(dict.fromkeys([*DATASET_NAMES, *map(str, spec["dataset"].dropna())]))
    if dataset is not None and dataset not in known:
        _stop(f"there is no data set {dataset!r}; choose among {', '.join(known)}", status=2)


def _loaded(data: Path) -> Runs:
    """The finished runs in a folder, of which there may be none."""
    from pruneviz.log.run_directory import run_paths
    from pruneviz.log.runs import finished

    try:
        count = len(run_paths(data))
    except LogError:
        _say(f"{data} holds no recordings; every figure asked for is missing")
        return _no_runs()
    _say(f"drawing from {count} recording{'s' if count > 1 else ''} in {data} ...")
    try:
        runs = finished(data)
    except PrunevizError as error:
        _stop(str(error), status=1)
    for run in runs.unfinished:
        _say(
            f"run {run} is unfinished and left out; its recording goes on where it stopped when it is started again"
        )
    return runs


def _no_runs() -> Runs:
    import pandas as pd

    from pruneviz.log.runs import Runs

    return Runs(_spec_of([]), pd.DataFrame(), pd.DataFrame(), pd.DataFrame())


def _is_passed_over(name: str, spec: pd.DataFrame) -> bool:
    """Whether a figure that nobody named is of a data set of its own that is not recorded."""
    own = find(name).need.dataset
    return own is not None and own not in set(spec["dataset"])


def _draw(
    name: str, runs: Runs, data: Path, out: Path, endings: Sequence[str], options: DrawOptions
) -> bool:
    """Draw one figure as far as it is recorded; whether it was drawn whole."""
    from pruneviz.figures.chosen_runs import is_recorded, missing_runs
    from pruneviz.figures.draw import save_figure
    from pruneviz.figures.missing import commands, told

    entry = find(name)
    try:
        absent = missing_runs(runs.spec, entry, options)
        if absent:
            record = " && ".join(
                commands(name, entry, absent, runs.spec, str(data), data.resolve().name)
            )
            _say(f"figure {name} lacks {told(entry, absent)} in {data}; record with: {record}")
        if is_recorded(runs.spec, entry, options):
            paths = save_figure(name, runs, out, options=options, formats=endings)
            typer.echo(
                f"figure {name}: {paths[0].parent / file_stem(name)}{{{','.join(_endings(name, paths))}}}"
            )
    except PrunevizError as error:
        _say(f"figure {name} is not drawn: {error}")
        return False
    return not absent


def _endings(name: str, paths: Sequence[Path]) -> list[str]:
    return [path.name.removeprefix(file_stem(name)) for path in paths]


def _list(names: Sequence[str], data: Path, options: DrawOptions) -> None:
    """Print one line a figure: what of it is recorded, and what is missing."""
    from pruneviz.figures.missing import status

    spec = _spec(data)
    for name in names:
        try:
            state = status(spec, find(name), options)
        except PrunevizError as error:
            state = str(error)
        typer.echo(f"{name:>4}  {find(name).title}  [{state}]")


def _spec(data: Path) -> pd.DataFrame:
    """The facts of the finished runs in a folder, without their tables, which may be large."""
    from pruneviz.log.run_directory import is_sealed, read_spec, run_paths

    try:
        return _spec_of([read_spec(path) for path in run_paths(data) if is_sealed(path)])
    except LogError as error:
        _say(str(error))
        return _spec_of([])


def _spec_of(specs: Sequence[RunSpec]) -> pd.DataFrame:
    import pandas as pd

    from pruneviz.log.schema import RunSpec

    return pd.DataFrame(
        [spec.to_dict() for spec in specs],
        columns=None if specs else list(RunSpec("none").to_dict()),
    )


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _stop(text: str, status: int) -> NoReturn:
    _say(f"error: {text}")
    raise typer.Exit(status)


if __name__ == "__main__":
    app(prog_name="python -m pruneviz.figures")
