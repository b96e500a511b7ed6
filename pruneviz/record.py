"""`python -m pruneviz.record`: train the runs that figures need and record their pruning dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pruneviz.console.command import command_app, command_line
from pruneviz.errors import PresetError, PrunevizError
from pruneviz.experiment.parallel import Device, cores, device_at_hand, runs_at_once
from pruneviz.experiment.run import Setting, check_measure, is_recorded, progress_of, record_runs
from pruneviz.log.pruning_options import OPTION_NAMES, PruningOptions, option_help
from pruneviz.log.vocabulary import Precision, PruningSchedule
from pruneviz.plans.durations import expected_durations, in_words, longest_first, total_in_words
from pruneviz.plans.needs import DATASET_NAMES, FIGURE_NEEDS, NETWORK_NAMES
from pruneviz.plans.planning import figures_served, plan_pruned_runs, plan_runs
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan, precision_on

_PRESETS_HELP = "; ".join(f"**{name}**: {preset.about}" for name, preset in PRESETS.items())
_OWN = "Runs of your own"


def record(
    ctx: typer.Context,
    preset: Annotated[
        str, typer.Option(help=f"The scale of the runs. {_PRESETS_HELP}.")
    ] = "digits",
    figures: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only what these figures need ({', '.join(FIGURE_NEEDS)}). Default: all but I1."
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these networks ({', '.join(NETWORK_NAMES)}). Default: all."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Only these seeds. Default: those of the preset.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help=f"Another data set than the preset's: {', '.join(DATASET_NAMES)}."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the recordings, one run directory each. Default: data/PRESET; own runs data/PRESET-own."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the data sets. Default: $PRUNEVIZ_IMAGES, else ./images."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Allow torchvision to download a missing data set.")
    ] = False,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Arithmetic of training; measuring is in exact float32. Default: tf32 on a GPU; fp32, the only one, on a CPU."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs side by side. Default: one a core on the CPU, one on a GPU."
        ),
    ] = None,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights",
            help="Keep the weights of every measured epoch in RUN/weights, to measure more later.",
        ),
    ] = False,
    list_runs: Annotated[
        bool,
        typer.Option(
            "--list",
            help="Say what is recorded and what is missing, for which figures, and how long it takes; record nothing.",
        ),
    ] = False,
    measure: Annotated[
        str | None, typer.Option(rich_help_panel=_OWN, help=option_help("measure"))
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(rich_help_panel=_OWN, help=option_help("rounds"))
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_OWN,
            help=f"{option_help('target')} Default: 0.75; ResNet-56 0.6.",
        ),
    ] = None,
    schedule: Annotated[
        PruningSchedule | None,
        typer.Option(rich_help_panel=_OWN, help=option_help("schedule")),
    ] = None,
    prune_at_start: Annotated[
        bool,
        typer.Option("--prune-at-start", rich_help_panel=_OWN, help=option_help("prune_at_start")),
    ] = False,
    carry_momentum: Annotated[
        bool,
        typer.Option("--carry-momentum", rich_help_panel=_OWN, help=option_help("carry_momentum")),
    ] = False,
    keep_at_least: Annotated[
        float | None, typer.Option(rich_help_panel=_OWN, help=option_help("keep_at_least"))
    ] = None,
    flowandprune: Annotated[
        bool,
        typer.Option("--flowandprune", rich_help_panel=_OWN, help=option_help("flowandprune")),
    ] = False,
    prune_phase_only: Annotated[
        bool,
        typer.Option(
            "--prune-phase-only", rich_help_panel=_OWN, help=option_help("prune_phase_only")
        ),
    ] = False,
) -> None:
    """Train networks and record, per filter and epoch, what the figures are drawn from.

    Every run is recorded once, however many figures need it. Runs that are recorded already are skipped; a run that was cut off goes on
    from its last checkpoint.

    Examples: `python -m pruneviz.record` (all figures of digits, minutes on a laptop); `python -m pruneviz.record --figures 5 16 --list`
    (what two figures need); `python -m pruneviz.record --preset paper --network resnet56 --seed 0 --download` (at full scale, for a GPU);
    `python -m pruneviz.record --measure magnitude --rounds 3 --target 0.5 --network vgg13` (a run of your own).
    """
    given = {name: ctx.params[name] for name in OPTION_NAMES}
    options = {
        name: value for name, value in given.items() if value is not None and value is not False
    }
    try:
        pruning = _own_pruning(options, figures or ())
        which = (network or (), seed or (), dataset)
        plans = (
            plan_pruned_runs(preset, pruning, *which)
            if pruning
            else plan_runs(preset, *which, figures or ())
        )
        plans = [replace(plan, precision=precision) for plan in plans]
        for plan in plans:
            check_measure(plan)
        out = out or Path("data") / (
            f"{preset}-own" if pruning else preset
        )  # a figure takes no two runs of one seed and measure
        if list_runs:
            served = figures_served(preset, dataset, seed or ())
            _list(
                plans,
                out,
                jobs or runs_at_once(device_at_hand(device)),
                served,
                command_line(ctx, without=["--list"]),
            )
        else:
            command = command_line(ctx)
            where = device_at_hand(device)
            precision_on(where, precision)  # said before anything is begun
            _record_missing(
                plans,
                Setting(out, images, download, where, command, keep_weights=keep_weights),
                jobs,
            )
    except PrunevizError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. What was recorded stays; the same command goes on from the last checkpoints.",
            err=True,
        )
        raise typer.Exit(130) from None


def _own_pruning(options: dict[str, Any], figures: Sequence[str]) -> PruningOptions | None:
    """How to prune in the runs that a person asks for by a measure; None where figures say what to record."""
    if not options:
        return None
    named = ", ".join(f"--{name.replace('_', '-')}" for name in options)
    if "measure" not in options:
        raise PresetError(
            f"{named} says how to prune, but not by which measure; add one, such as --measure magnitude, or leave it out"
        )
    if figures:
        raise PresetError(
            f"figures have measures and rounds of their own; leave out --figures, or leave out {named}"
        )
    return PruningOptions(**options)


def _record_missing(plans: Sequence[RunPlan], setting: Setting, jobs: int | None) -> None:
    missing = [plan for plan in plans if not is_recorded(plan, setting.out)]
    if len(missing) < len(plans):
        typer.echo(
            f"{len(plans) - len(missing)} of {len(plans)} runs are already recorded in {setting.out}"
        )
    if missing:
        jobs = min(len(missing), jobs or runs_at_once(setting.device))
        durations = expected_durations(missing, setting.out)
        how_long = total_in_words(list(durations.values()), jobs)
        typer.echo(
            f"recording {_count(len(missing), 'run')} into {setting.out}, {jobs} at a time; duration {how_long}"
        )
        setting = replace(setting, threads=max(1, cores() // jobs), sharing=jobs)
        record_runs(longest_first(missing, durations), setting, jobs, typer.echo)


def _list(
    plans: Sequence[RunPlan],
    out: Path,
    jobs: int,
    served: dict[str, list[str]],
    command: str,
) -> None:
    progress = {plan.run: progress_of(plan, out) for plan in plans}
    durations = expected_durations(plans, out)
    width = max(len(plan.run) for plan in plans)
    for plan in plans:
        figures = f"figures {' '.join(served[plan.run])}" if plan.run in served else "no figure"
        time = "" if progress[plan.run] == "recorded" else f"  {in_words(durations[plan.run])}"
        typer.echo(
            f"{progress[plan.run]:10}  {plan.run:{width}}  {_count(plan.epochs, 'epoch'):>10}  {figures}{time}"
        )
    left = [durations[plan.run] for plan in plans if progress[plan.run] != "recorded"]
    if left:
        typer.echo(
            f"{_count(len(left), 'run')} of {len(plans)} left to record, {jobs} at a time; duration {total_in_words(left, jobs)}"
        )
        typer.echo(f"Record them with: {command}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


app = command_app(record, "record", "")

if __name__ == "__main__":
    app(prog_name="pruneviz record")
