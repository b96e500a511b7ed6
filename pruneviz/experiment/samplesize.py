"""How many images a measurement needs: rankings on samples beside that on all images.

A sample is measured as a recorder measures it, whole and anew. Gradients of disjoint blocks would
add up to those of their union, but most columns would not: sums of absolute gradients need the
gradient on the whole sample, and Hg needs it before its own pass begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.analysis.measures import AnyMeasure, quantity
from pruneviz.analysis.sample_agreement import agreement
from pruneviz.errors import DataError, LogError, MeasureError
from pruneviz.experiment.checkpoint import load_network
from pruneviz.experiment.images import ImageData, normalise
from pruneviz.experiment.recorded_training import check_rebuildable, images_of, network_of
from pruneviz.log import schema
from pruneviz.log.arguments import is_whole
from pruneviz.log.checkpoint_names import CHECKPOINTS
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import read_spec
from pruneviz.log.vocabulary import MASK_RATIO
from pruneviz.measuring.snapshot import measure
from pruneviz.recording.kept_weights import kept_epochs, load_kept_weights

PUBLISHED = 2560  # images that the published code measures on
SMALLEST = 128
MEASURES = (
    *("theta_g", "loss_preservation", "proposed"),
    *("grasp", "grasp_t200", "gradient_norm_preservation"),
)

Report = Callable[[float, str], None]  # images measured so far; a note


@dataclass(frozen=True)
class SampleSizes:
    """Which samples are measured and compared; checked on construction.

    Attributes:
        images: Numbers of images, each rounded down to equally many of every class. Default: 128,
            256, ... and 2,560, up to what there is.
        draws: Samples of each number, disjoint as long as there are enough images.
        measures: Pruning measures or columns.
        ratio: Fraction of the filters that masks prune.
        seed: Seed of the draws.
        whole: Draw from all training images of the data set, also those that the run left out.

    Raises:
        MeasureError: If a value is not allowed.
    """

    images: tuple[int, ...] | None = None
    draws: int = 4
    measures: tuple[AnyMeasure, ...] = MEASURES
    ratio: float = MASK_RATIO
    seed: int = 0
    whole: bool = False

    def __post_init__(self) -> None:
        for name, values in (("images", self.images or ()), ("draws", (self.draws,))):
            wrong = [value for value in values if not is_whole(value) or value < 1]
            if wrong:
                raise MeasureError(f"{name} is {wrong[0]!r}, expected a whole number from 1")
        if not is_whole(self.seed) or self.seed < 0:
            raise MeasureError(f"seed is {self.seed!r}, expected a whole number from 0")
        if not self.measures:
            raise MeasureError("measures is empty; name at least one pruning measure or column")


def sample_sizes(
    run: str | Path,
    how: SampleSizes | None = None,
    *,
    epoch: int | None = None,
    images: Path | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> pd.DataFrame:
    """Compare measurements of a recorded network on samples with one on all images.

    The answer on all images is that of the largest class-balanced set. It contains the samples, so
    the agreement of samples that are a large part of it is too high for fresh images.

    Args:
        run: Run directory with kept weights, or of an unfinished run with a checkpoint.
        how: Samples and measures. Default: those of `SampleSizes`.
        epoch: Epoch whose weights are measured; -1 is the last one. Default: the last one.
        images: Folder with the data sets. Default: see `pruneviz.load_dataset`.
        device: Where to measure, "cpu" or "cuda".
        report: Called with the number of images measured so far, and a note.

    Returns:
        One row per number of images, draw and measure, and for all images: run, epoch, measure,
        images (in the sample), draw, of_images (in the answer), spearman (rank correlation with the
        answer over filters, null if a ranking is constant), shared (fraction of the pruned filters
        that both masks prune), chance (`shared` of random masks), ratio, and recorded_images (the
        sample of the recording).

    Raises:
        LogError: If the run has no weights of this epoch, or cannot be built again.
        MeasureError: If the network or a measure cannot be measured so.
        DataError: If images are missing, or all numbers of images are too small or too large.

    Example:
        >>> table = pv.sample_sizes("data/mine/vgg13-digits-unpruned-s0")
        >>> table.groupby(["measure", "images"])["spearman"].mean()
    """
    run, how = Path(run), how or SampleSizes()
    spec = read_spec(run)
    data = _checked_images(spec, how, images, device)
    network = network_of(spec, data.num_classes, device)
    at = _load_weights(network, run, epoch)
    samples = Samples(data, how.draws, how.seed)
    sizes = samples.sizes(how.images)
    columns, temperatures = _needed(how.measures, spec)
    options: dict[str, Any] = {
        "columns": columns,
        "temperatures": temperatures,
        "bn": spec.bn,
        "dtype": getattr(torch, spec.dtype or "float32"),
    }
    done, tell = 0, report or (lambda images, note: None)
    tell(0, f"the answer on {samples.most:,} images")
    whole = measure(network, samples.all(), **options)
    done += samples.most
    rows = [_row(whole, whole, what, how.ratio, samples.most, 0) for what in how.measures]
    for size in sizes:
        for draw in range(how.draws):
            tell(done, f"draw {draw + 1} of {size:,} images")
            table = measure(network, samples.drawn(size, draw), **options)
            rows += [_row(table, whole, what, how.ratio, size, draw) for what in how.measures]
            done += size
    tell(done, "done")
    facts: dict[str, Any] = {"run": spec.run, "epoch": at, "of_images": samples.most}
    facts |= {"ratio": how.ratio, "recorded_images": spec.sample_size}
    found = pd.DataFrame(rows).sort_values(["images", "draw"], kind="stable", ignore_index=True)
    return found.assign(**facts)[[*_COLUMNS]]


_COLUMNS = (
    *("run", "epoch", "measure", "images", "draw", "of_images"),
    *("spearman", "shared", "chance", "ratio", "recorded_images"),
)


def images_to_measure(
    run: str | Path, how: SampleSizes, *, images: Path | None = None, device: str = "cpu"
) -> int:
    """Number of images that `sample_sizes` passes through the network, for its progress."""
    data = _checked_images(read_spec(run), how, images, device)
    samples = Samples(data, how.draws, how.seed)
    return samples.most + how.draws * sum(samples.sizes(how.images))


class Samples:
    """Class-balanced samples of a data set.

    The images of every class have one random order. Draw d begins at d / draws of it, so that draws
    are disjoint while they fit side by side and overlap as little as possible beyond, and a larger
    sample of a draw contains the smaller ones.
    """

    def __init__(self, data: ImageData, draws: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        labels = data.train_labels.cpu()
        own = [(labels == label).nonzero().flatten() for label in range(data.num_classes)]
        self._order = [each[torch.randperm(len(each), generator=generator)] for each in own]
        self._data, self._draws = data, draws
        self.per_class = min(map(len, self._order))

    @property
    def most(self) -> int:
        """Number of images in the largest class-balanced set."""
        return self.per_class * self._data.num_classes

    def sizes(self, asked: Sequence[int] | None) -> list[int]:
        """Numbers of images, ascending, that are balanced and below the largest."""
        classes = self._data.num_classes
        wanted = [*_doubling(self.most), PUBLISHED] if asked is None else asked
        found = sorted({size // classes * classes for size in wanted} - {0})
        usable = [size for size in found if size < self.most]
        if not usable:
            raise DataError(
                f"images={list(wanted)}: samples have equally many images of {classes} classes, "
                f"and fewer than the {self.most:,} in the answer; give numbers from {classes} to "
                f"{self.most - classes}"
            )
        return usable

    def all(self) -> tuple[Tensor, Tensor]:
        """Images and labels of the largest class-balanced set."""
        return self._taken(self.per_class, 0)

    def drawn(self, size: int, draw: int) -> tuple[Tensor, Tensor]:
        """Images and labels of a sample."""
        begin = draw * self.per_class // self._draws
        return self._taken(size // self._data.num_classes, begin)

    def _taken(self, count: int, begin: int) -> tuple[Tensor, Tensor]:
        places = (begin + torch.arange(count)) % self.per_class
        chosen = torch.stack([order[places] for order in self._order]).T.flatten()
        chosen = chosen.to(self._data.device)
        return normalise(self._data.train_images[chosen]), self._data.train_labels[chosen]


def _doubling(most: int) -> Iterator[int]:
    size = SMALLEST
    while size < most:
        yield size
        size *= 2


def _checked_images(spec: RunSpec, how: SampleSizes, root: Path | None, device: str) -> ImageData:
    check_rebuildable(spec, "measure it on samples of several sizes with pruneviz.measure")
    if spec.bn == "batch":
        raise MeasureError(
            f"{spec.run} was measured with bn='batch': its answer depends on the size of a batch, "
            "and there is none on all images; give a run with bn 'eval' or 'calibrated'"
        )
    return images_of(spec, root, device, whole=how.whole)


def _load_weights(network: nn.Module, run: Path, epoch: int | None) -> int:
    """Load the weights of an epoch; returns the epoch."""
    kept = kept_epochs(run)
    if not kept:
        at = load_network(network, run / CHECKPOINTS)
        if at is None:
            raise LogError(
                f"{run} has no kept weights and no checkpoint; record it with "
                "pruneviz record --keep-weights"
            )
        if epoch not in (None, -1, at):
            raise LogError(f"{run} has a checkpoint of epoch {at}, not of epoch {epoch}")
        return at
    at = kept[-1] if epoch in (None, -1) else int(epoch or 0)
    load_kept_weights(network, run, at)
    return at


def _needed(measures: Sequence[AnyMeasure], spec: RunSpec) -> tuple[list[str], tuple[float, ...]]:
    """Columns of these measures, and the temperatures of those columns."""
    first, *further = spec.temperatures
    by_column = {schema.temperature_column(t): t for t in further}
    known = (*schema.MEASURED_OF_UNIT["filter"], *by_column)
    needed = dict.fromkeys(name for what in measures for name in quantity(what, known).needs or ())
    unknown = [name for name in needed if name not in known]
    if unknown:
        raise MeasureError(
            f"{', '.join(unknown)} cannot be measured on a sample at these temperatures "
            f"{spec.temperatures}; name measures of {', '.join(known)}"
        )
    return list(needed), (first, *(t for name, t in by_column.items() if name in needed))


def _row(
    table: pd.DataFrame,
    whole: pd.DataFrame,
    what: AnyMeasure,
    ratio: float,
    images: int,
    draw: int,
) -> dict[str, Any]:
    name = quantity(what, list(table.columns)).name
    return {"measure": name, "images": images, "draw": draw, **agreement(table, whole, what, ratio)}
