"""`pruneviz samplesize`: how many images a measurement needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import command_app, tell
from pruneviz.console.options import Download, ImagesFolder, one_of
from pruneviz.console.stop_signals import ended_at_once
from pruneviz.log.vocabulary import MASK_RATIO, PRECISIONS

EXAMPLES = """
  # Record a run with its weights, then compare samples with all its training images
  pruneviz record --figures 13 --seed 0 --keep-weights --out data/mine
  pruneviz samplesize data/mine/vgg13-digits-unpruned-s0

  # After the first epoch, among all training images of the data set
  pruneviz samplesize data/mine/vgg13-cifar100-unpruned-s0 --epoch 1 --all-images
"""


@ended_at_once()
def samplesize(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Run directory with kept weights, or of an unfinished run with a checkpoint.",
            show_default=False,
        ),
    ],
    epoch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Epoch whose weights are measured. Default: the last kept."),
    ] = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="N,...",
            help="Images in a sample, rounded down to equally many per class. Default: 128, 256, "
            "... and the published 2560, up to what there is.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples of each size, disjoint where possible.")
    ] = 4,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="Pruning measures, or columns. Default: theta_g and the paper's measures that "
            "depend on the sample.",
        ),
    ] = None,
    ratio: Annotated[
        float, typer.Option(metavar="FRACTION", help="Fraction of the filters that masks prune.")
    ] = MASK_RATIO,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the draws.")] = 0,
    all_images: Annotated[
        bool,
        typer.Option(
            "--all-images",
            help="Draw from all training images of the data set. Default: those of the run.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")] = Path(
        "figures"
    ),
    images: ImagesFolder = None,
    download: Download = False,
    device: Annotated[
        str, typer.Option(help="Where to measure.", **one_of("device", ("auto", *PRECISIONS)))
    ] = "auto",
) -> None:
    """Compare samples of several sizes with all images.

    Every sample is measured as a recorder measures it. Writes the rank correlation over filters and
    the filters in common among the pruned ones, as CSV, picture and caption. All images are
    measured once, and those of each sample once more.
    """
    from pruneviz.console.progress import show_progress
    from pruneviz.experiment.campaign import check_data_sets
    from pruneviz.experiment.parallel import Device, available_device
    from pruneviz.experiment.samplesize import (
        MEASURES,
        SampleSizes,
        images_to_measure,
        sample_sizes,
    )
    from pruneviz.figures.sample_size import write_sample_sizes
    from pruneviz.log.spec_file import read_spec

    where = available_device(Device(device))
    wanted = SampleSizes(
        images=tuple(sizes) if sizes else None,
        draws=draws,
        measures=tuple(measure or MEASURES),
        ratio=ratio,
        seed=seed,
        whole=all_images,
    )
    check_data_sets([str(read_spec(run).dataset)], images, download)
    with show_progress(1, tell, unit="image") as progress:
        progress.start(run.name, images_to_measure(run, wanted, images=images))
        table = sample_sizes(
            run,
            wanted,
            epoch=epoch,
            images=images,
            device=where,
            report=lambda done, note: progress.move(run.name, done, note),
        )
        progress.end(run.name, f"{run.name}: compared {table['images'].nunique() - 1} sizes")
    for file in write_sample_sizes(table, out):
        tell(f"wrote {file}")


app = command_app(samplesize, "samplesize", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz samplesize")
