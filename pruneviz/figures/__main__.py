"""`pruneviz figures`: draw figures of the paper, and pictures of any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pruneviz.console.command import (
    INCOMPLETE,
    command_app,
    may_be_incomplete,
    say,
    tell,
    tell_damaged,
    tell_left_out,
)
from pruneviz.console.options import completing, one_of, options_of, separated
from pruneviz.console.shown_text import visible_line
from pruneviz.errors import FigureError, LogError, PresetError, PrunevizError, unknown_name
from pruneviz.figures.catalogue import find, ordered
from pruneviz.figures.folder import RECORDED, check_recorded, folders, loaded, spec_in
from pruneviz.figures.formats import FORMATS, check_format
from pruneviz.figures.listing import lines_about
from pruneviz.figures.options import DrawOptions, LossPreservation
from pruneviz.figures.plot_kinds import (
    AGGREGATES,
    ALIKE_KINDS,
    DIRECTIONS,
    KINDS,
    ORDERS,
    SCALES,
    PlotOptions,
    arguments_of,
    flag,
    given_options,
)
from pruneviz.figures.tasks import Place, Task, all_tasks, figure_task, kind_tasks, plot_task
from pruneviz.figures.workers import default_jobs, prepare, results_of
from pruneviz.log.vocabulary import ROW_KINDS, CorrelationMethod
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.log.runs import Runs

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

  # One kind of picture, of every network in a folder
  pruneviz figures --kind scatter --x theta_g --y theta_hg --data data/mine

  # Other options, vector graphics only, into another folder
  pruneviz figures 2 --method spearman --mask-ratio 0.5 --format pdf,svg --out figures/half
"""


def _measures() -> list[str]:
    from pruneviz.analysis.measures import names

    return names()


def _quantities() -> list[str]:
    from pruneviz.log.schema import FILTERS

    return [*FILTERS, *_measures()]


def _facts() -> list[str]:
    from pruneviz.log.run_spec import SPEC_FACTS

    return list(SPEC_FACTS)


def _is_measure(name: str) -> bool:
    from pruneviz.analysis.measures import is_measure

    return is_measure(name)


def _help_of(name: str) -> str:
    """The help of an option of pictures."""
    return next(
        str(option.metadata["help"]) for option in fields(PlotOptions) if option.name == name
    )


# Options that figures of the paper take, too.
_OF_FIGURES = ("method", "mask_score", "mask_ratio", "seed", "scale", "inset")
_MORE: Mapping[str, Mapping[str, Any]] = {
    "x": {"metavar": "NAME", "autocompletion": completing(_quantities)},
    "y": {"metavar": "NAME", "autocompletion": completing(_quantities)},
    "hue": {"metavar": "NAME"},
    "by": {"metavar": "FACT", "autocompletion": completing(_facts)},
    "epochs": {"metavar": "N"},
    "runs": {"metavar": "NAME"},
    "network": {"metavar": "NAME"},
    "unit": one_of("row kind", ROW_KINDS),
    "measures": {"metavar": "NAME", "autocompletion": completing(_measures)},
    "over": one_of("direction", DIRECTIONS),
    "against": {"metavar": "NAME", "autocompletion": completing(_measures)},
    "filters": {"metavar": "LAYER:N"},
    "layers": {"metavar": "NAME"},
    "aggregate": one_of("aggregate", AGGREGATES),
    "order": one_of("order", ORDERS),
    "method": one_of("correlation coefficient", get_args(CorrelationMethod)),
    "mask_score": {"metavar": "MEASURE", "autocompletion": completing(_measures)},
    "mask_ratio": {"metavar": "FRACTION"},
    "seed": {"metavar": "N"},
    "scale": one_of("scale", SCALES),
}


@options_of(PlotOptions, _help_of, "Options of pictures, some only with --kind", _MORE)
def draw(
    figures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIGURE",
            help="Figures to draw: 1 to 17, H1a, H1b, I1, or other pictures that --list names. "
            "Default: all; I1 only if recorded.",
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
    kind: Annotated[
        str | None,
        typer.Option(
            **one_of("kind of picture", KINDS),
            help="Draw this kind of picture, of any network, instead of figures of the paper.",
        ),
    ] = None,
    loss_preservation: Annotated[
        LossPreservation | None,
        typer.Option(
            help="Loss preservation in Figure 2: the sum of absolute values, or the absolute value "
            "of the sum. Default: sum_of_abs."
        ),
    ] = None,
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
    **given: Any,
) -> None:
    """Draw figures of the paper, and pictures of any network.

    Without figures, all that the folder allows: the figures of the paper whose runs are there, and
    for every other network NETWORK-scatter, -correlation, -layers and -accuracy. Each picture comes
    with a CSV file of its numbers, a caption (.txt), and its long form as data (.json).

    Exit codes: 0 all figures are complete, 1 some are incomplete or missing, or a recording cannot
    be read, 2 wrong use.
    """
    names, own = _checked_figures(separated(figures or ()), kind)
    chosen: dict[str, Any] = {name: None if value == [] else value for name, value in given.items()}
    asked = PlotOptions(**chosen)
    _check_together(names, kind, asked, loss_preservation)
    options = _draw_options(asked, dataset, loss_preservation) if kind is None else DrawOptions()
    arguments = () if kind is None else arguments_of(kind, asked)
    endings = tuple(check_format(name) for name in separated(formats or ["pdf", "png"]))
    data, out = folders(data, out)
    place = Place(data, out, endings)
    if list_figures:
        _check_stems(own, [])
        spec, damaged = spec_in(data)
        for line in lines_about(spec, place, options, names):
            tell(visible_line(line))
        tell_damaged(damaged)
        return
    check_recorded(data, names)
    if len(names) + len(own) != 1 and jobs != 1:
        prepare()
    with may_be_incomplete():
        runs, damaged = loaded(data)
    _check_dataset(dataset, runs.spec)
    if kind is not None:
        _check_quantities(asked, runs)
        tasks = kind_tasks(kind, runs, place, arguments, asked, dataset)
    elif names or own:
        tasks = [figure_task(name, runs, place, options) for name in names]
        tasks += _own_tasks(own, runs, place) if own else []
    else:
        tasks = all_tasks(runs, place, options)
    complete = _drawn(tasks, jobs or default_jobs())
    tell_left_out(damaged)
    if not complete:
        raise typer.Exit(INCOMPLETE)


def _check_together(
    names: Sequence[str], kind: str | None, asked: PlotOptions, loss_preservation: str | None
) -> None:
    """Raise `FigureError` for options that do not go together."""
    if asked.mask_score is not None and not _is_measure(asked.mask_score):
        raise FigureError(unknown_name("pruning measure", asked.mask_score, _measures()))
    if kind is None:
        alone = [flag(name) for name in given_options(asked) if name not in _OF_FIGURES]
        if alone:
            raise FigureError(f"{' and '.join(alone)} need a --kind, one of {', '.join(KINDS)}")
        return
    if names:
        raise FigureError(
            f"--kind {kind} draws any network, and figure {names[0]} is one of the paper; leave "
            "one out"
        )
    if asked.mask_ratio is not None:
        _check_ratio(asked.mask_ratio)
    if loss_preservation is not None:
        raise FigureError(
            "--loss-preservation is for figures of the paper; name the measure with --x or --y, "
            "such as loss_preservation_abs_of_sum"
        )


def _check_ratio(ratio: float) -> None:
    from pruneviz.analysis.masks import check_ratio

    check_ratio(ratio)


def _check_quantities(asked: PlotOptions, runs: Runs) -> None:
    """Raise `FigureError` for a name that is neither a column, a fact nor a measure."""
    known = [
        *_columns_of(runs, "filters"),
        *_columns_of(runs, "epochs"),
        *map(str, runs.spec),
        *_quantities(),
    ]
    for option in ("x", "y", "hue", "by", "measures", "against"):
        given = getattr(asked, option) or ()
        for name in [given] if isinstance(given, str) else given:
            if name not in (*known, "layer", "depth") and not _is_measure(name):
                raise FigureError(
                    f"{flag(option)}: {unknown_name('column, fact or measure', name, known)}"
                )
    seeds = sorted({int(seed) for seed in runs.spec["seed"].dropna()})
    if asked.seed is not None and asked.seed not in seeds:
        held = ", ".join(map(str, seeds)) or "none"
        raise FigureError(f"--seed {asked.seed} is not recorded; recorded are {held}")


def _columns_of(runs: Runs, table: str) -> list[str]:
    """Columns of a table in the runs whose file of it can be read; pictures tell of the others."""
    found: dict[str, None] = {}
    for run in runs.spec["run"]:
        with suppress(LogError):
            found |= dict.fromkeys(runs.named(run).columns(table))
    return list(found)


def _draw_options(
    asked: PlotOptions, dataset: str | None, loss_preservation: LossPreservation | None
) -> DrawOptions:
    """Options of the paper's figures; those that were not given have their defaults."""
    values = {name: getattr(asked, name) for name in _OF_FIGURES}
    values |= {"dataset": dataset, "loss_preservation": loss_preservation}
    return DrawOptions(**{name: value for name, value in values.items() if value is not None})


def _checked_figures(names: Sequence[str], kind: str | None) -> tuple[list[str], list[str]]:
    """Figures of the paper, and names that may be those of other pictures, such as mine-scatter.

    Raises:
        FigureError: If a name is that of neither.
    """
    figures, own = [], []
    for name in names:
        if kind is None and name.endswith(tuple(f"-{each}" for each in ALIKE_KINDS)):
            own.append(name)
            continue
        try:
            find(name)
        except FigureError:
            if name not in FORMATS:
                raise
            command = f"--format pdf,{name}"
            raise FigureError(
                f"{name!r} is no figure; join formats by a comma: {command}"
            ) from None
        figures.append(name)
    return ordered(figures), list(dict.fromkeys(own))


def _check_stems(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise FigureError(unknown_name("picture", name, [*known, *FIGURE_NEEDS]))


def _own_tasks(names: Sequence[str], runs: Runs, place: Place) -> list[Task]:
    """Pictures of other runs than the paper's, by the names that --list prints."""
    from pruneviz.figures.own import own_pictures

    pictures = {one.stem: one for one in own_pictures(runs.spec, place.data.resolve().name)}
    _check_stems(names, list(pictures))
    return [plot_task(pictures[name], runs, place) for name in names]


def _check_dataset(dataset: str | None, spec: pd.DataFrame) -> None:
    """Raise `PresetError` for a data set that is neither recorded nor known."""
    known = list(dict.fromkeys([*DATASET_NAMES, *map(str, spec["dataset"].dropna())]))
    if dataset is not None and dataset not in known:
        raise PresetError(unknown_name("data set", dataset, known))


def _drawn(tasks: Sequence[Task], jobs: int) -> bool:
    """Draw pictures and print their files, in order; returns whether all are complete."""
    complete = True
    with results_of([task.work for task in tasks if task.work], jobs) as results:
        for task in tasks:
            for line in (*task.notes, *task.lacks):
                say(line)
            result = next(results) if task.work else []
            failed = isinstance(result, PrunevizError)
            left_out = failed and task.optional and not isinstance(result, LogError)
            if isinstance(result, PrunevizError):
                say(f"{task.name} is {'left out' if left_out else 'not drawn'}: {result}")
            elif result:
                tell(f"{task.name}: {_written(task.stem, result)}")
            complete = complete and not task.lacks and (left_out or not failed)
    return complete


def _written(stem: str, paths: Sequence[Path]) -> str:
    """The files of one picture in short form: figures/digits/figure03{.pdf,.png,.csv,.txt}."""
    endings = ",".join(path.name.removeprefix(stem) for path in paths)
    return f"{paths[0].parent / stem}{{{endings}}}"


app = command_app(draw, "figures", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz figures")
