"""`python -m pruneviz.record`: train the runs of a preset and record their pruning dynamics."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pruneviz.errors import PrunevizError
from pruneviz.experiments import DATASET_NAMES, NETWORK_NAMES, PRESETS, RunPlan, plan_runs, record_command
from pruneviz.recording import Setting, is_recorded, record_runs

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


class Device(StrEnum):
    """Where to train; `auto` is a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


_PRESETS_HELP = "; ".join(f"**{name}**: {preset.about}" for name, preset in PRESETS.items())


@app.command()
def record(
    preset: Annotated[str, typer.Option(help=f"What to record. {_PRESETS_HELP}.")] = "digits",
    network: Annotated[
        list[str] | None, typer.Option(help=f"Only this network; repeat for several ({', '.join(NETWORK_NAMES)}). Default: all.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; repeat for several. Default: those of the preset.")] = None,
    dataset: Annotated[str | None, typer.Option(help=f"Another data set than the preset's: {', '.join(DATASET_NAMES)}.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the recordings, one run directory each. Default: data/PRESET.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the data sets. Default: $PRUNEVIZ_IMAGES, else ./images.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow torchvision to download a missing data set.")] = False,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side. Default: one a core on the CPU, one on a GPU.")] = None,
    list_runs: Annotated[bool, typer.Option("--list", help="Say what is recorded and what is missing, and record nothing.")] = False,
) -> None:
    """Train networks and record, per filter and epoch, what the figures are drawn from.

    Runs that are recorded already are skipped; a run that was cut off goes on from its last checkpoint.

    Examples: `python -m pruneviz.record` (digits, minutes on a laptop); `python -m pruneviz.record --preset paper --network resnet56
    --seed 0 --download` (one run at full scale, for a GPU).
    """
    try:
        plans = plan_runs(preset, network or (), seed or (), dataset)
        out = out or Path("data") / preset
        if list_runs:
            _list(plans, out)
        else:
            _record_missing(plans, Setting(out, images, download, _device(device), shlex.join(["python", *sys.orig_argv[1:]])), jobs)
    except PrunevizError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error


def _record_missing(plans: Sequence[RunPlan], setting: Setting, jobs: int | None) -> None:
    missing = [plan for plan in plans if not is_recorded(plan, setting.out)]
    if len(missing) < len(plans):
        typer.echo(f"{len(plans) - len(missing)} of {len(plans)} runs are already recorded in {setting.out}")
    if missing:
        jobs = min(len(missing), jobs or (1 if setting.device == "cuda" else _cores()))
        record_runs(missing, replace(setting, threads=max(1, _cores() // jobs)), jobs, typer.echo)


def _list(plans: Sequence[RunPlan], out: Path) -> None:
    for plan in plans:
        typer.echo(f"{'recorded' if is_recorded(plan, out) else 'missing ':9} {plan.run}  ({plan.epochs} epochs, width {plan.width:g})")
    missing = [plan for plan in plans if not is_recorded(plan, out)]
    if missing:
        networks = list(dict.fromkeys(plan.network for plan in missing))
        typer.echo(f"Record the missing with: {record_command(missing[0].preset, networks, str(out))}")


def _device(device: Device) -> str:
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise PrunevizError("there is no CUDA GPU on this machine; use --device cpu")
    return "cuda" if device is Device.cuda or (device is Device.auto and torch.cuda.is_available()) else "cpu"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    app()
