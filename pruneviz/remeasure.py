"""`python -m pruneviz.remeasure`: measure recorded runs again from their kept weights, in another way, as runs of their own.

Training is not repeated. The numbers are those that a recording with the other options would have written at the same epochs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.command import command_app, command_line
from pruneviz.errors import PrunevizError
from pruneviz.experiment.parallel import Device, cores, device_at_hand, runs_at_once
from pruneviz.experiment.remeasuring import (
    Remeasuring,
    check_names,
    check_remeasurable,
    remeasure_runs,
)
from pruneviz.log.run_directory import run_paths

if TYPE_CHECKING:
    pass


class BatchNorm(StrEnum):
    """How batch norms normalise while measuring, as `bn` of `pruneviz.measure`."""

    eval = "eval"
    calibrated = "calibrated"
    batch = "batch"


class RowUnit(StrEnum):
    """What a row is about, as `unit` of `pruneviz.measure`."""

    filter = "filter"
    weight = "weight"


class Arithmetic(StrEnum):
    """The precision of measuring."""

    float32 = "float32"
    float64 = "float64"


def remeasure(
    ctx: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run directories with kept weights (RUN/weights), or folders of such."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the runs that this makes, one run directory each.")
    ],
    bn: Annotated[
        BatchNorm,
        typer.Option(
            help="Batch norms use running statistics, those re-estimated on the sample, or each batch's own."
        ),
    ] = BatchNorm.eval,
    unit: Annotated[
        RowUnit,
        typer.Option(help="A row of the log is a filter or a single weight (Figures H1a and H1b)."),
    ] = RowUnit.filter,
    every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Measure derivatives at multiples of so many epochs. Default: as recorded."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Images normalised together, with --bn batch. Default: 100; 500 take 5 times the memory.",
        ),
    ] = None,
    dtype: Annotated[
        Arithmetic | None,
        typer.Option(
            help="Default: float32; float64 with --bn batch, where little but rounding is left of theta_g otherwise."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the data sets. Default: $PRUNEVIZ_IMAGES, else ./images."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to measure.")] = Device.auto,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs side by side. Default: one a core on the CPU, one on a GPU."
        ),
    ] = None,
) -> None:
    """Measure recorded runs again, from the weights that `python -m pruneviz.record --keep-weights` kept, without training them again.

    Runs that are measured already are skipped; one that was cut off goes on after its last epoch.

    Examples: `python -m pruneviz.remeasure data/cifar-mini --bn batch --out data/cifar-mini-batch` (do correlations survive batch
    statistics?); `python -m pruneviz.remeasure data/cifar-mini/resnet56-cifar100-unpruned-s0 --unit weight --out data/cifar-mini`.
    """
    try:
        batch = bn is BatchNorm.batch
        where, precision = (
            device_at_hand(device),
            dtype or (Arithmetic.float64 if batch else Arithmetic.float32),
        )
        sources = [path for given in runs for path in run_paths(given)]
        jobs = min(len(sources), jobs or runs_at_once(where))
        command = command_line(ctx)
        size = batch_size or (100 if batch else None)
        how = Remeasuring(
            out, bn, unit, every, size, precision, images, where, max(1, cores() // jobs), command
        )
        missing = [source for source in sources if check_remeasurable(source, how)]
        check_names(sources, how)
        if len(missing) < len(sources):
            typer.echo(
                f"{len(sources) - len(missing)} of {len(sources)} runs are already measured in {out}"
            )
        if missing:
            remeasure_runs(missing, how, min(jobs, len(missing)), typer.echo)
    except PrunevizError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. What was measured stays; the same command goes on after it.", err=True
        )
        raise typer.Exit(130) from None


app = command_app(remeasure, "remeasure", "")

if __name__ == "__main__":
    app(prog_name="pruneviz remeasure")
