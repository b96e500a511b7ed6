"""`pruneviz remeasure`: measure recorded runs again from kept weights, with other options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import command_app, command_line, may_be_incomplete, tell
from pruneviz.console.options import (
    Data,
    Download,
    ImagesFolder,
    Jobs,
    one_of,
    recordings_given,
)
from pruneviz.console.stop_signals import ended_at_once
from pruneviz.console.time_limit import Limit
from pruneviz.console.words import counted
from pruneviz.engines.command_options import with_engine
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.log.vocabulary import BN_MODES, CNN_ROW_KINDS, DTYPES, PRECISIONS
from pruneviz.plans.request_options import (
    Errors,
    Further,
    Oracle,
    RequestAt,
    Samples,
    SampleSeed,
    on_request,
)

EXAMPLES = """
  # Record a run with its weights, then measure it with batch statistics
  pruneviz record --figures 13 --seed 0 --keep-weights --out data/mine
  pruneviz remeasure data/mine --bn batch --out data/mine-batch

  # The change of the loss when filters are really removed, for 200 filters at five epochs
  pruneviz remeasure data/mine --oracle 200 --request-at 0,1,2,4,8 --out data/mine-oracle

  # One run by single weights, for Figures H1a and H1b
  pruneviz remeasure data/mine/vgg13-digits-unpruned-s0 --unit weight --out data/mine
"""
BATCH_SIZE = 100


@with_engine
@ended_at_once()
def remeasure(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Folder for the new run directories."),
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories with kept weights (RUN/weights), or folders with such runs.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    bn: Annotated[
        str,
        typer.Option(
            help="Batch-norm statistics while measuring: running statistics (eval), statistics of "
            "the sample (calibrated), or of each batch (batch).",
            **one_of("batch-norm mode", BN_MODES),
        ),
    ] = "eval",
    unit: Annotated[
        str,
        typer.Option(
            help="Record one row per filter, or one per single weight.",
            **one_of("row kind", CNN_ROW_KINDS),
        ),
    ] = "filter",
    every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="EPOCHS",
            help="Epochs between two measurements of derivatives. Default: as recorded.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help=f"Images per batch with --bn batch; more need more memory. Default: {BATCH_SIZE}.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Measuring precision. Default: float32; float64 with --bn batch, where theta_g is "
            "mostly rounding error in float32.",
            **one_of("precision", DTYPES),
        ),
    ] = None,
    sample_seed: SampleSeed = None,
    samples: Samples = 1,
    columns: Further = None,
    oracle: Oracle = None,
    request_at: RequestAt = None,
    errors: Errors = "default",
    images: ImagesFolder = None,
    download: Download = False,
    device: Annotated[
        str, typer.Option(help="Where to measure.", **one_of("device", ("auto", *PRECISIONS)))
    ] = "auto",
    jobs: Jobs = None,
    time_limit: Limit = None,
    engine: Engine = LOCAL,
) -> None:
    """Measure recorded runs again, with other options.

    Uses the weights that `pruneviz record --keep-weights` kept; nothing is trained. Finished runs
    are skipped; interrupted ones continue after their last epoch. Runs that would get one name are
    measured into folders of their own.
    """
    from pruneviz.experiment.campaign import check_data_sets
    from pruneviz.experiment.parallel import Device, device_on, runs_at_once, threads_on
    from pruneviz.experiment.remeasuring import (
        Remeasuring,
        check_remeasurable,
        each_apart,
        remeasure_runs,
        remeasured_name,
    )
    from pruneviz.log.found_runs import run_paths
    from pruneviz.log.leftovers import remove_leftovers
    from pruneviz.log.spec_file import read_spec

    where = device_on(engine, Device(device))
    sources = run_paths(recordings_given(runs, data))
    at_once = min(len(sources), jobs or runs_at_once(where, engine))
    how = Remeasuring(
        out=out,
        bn=bn,
        unit=unit,
        every=every,
        batch_size=batch_size or (BATCH_SIZE if bn == "batch" else None),
        dtype=dtype or ("float64" if bn == "batch" else "float32"),
        sample_seed=sample_seed,
        samples=samples,
        on_request=on_request(columns, oracle, request_at, errors),
        images=images,
        device=where,
        threads=threads_on(engine, at_once),
        command=command_line(ctx),
    )
    planned = each_apart(sources, how)
    missing = {source: own for source, own in planned.items() if check_remeasurable(source, own)}
    made = (own.out / remeasured_name(read_spec(source), own) for source, own in planned.items())
    remove_leftovers([*sources, *made])
    if len(missing) < len(sources):
        done = len(sources) - len(missing)
        tell(f"{done} of {counted(len(sources), 'run')} already measured in {out}")
    if missing:
        names = [str(read_spec(source).dataset) for source in missing]
        check_data_sets(names, images, download)
        with may_be_incomplete():
            at_once = min(at_once, len(missing))
            remeasure_runs(missing, at_once, tell, engine, limit=time_limit)


app = command_app(remeasure, "remeasure", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz remeasure")
