"""`python -m pruneviz.figures`: draw figures of the paper from recordings; see `--help`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pruneviz.errors import LogError, PrunevizError
from pruneviz.figures.catalogue import FIGURES, file_stem, find, ordered
from pruneviz.figures.options import DrawOptions, LossPreservation, Method, Scale

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.runlog import Runs

# What draws (pandas, matplotlib, SciPy) is imported where it is used, so that --help answers at once.

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    figures: Annotated[list[str] | None, typer.Argument(metavar="[NUMBERS]...", help="Figures to draw; all when none is named.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of the recordings.")] = Path("data/digits"),
    out: Annotated[Path | None, typer.Option(help="Folder for the figures.  [default: figures/<name of the data folder>]")] = None,
    formats: Annotated[list[str] | None, typer.Option("--format", help="pdf, png or svg; may be repeated.  [default: pdf and png]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set to draw.  [default: cifar100, else the only one recorded]")] = None,
    method: Annotated[Method, typer.Option(help="Correlation coefficient.")] = "pearson",
    loss_preservation: Annotated[LossPreservation, typer.Option(help="Form of loss preservation in Figure 2.")] = "sum_of_abs",
    mask_score: Annotated[str, typer.Option(help="Pruning measure of the masks in Figure 2.")] = "bn_scale",
    mask_ratio: Annotated[float, typer.Option(help="Fraction of filters that these masks prune.")] = 0.2,
    seed: Annotated[int | None, typer.Option(help="Seed whose points a scatter shows.  [default: the lowest]")] = None,
    scale: Annotated[Scale, typer.Option(help="Axes of a scatter.")] = "symlog",
    list_: Annotated[bool, typer.Option("--list", help="Say which figures there are and which the recordings hold, and stop.")] = False,
) -> None:
    """Draw figures of the paper from recordings, each with its numbers (CSV) and a caption (text).

    A figure whose recordings are missing is named with the command that records them; the others are drawn. The exit status is 0 when
    every figure was drawn whole, 1 when one was not, and 2 for arguments that cannot be used.

    \b
    Examples:
      python -m pruneviz.figures                                   every figure, from data/digits
      python -m pruneviz.figures 3 14 --data data/paper            two figures, from other recordings
      python -m pruneviz.figures 2 --method spearman --mask-ratio 0.5 --out figures/half
      python -m pruneviz.figures --list
    """
    try:
        names = ordered(figures or list(FIGURES))
        for name in names:
            find(name)
        options = DrawOptions(method, loss_preservation, mask_score, mask_ratio, seed, dataset, scale)
        endings = _checked(formats or ["pdf", "png"])
    except PrunevizError as error:
        _stop(str(error), status=2)
    if list_:
        _list(names, data, options)
        return
    runs = _loaded(names, data, dataset)
    out = out or Path("figures") / data.resolve().name
    whole = [_draw(name, runs, data, out, endings, options) for name in names]
    raise typer.Exit(0 if all(whole) else 1)


def _checked(formats: Sequence[str]) -> list[str]:
    from pruneviz.figures.write import check_format

    return [check_format(name) for name in formats]


def _loaded(names: Sequence[str], data: Path, dataset: str | None) -> Runs:
    """The finished runs in a folder; where there is none at all, the command ends with what would record them."""
    from pruneviz.runlog import load, run_paths

    try:
        count = len(run_paths(data))
    except LogError:
        _say(f"{data} holds no recordings; every figure asked for is missing")
        for name in names:
            _say_missing(name, find(name).networks, None, data, dataset)
        raise typer.Exit(1) from None
    _say(f"loading {count} recording{'s' if count > 1 else ''} from {data} ...")
    try:
        runs = load(data, unfinished="skip")
    except PrunevizError as error:
        _stop(str(error), status=1)
    for run in runs.unfinished:
        _say(f"run {run} is unfinished and left out; its recording goes on where it stopped when it is started again")
    return runs


def _draw(name: str, runs: Runs, data: Path, out: Path, endings: Sequence[str], options: DrawOptions) -> bool:
    """Draw one figure as far as it is recorded; whether it was drawn whole."""
    from pruneviz.figures.draw import draw_figure
    from pruneviz.figures.selection import missing_networks

    entry = find(name)
    try:
        absent = missing_networks(runs.spec, entry, options)
        if absent:
            _say_missing(name, absent, runs.spec, data, options.dataset)
        if len(absent) < len(entry.networks):
            paths = draw_figure(runs, name, options, out, endings)
            typer.echo(f"figure {name}: {out / file_stem(name)}{{{','.join(path.suffix for path in paths)}}}")
    except PrunevizError as error:
        _say(f"figure {name} is not drawn: {error}")
        return False
    return not absent


def _list(names: Sequence[str], data: Path, options: DrawOptions) -> None:
    """Print one line a figure, with the networks that the recordings lack."""
    from pruneviz.figures.selection import missing_networks

    spec = _spec(data)
    for name in names:
        entry = find(name)
        absent = entry.networks if spec.empty else missing_networks(spec, entry, options)
        typer.echo(f"{name:>4}  {entry.title}  [{'lacks ' + ', '.join(absent) if absent else 'recorded'}]")


def _spec(data: Path) -> pd.DataFrame:
    """The facts of the finished runs in a folder, without their tables, which may be large."""
    import pandas as pd

    from pruneviz.runlog import is_sealed, read_spec, run_paths

    try:
        return pd.DataFrame([read_spec(path).to_dict() for path in run_paths(data) if is_sealed(path)])
    except LogError as error:
        _say(str(error))
        return pd.DataFrame()


def _say_missing(name: str, networks: Sequence[str], spec: pd.DataFrame | None, data: Path, dataset: str | None = None) -> None:
    on = f" on {dataset}" if dataset else ""
    command = _record_command(networks, spec, data, dataset)
    _say(f"figure {name} lacks a finished, unpruned run of {', '.join(networks)}{on} in {data}; record with: {command}")


def _record_command(networks: Sequence[str], spec: pd.DataFrame | None, data: Path, dataset: str | None) -> str:
    """The command that records networks as the runs beside them were recorded."""
    from pruneviz.experiments import PRESETS, record_command

    preset = _preset(spec, data)
    beside = set() if spec is None else set(spec["dataset"].dropna())
    wanted = dataset or (beside.pop() if len(beside) == 1 else PRESETS[preset].dataset)
    command = record_command(preset, networks, str(data))
    return command if wanted == PRESETS[preset].dataset else f"{command} --dataset {shlex.quote(wanted)}"


def _preset(spec: pd.DataFrame | None, data: Path) -> str:
    """The preset that the recordings were made with, else the one that the folder is named after, else the small one."""
    from pruneviz.experiments import PRESETS

    used = [] if spec is None else [preset for preset in spec["preset"] if preset in PRESETS]
    return used[0] if used else data.resolve().name if data.resolve().name in PRESETS else "digits"


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _stop(text: str, status: int) -> NoReturn:
    _say(f"error: {text}")
    raise typer.Exit(status)


if __name__ == "__main__":
    app(prog_name="python -m pruneviz.figures")
