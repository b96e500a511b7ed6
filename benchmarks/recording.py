"""Cost of recording a run of 160 epochs that is measured at every tenth epoch.

    per cent = 100 (17 measured epochs + 144 cheap epochs) / (160 epochs of training and evaluation)

The three are timed separately, in turns. On a CPU fewer images are used; times of training,
evaluation and measuring are scaled linearly by the number of images. Cheap epochs do not depend on
it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import Result, at_most, command, finish, not_measured, side_by_side
from benchmarks.subjects import available_images
from pruneviz import Recorder
from pruneviz.experiment.images import ImageData, balanced_sample
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.training import evaluate, first_step, start, train_epoch
from pruneviz.plans.run_plan import RunPlan

NETWORKS = ("resnet56", "vgg13", "mobilenet_v1")
PART, EPOCHS, MEASURED = "recording", 160, 17
TRAINED, TESTED, SAMPLE = 50_000, 10_000, 2_560  # images of such a run
GOAL_PER_CENT, GOAL_IDLE = 2.0, 1.0


@dataclass
class Run:
    """Parts of a recorded run, to be timed: training, evaluation, a cheap and a measured epoch."""

    network: str
    data: ImageData
    sample: tuple[Tensor, Tensor]
    width: float
    folder: Path
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        plan = RunPlan("benchmark", "benchmark", self.network, self.data.name, 0)
        torch.manual_seed(0)
        network = build_network(
            self.network, num_classes=self.data.num_classes, width=self.width
        ).to(self.data.device)
        self._state, self._batch = start(network, plan), plan.batch_size
        self._step = first_step(self._state, self.data, plan)
        self._write: Callable[[], None] | None = None
        self._is_due = False
        self.recorder = Recorder(
            network, self.sample, self.folder / self.network, every=lambda epoch: self._is_due
        )

    def train(self) -> None:
        """Train for one epoch."""
        train_epoch(self._state, self._step, self._batch)

    def evaluate(self) -> None:
        """Evaluate after an epoch."""
        precision = "tf32" if self.data.device.type == "cuda" else "fp32"
        evaluate(self._state.network, self.data, precision=precision)

    def observe(self) -> None:
        """Record a cheap epoch, up to the point where training may continue."""
        self._write = self.recorder.observe(self._next(due=False), test_acc=0.5)

    def write(self) -> None:
        """Write that epoch; on a GPU, training continues meanwhile."""
        assert self._write
        self._write()

    def measure(self) -> None:
        """Record a measured epoch."""
        self.recorder.after_epoch(self._next(due=True), test_acc=0.5)

    def _next(self, due: bool) -> int:
        self.epoch, self._is_due = self.epoch + 1, due
        return self.epoch


def results(quick: bool) -> Iterator[Result]:
    """Results of all networks; on a CPU with one thread, as in recordings."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            yield from of_network(network, Path(folder), quick)


def of_network(network: str, folder: Path, quick: bool) -> list[Result]:
    """Cost of recording a run of one network."""
    gpu = torch.cuda.is_available()
    full_size = (TRAINED, TESTED, 25) if gpu else (256, 256, 1)
    train, test, per_class = (64, 32, 1) if quick else full_size
    whole = available_images().to("cuda" if gpu else "cpu")
    data = part_of(whole, train, test)
    run = Run(network, data, balanced_sample(whole, per_class), 0.125 if quick else 1.0, folder)
    parts = [run.train, run.evaluate, run.observe, run.write, run.measure]
    trained, evaluated, observed, written, measured = side_by_side(parts, times=1 if quick else 3)
    counts = [len(data.train_labels), len(data.test_labels), len(run.sample[1])]
    images = "{:,} training, {:,} test and {:,} measured images".format(*counts)
    note = f"timed with {images} of {data.name}"
    per_train, per_test = TRAINED / counts[0], TESTED / counts[1]
    epochs = [per_train * t + per_test * e for t, e in zip(trained, evaluated, strict=True)]
    snapshots = [SAMPLE / counts[2] * m for m in measured]
    cheap = [o + (0 if gpu else w) for o, w in zip(observed, written, strict=True)]
    return [
        at_most(PART, f"{network}: an epoch of training and evaluation", epochs, "s", note=note),
        at_most(PART, f"{network}: a measured epoch's recording", snapshots, "s"),
        at_most(
            PART,
            f"{network}: recording 160 epochs",
            per_cents(epochs, snapshots, cheap),
            "% longer",
            None if quick else GOAL_PER_CENT,
        ),
        at_most(
            PART,
            f"{network}: recording all but the measured epochs",
            per_cents(epochs, [0.0] * len(epochs), cheap),
            "% longer",
        ),
        at_most(
            PART,
            f"{network}: observing a cheap epoch",
            [1e3 * o for o in observed],
            "ms",
            note="what training waits for on a GPU",
        ),
        at_most(
            PART,
            f"{network}: writing a cheap epoch",
            [1e3 * w for w in written],
            "ms",
            note="on a GPU done while it trains on",
        ),
        idle(network, observed)
        if gpu
        else not_measured(
            PART, f"{network}: GPU idle at a cheap epoch", "ms", "needs a GPU", f"<= {GOAL_IDLE:g}"
        ),
    ]


def per_cents(epochs: list[float], snapshots: list[float], cheap: list[float]) -> list[float]:
    """How much longer the run takes, by the formula above."""
    parts = zip(epochs, snapshots, cheap, strict=True)
    return [
        100 * (MEASURED * snapshot + (EPOCHS + 1 - MEASURED) * least) / (EPOCHS * epoch)
        for epoch, snapshot, least in parts
    ]


def idle(network: str, observed: list[float]) -> Result:
    """How long the GPU waits: at most the time of observing, during part of which it works."""
    return at_most(
        PART,
        f"{network}: GPU idle at a cheap epoch",
        [1e3 * o for o in observed],
        "ms",
        GOAL_IDLE,
        "at most, the work included",
    )


def part_of(data: ImageData, train: int, test: int) -> ImageData:
    """The first images of a data set."""
    return replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        test_images=data.test_images[:test],
        test_labels=data.test_labels[:test],
    )


def main() -> None:
    """Time everything and print it; with --json also write it."""
    given = command(__doc__ or "").parse_args()
    finish(results(given.quick), given.json)


if __name__ == "__main__":
    main()
