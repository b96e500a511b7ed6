"""`pruneviz sweep`: record all runs of a file, also of training functions of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.command import (
    INCOMPLETE,
    Incomplete,
    command_app,
    command_line,
    command_words,
    may_be_incomplete,
    tell,
)
from pruneviz.console.options import (
    AsTasks,
    Download,
    ImagesFolder,
    Jobs,
    OnlyRuns,
    check_listed,
    one_of,
)
from pruneviz.console.shown_text import short
from pruneviz.console.stop_signals import ended_at_once
from pruneviz.console.tasks import tell_tasks
from pruneviz.console.time_limit import Limit, TimeLimit
from pruneviz.console.words import counted
from pruneviz.engines.command_options import with_engine
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.errors import PresetError, unknown_name
from pruneviz.log.vocabulary import PRECISIONS

if TYPE_CHECKING:
    from pruneviz.experiment.setting import Setting
    from pruneviz.experiment.sweep import AnyRun, State

# torch and pandas are imported where they are used, so that --help is fast.

EXAMPLES = """
  # A file to begin with, its comments say what it may hold
  pruneviz sweep --example > sweep.toml

  # Each run: recorded, running, failed (and why), unfinished or missing
  pruneviz sweep sweep.toml --list

  # Record what is not recorded; runs that fail stop no others and are tried again next time
  pruneviz sweep sweep.toml --jobs 4

  # One command per run, for another scheduler
  pruneviz sweep sweep.toml --list --as-tasks > tasks.txt
"""


@with_engine
@ended_at_once()
def sweep(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Sweep file, see --example.", show_default=False),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a sweep file with comments, then exit.")
    ] = False,
    list_runs: Annotated[
        bool,
        typer.Option("--list", help="List the runs with status and reasons, then exit."),
    ] = False,
    as_tasks: AsTasks = False,
    run: OnlyRuns = None,
    time_limit: Limit = None,
    images: ImagesFolder = None,
    download: Download = False,
    device: Annotated[
        str,
        typer.Option(
            help="Where to train; functions of your own choose it by themselves.",
            **one_of("device", ("auto", *PRECISIONS)),
        ),
    ] = "auto",
    jobs: Jobs = None,
    engine: Engine = LOCAL,
) -> None:
    """Record all runs that a file names, as grids of options.

    Runs of `pruneviz record` and of training functions of your own. A run that fails stops no
    other; why it failed is kept beside the runs and shown by --list. Repeat the command to go on:
    recorded runs are skipped.
    """
    from pruneviz.log.spooled_runs import prepare_all
    from pruneviz.plans.sweep_example import EXAMPLE
    from pruneviz.plans.sweep_file import read_sweep

    if example:
        tell(EXAMPLE, end="")
        return
    if file is None:
        raise PresetError("name a sweep file, or print one to begin with by --example")
    check_listed(as_tasks, list_runs)
    asked = read_sweep(file)
    runs = _named(asked.runs, run or ())
    setting = _setting(asked.out, images, download, device, command_line(ctx), engine)
    _check(runs, setting)
    prepare_all(setting.out / one.run for one in runs)
    states = _states(runs, setting)
    if as_tasks:
        left = [one for one in runs if states[one.run].word not in ("recorded", "running")]
        _find_data(left, setting, download=download)
        tell_tasks(command_words(ctx), [one.run for one in left], len(runs), greedy=False)
    elif list_runs:
        _list(states, command_line(ctx, without=["--list"]))
    else:
        _record(runs, states, setting, jobs, engine, time_limit)


def _named(runs: Sequence[AnyRun], names: Sequence[str]) -> list[AnyRun]:
    known = [one.run for one in runs]
    for name in names:
        if name not in known:
            raise PresetError(unknown_name("run", name, known))
    return [one for one in runs if not names or one.run in names]


def _setting(
    out: Path, images: Path | None, download: bool, device: str, command: str, engine: Engine
) -> Setting:
    from pruneviz.experiment.parallel import Device, device_on
    from pruneviz.experiment.setting import Setting

    return Setting(out, images, download, device_on(engine, Device(device)), command)


def _check(runs: Sequence[AnyRun], setting: Setting) -> None:
    from pruneviz.experiment.sweep import check_runs

    check_runs(runs, setting)


def _states(runs: Sequence[AnyRun], setting: Setting) -> dict[str, State]:
    from pruneviz.experiment.sweep import state_of

    return {one.run: state_of(one, setting) for one in runs}


def _find_data(runs: Sequence[AnyRun], setting: Setting, *, download: bool) -> None:
    """Download data sets once, before tasks are begun that must not do it beside each other."""
    from pruneviz.experiment.campaign import check_data_sets
    from pruneviz.plans.sweep_runs import RecordedRun

    if download:
        names = [one.plan.dataset for one in runs if isinstance(one, RecordedRun)]
        check_data_sets(names, setting.images, download)


def _list(states: Mapping[str, State], command: str) -> None:
    """Print one line per run, and how to record the others."""
    width = max(len(name) for name in states)
    for name, state in states.items():
        tell(f"{state.word:10}  {name:{width}}  {short(state.why, 300)}".rstrip())
    tell(_counts(states))
    if any(state.word != "recorded" for state in states.values()):
        tell(f"Record them with: {command}")


def _counts(states: Mapping[str, State]) -> str:
    """How many runs there are of each state."""
    number = Counter(state.word for state in states.values())
    told = ", ".join(f"{count} {word}" for word, count in number.most_common())
    return f"{told} of {counted(len(states), 'run')}"


def _record(
    runs: Sequence[AnyRun],
    states: Mapping[str, State],
    setting: Setting,
    jobs: int | None,
    engine: Engine,
    limit: TimeLimit | None,
) -> None:
    from pruneviz.experiment.campaign import check_data_sets
    from pruneviz.experiment.parallel import runs_at_once, threads_on
    from pruneviz.experiment.sweep import record_sweep
    from pruneviz.log.spooled_runs import named_out, upload_runs
    from pruneviz.plans.sweep_runs import RecordedRun

    out = named_out(setting.out)
    left = [one for one in runs if states[one.run].word not in ("recorded", "running")]
    if len(left) < len(runs):
        tell(f"{_counts(states)}, in {out}")
    waiting = [error for _, error in upload_runs(setting.out / one.run for one in runs) if error]
    for error in waiting:
        tell(str(error))
    if left:
        names = [one.plan.dataset for one in left if isinstance(one, RecordedRun)]
        check_data_sets(names, setting.images, setting.download)
        at_once = min(len(left), jobs or runs_at_once(setting.device, engine))
        where = f"{out}," if engine.is_local else f"{out} on {engine.on}, up to"
        tell(f"recording {counted(len(left), 'run')} into {where} {at_once} at a time")
        sharing = at_once if engine.is_local else engine.tasks_per_gpu
        setting = replace(setting, threads=threads_on(engine, at_once), sharing=sharing)
        with may_be_incomplete():
            record_sweep(left, setting, at_once, tell, engine, limit=limit)
    _check_recorded(_states(runs, setting))
    if waiting:
        raise typer.Exit(INCOMPLETE)


def _check_recorded(states: Mapping[str, State]) -> None:
    """End the command as incomplete if other commands still record some of its runs."""
    others = [name for name, state in states.items() if state.word != "recorded"]
    if others:
        first = states[others[0]]
        raise Incomplete(
            f"{len(others)} of {counted(len(states), 'run')} not recorded: {others[0]} is "
            f"{' '.join(filter(None, (first.word, first.why)))}; repeat the command, or look with "
            "--list"
        )


app = command_app(sweep, "sweep", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz sweep")
