"""`pruneviz record`: train the runs that figures need and record their pruning dynamics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pruneviz.console.command import (
    INCOMPLETE,
    command_app,
    command_line,
    command_words,
    may_be_incomplete,
    tell,
    tell_damaged,
)
from pruneviz.console.options import (
    AsTasks,
    Download,
    ImagesFolder,
    Jobs,
    OnlyRuns,
    UploadCheckpoints,
    check_listed,
    completing,
    one_of,
    options_of,
)
from pruneviz.console.processes import is_first_rank, processes_started, started_by_torchrun
from pruneviz.console.stop_signals import ended_at_once
from pruneviz.console.tasks import tell_tasks
from pruneviz.console.time_limit import Limit, TimeLimit
from pruneviz.console.words import counted
from pruneviz.engines.command_options import with_engine
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.log.pruning_options import PruningOptions, option_help
from pruneviz.log.vocabulary import PRECISIONS, Precision
from pruneviz.plans.asked_pruning import check_alone, check_reached, named_runs, own_pruning
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS, NETWORK_NAMES
from pruneviz.plans.planning import (
    figures_served,
    name_with_sample,
    plan_baselines,
    plan_pruned_runs,
    plan_runs,
    with_sample_seed,
)
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.request_options import (
    Errors,
    Further,
    Oracle,
    RequestAt,
    Samples,
    SampleSeed,
    on_request,
)
from pruneviz.plans.run_plan import RunPlan, precision_on

if TYPE_CHECKING:
    from pruneviz.experiment.setting import Setting

# torch and pandas are imported where they are used, so that --help is fast.

EXAMPLES = """
  # List the runs for Figures 5 and 16: recorded or missing, and how long they take
  pruneviz record --figures 5 16 --list

  # All figures at the smallest scale; minutes on a laptop
  pruneviz record

  # One network at full scale, on a GPU
  pruneviz record --preset paper --network resnet56 --seed 0 --download

  # A run of your own, pruned by magnitude in 3 rounds
  pruneviz record --measure magnitude --rounds 3 --target 0.5 --network vgg13

  # One training on the 4 GPUs of this machine
  torchrun --nproc-per-node 4 -m pruneviz record --preset paper --network resnet56 --seed 0

  # One command per missing run, for another scheduler
  pruneviz record --preset paper --time-limit 11h50m --list --as-tasks > tasks.txt
"""


def _measures() -> Iterable[str]:
    from pruneviz.analysis.measures import names

    return names()


@with_engine
@options_of(
    PruningOptions,
    help_of=option_help,
    panel="Pruned runs of your own, which no figure needs",
    more={
        "measure": {"metavar": "MEASURE", "autocompletion": completing(_measures)},
        "target": {
            "metavar": "FRACTION",
            "help": f"{option_help('target')} Default: 0.75; ResNet-56 0.6.",
        },
        "rounds": {"metavar": "N"},
        "keep_at_least": {"metavar": "FRACTION"},
    },
)
@ended_at_once()
def record(
    ctx: typer.Context,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Scale of the runs, see below.",
            autocompletion=completing(lambda: PRESETS),
        ),
    ] = "digits",
    figures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIGURE...",
            help="Record only the runs of these figures. Default: all but I1. "
            f"Known: {', '.join(FIGURE_NEEDS)}.",
            autocompletion=completing(lambda: FIGURE_NEEDS),
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            help=f"Record only these networks: {', '.join(NETWORK_NAMES)}. Default: all.",
            autocompletion=completing(lambda: NETWORK_NAMES),
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N...", help="Record only these seeds. Default: the preset's."),
    ] = None,
    sample_seed: SampleSeed = None,
    samples: Samples = 1,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Data set to use instead of the preset's: {', '.join(DATASET_NAMES)}.",
            autocompletion=completing(lambda: DATASET_NAMES),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--data",
            metavar="FOLDER",
            help="Folder for the run directories, or its URL, such as s3://bucket/sets. "
            "Default: data/PRESET, or data/PRESET-own for runs of your own.",
        ),
    ] = None,
    images: ImagesFolder = None,
    download: Download = False,
    device: Annotated[
        str, typer.Option(help="Where to train.", **one_of("device", ("auto", *PRECISIONS)))
    ] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Floating-point precision of training; measuring always uses exact float32. "
            "Default: tf32 on a GPU; a CPU has only fp32."
        ),
    ] = None,
    jobs: Jobs = None,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights",
            help="Keep the weights of measured epochs for `pruneviz remeasure`.",
        ),
    ] = False,
    columns: Further = None,
    oracle: Oracle = None,
    request_at: RequestAt = None,
    errors: Errors = "default",
    flow: Annotated[
        bool,
        typer.Option(
            "--flow",
            help="Also record what steps of the first epoch and of measured ones do to norms of "
            "filters, against gradient flow (table flow).",
        ),
    ] = False,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline",
            help="Record unpruned runs at the scale of the pruned ones (epochs, images, schedule), "
            "to compare their accuracies with. Their folder is that of runs of your own.",
        ),
    ] = False,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:WHERE,...",
            help="Also send aggregates of every epoch, and a scatter plot of measured ones, to a "
            "tracker while runs train: tensorboard:FOLDER or wandb:PROJECT.",
        ),
    ] = None,
    list_runs: Annotated[
        bool,
        typer.Option("--list", help="List the runs with status, figures and duration, then exit."),
    ] = False,
    as_tasks: AsTasks = False,
    run: OnlyRuns = None,
    time_limit: Limit = None,
    engine: Engine = LOCAL,
    upload_checkpoints: UploadCheckpoints = False,
    **pruning: Any,
) -> None:
    """Train networks and record their pruning dynamics.

    Writes one run directory per run, with one row per filter and epoch. A run that several figures
    need is recorded once. Finished runs are skipped; interrupted ones continue from their last
    checkpoint. `torchrun --nproc-per-node N -m pruneviz record ...` trains each run data-parallel
    on N processes.
    """
    from pruneviz.log.spooled_runs import in_spool, prepare_all
    from pruneviz.recording.sinks import makeable_sinks

    check_listed(as_tasks, list_runs)
    if baseline:
        check_alone(pruning, figures or ())
    own = own_pruning(pruning, figures or ())
    which = (network or (), seed or (), dataset)
    if baseline:
        plans = plan_baselines(preset, *which)
    elif own is None:
        plans = plan_runs(preset, *which, figures or ())
    else:
        plans = plan_pruned_runs(preset, own, *which)
    draw = sample_seed or 0
    plans = [with_sample_seed(plan, draw) for plan in plans]
    plans = [replace(plan, precision=precision, samples=samples) for plan in plans]
    # Custom runs have their own folder: a figure refuses two runs with one seed and measure.
    for_figures = own is None and not baseline
    out = in_spool(out or Path("data") / (preset if for_figures else f"{preset}-own"))
    setting = _setting(out, images, download, device, keep_weights, command_line(ctx), engine)
    request = on_request(columns, oracle, request_at, errors)
    setting = replace(setting, on_request=request, flow=flow, sinks=makeable_sinks(sink or ()))
    setting = replace(setting, upload_checkpoints=upload_checkpoints)
    _check(plans, setting.device, precision)
    check_reached(request.request_at or (), plans)
    plans = named_runs(plans, run or ())
    if started_by_torchrun():
        setting = _on_ranks(setting, jobs, engine)
        if list_runs and not is_first_rank():
            return
    prepare_all(out / plan.run for plan in plans)
    if as_tasks:
        _tell_tasks(plans, setting, command_words(ctx))
    elif list_runs:
        from pruneviz.experiment.listed_runs import list_runs as tell_runs

        served = {
            name_with_sample(run, draw): figures
            for run, figures in figures_served(preset, dataset, seed or ()).items()
        }
        at_once = jobs if engine.is_local else jobs or len(plans)
        command = command_line(ctx, without=["--list"])
        if setting.ranks > 1:
            at_once, command = 1, f"torchrun --nproc-per-node {setting.ranks} -m {command}"
        tell_runs(plans, setting, at_once, served, command)
    elif setting.ranks > 1:
        _record_together(plans, setting, time_limit)
    else:
        _record_missing(plans, setting, jobs, engine, time_limit)


def _setting(
    out: Path,
    images: Path | None,
    download: bool,
    device: str,
    keep_weights: bool,
    command: str,
    engine: Engine,
) -> Setting:
    from pruneviz.experiment.parallel import Device, device_on
    from pruneviz.experiment.setting import Setting

    where = device_on(engine, Device(device))
    return Setting(out, images, download, where, command, keep_weights=keep_weights)


def _check(plans: Sequence[RunPlan], device: str, precision: Precision | None) -> None:
    """Raise errors about plans that cannot be recorded, before anything is written."""
    from pruneviz.experiment.setting import check_measure

    precision_on(device, precision)
    for plan in plans:
        check_measure(plan)


def _on_ranks(setting: Setting, jobs: int | None, engine: Engine) -> Setting:
    """The setting of a command that `torchrun` has started several times."""
    from pruneviz.experiment.on_ranks import check_together

    check_together(setting, jobs, engine)
    return replace(setting, ranks=processes_started())


def _record_together(plans: Sequence[RunPlan], setting: Setting, limit: TimeLimit | None) -> None:
    from pruneviz.experiment.on_ranks import record_together
    from pruneviz.plans.durations import expected_durations, longest_first

    def missing() -> Sequence[RunPlan]:
        left = _missing(plans, setting)
        return longest_first(left, expected_durations(left, setting.out))

    record_together(missing, setting, tell, limit)


def _record_missing(
    plans: Sequence[RunPlan],
    setting: Setting,
    jobs: int | None,
    engine: Engine,
    limit: TimeLimit | None,
) -> None:
    from pruneviz.experiment.campaign import check_data_sets, record_runs
    from pruneviz.experiment.listed_runs import not_counted
    from pruneviz.experiment.parallel import runs_at_once, threads_on
    from pruneviz.log.spooled_runs import named_out, upload_runs
    from pruneviz.plans.durations import expected_durations, longest_first, total_in_words

    missing = _missing(plans, setting)
    waiting = [error for _, error in upload_runs(setting.out / p.run for p in plans) if error]
    for error in waiting:
        tell(str(error))
    if not missing:
        raise typer.Exit(INCOMPLETE if waiting else 0)
    check_data_sets([plan.dataset for plan in missing], setting.images, setting.download)
    at_once = min(len(missing), jobs or runs_at_once(setting.device, engine))
    durations = expected_durations(missing, setting.out)
    how_long = total_in_words(list(durations.values()), at_once)
    out = named_out(setting.out)
    where = f"{out}," if engine.is_local else f"{out} on {engine.on}, up to"
    tell(
        f"recording {counted(len(missing), 'run')} into {where} {at_once} at a time; "
        f"duration {how_long}{not_counted(missing, setting)}"
    )
    sharing = at_once if engine.is_local else engine.tasks_per_gpu
    setting = replace(setting, threads=threads_on(engine, at_once), sharing=sharing)
    with may_be_incomplete():
        plans = longest_first(missing, durations)
        record_runs(plans, setting, at_once, tell, engine, limit=limit)


def _missing(plans: Sequence[RunPlan], setting: Setting) -> list[RunPlan]:
    """The runs that are to be recorded; says how many are there already."""
    from pruneviz.experiment.setting import is_due
    from pruneviz.log.leftovers import remove_leftovers
    from pruneviz.log.spooled_runs import named_out

    missing = [plan for plan in plans if is_due(plan, setting)]
    remove_leftovers(setting.out / plan.run for plan in plans)
    if len(missing) < len(plans):
        done = len(plans) - len(missing)
        tell(f"{done} of {counted(len(plans), 'run')} already recorded in {named_out(setting.out)}")
    return missing


def _tell_tasks(plans: Sequence[RunPlan], setting: Setting, words: Sequence[str]) -> None:
    """Print one command per run that is not recorded, and nothing else to stdout."""
    from pruneviz.experiment.campaign import check_data_sets
    from pruneviz.experiment.setting import is_recorded, unreadable

    damaged = {plan.run: why for plan in plans if (why := unreadable(plan, setting))}
    left = [plan for plan in plans if plan.run not in damaged and not is_recorded(plan, setting)]
    if setting.download and left:  # here, as only one process may write into the folder
        check_data_sets([plan.dataset for plan in left], setting.images, download=True)
    tell_tasks(words, [plan.run for plan in left], len(plans))
    tell_damaged(damaged.values())


app = command_app(
    record,
    "record",
    EXAMPLES,
    words={"Presets": {name: preset.about for name, preset in PRESETS.items()}},
)

if __name__ == "__main__":
    app(prog_name="pruneviz record")
