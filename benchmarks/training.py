"""Training speed beside a plain DataLoader loop, on the same network, in turns.

The plain loop is that of common CIFAR examples: images in memory, torchvision transforms (random
crop, flip, to tensor, normalise) in two worker processes, SGD, and the loss read after every step.
Workers persist between epochs; with few images, starting them would count more than in a whole
epoch. On a GPU also: seconds per epoch, and throughput of several runs on one GPU.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.synchronize import Barrier

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.common import Result, at_least, at_most, command, finish, not_measured, side_by_side
from benchmarks.subjects import available_images
from pruneviz.experiment.images import ImageData
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.training import first_step, start, train_epoch
from pruneviz.log.vocabulary import Precision
from pruneviz.plans.run_plan import RunPlan

# Seconds per epoch of 50,000 images on one H200.
GOALS = {"resnet56": 1.5, "vgg13": 1.0, "mobilenet_v1": 1.5}
RATIO, PART, WORKERS = 8.0, "training", 2
IMAGES_ON_CPU, QUICK_IMAGES = 512, 128
TRAINED = 50_000  # images of an epoch
PLAIN_ON_GPU = 6_400  # images for the plain loop and runs side by side; an epoch takes too long


class InMemory(Dataset[tuple[Tensor, int]]):
    """Images in host memory, transformed one at a time as in torchvision's data sets."""

    def __init__(self, data: ImageData) -> None:
        self._pixels = data.train_images.permute(0, 2, 3, 1).cpu().numpy()
        self._labels = data.train_labels.tolist()
        steps = [
            transforms.RandomCrop(self._pixels.shape[1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
        self._transform = transforms.Compose([*steps, transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[position])), self._labels[position]


def plain_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, int]],
    device: torch.device,
) -> float:
    """Train one epoch as common examples do; returns the mean loss."""
    network.train()
    total = 0.0
    for images, labels in loader:
        x, y = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)  # type: ignore[arg-type]


def results(quick: bool) -> Iterator[Result]:
    """Results of all networks; on a CPU with one thread, as in recordings."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for network in GOALS:
        yield from of_network(network, device, quick)
    yield in_bf16("resnet56", device, quick)
    for jobs in (1, 2, 4):
        yield of_jobs(jobs, device, quick)


def of_network(network: str, device: torch.device, quick: bool) -> list[Result]:
    """Images per second of both loops, their ratio, and on a GPU the seconds per epoch."""
    data, gpu = part_of(available_images(), device, quick), device.type == "cuda"
    few = first_images(data, PLAIN_ON_GPU) if gpu else data
    images, whole = len(data.train_labels), gpu and not quick
    loops = [OurLoop(network, data, quick), PlainLoop(network, few, quick)]
    ours, plain = side_by_side(loops, times=1 if quick else 3)
    rate, plain_rate = [images / s for s in ours], [len(few.train_labels) / s for s in plain]
    note = f"{images:,} images of {data.name}, batch 128, {'tf32' if gpu else 'fp32'}"
    plain_note = f"{len(few.train_labels):,} images, {WORKERS} workers"
    found = [
        at_least(PART, f"{network}: this loop", rate, "images/s", note=note),
        at_least(
            PART, f"{network}: plain DataLoader loop", plain_rate, "images/s", note=plain_note
        ),
        at_least(
            PART,
            f"{network}: this loop against the plain one",
            ratios(rate, plain_rate),
            "times as fast",
            RATIO if whole else None,
        ),
    ]
    what, goal = f"{network}: an epoch of {images:,} images", GOALS[network]
    if not gpu:
        return [*found, not_measured(PART, what, "s", "needs a GPU", f"<= {goal:g}")]
    return [*found, at_most(PART, what, ours, "s", goal if whole else None)]


def in_bf16(network: str, device: torch.device, quick: bool) -> Result:
    """Seconds per epoch on a GPU in the fastest precision."""
    what = f"{network}: an epoch of {TRAINED:,} images in bf16"
    if device.type != "cuda":
        return not_measured(PART, what, "s", "needs a GPU")
    data = part_of(available_images(), device, quick)
    (spent,) = side_by_side([OurLoop(network, data, quick, "bf16")], times=1 if quick else 3)
    return at_most(PART, what, [TRAINED / len(data.train_labels) * s for s in spent], "s")


def ratios(rates: list[float], others: list[float]) -> list[float]:
    """Ratios, pair by pair."""
    return [rate / other for rate, other in zip(rates, others, strict=True)]


def part_of(data: ImageData, device: torch.device, quick: bool) -> ImageData:
    """The training images that there is time for."""
    full_size = len(data.train_labels) if device.type == "cuda" else IMAGES_ON_CPU
    return first_images(data, QUICK_IMAGES if quick else full_size).to(device)


def first_images(data: ImageData, count: int) -> ImageData:
    """The data set with its first `count` training images."""
    return replace(
        data, train_images=data.train_images[:count], train_labels=data.train_labels[:count]
    )


class OurLoop:
    """The reference loop; each call trains the next epoch."""

    def __init__(
        self, network: str, data: ImageData, quick: bool, precision: Precision | None = None
    ) -> None:
        plan = RunPlan(
            "benchmark",
            "benchmark",
            network,
            data.name,
            0,
            train_temperature=1.0,
            precision=precision,
        )
        self._state, self._batch = start(built(network, data, quick), plan), plan.batch_size
        self._step = first_step(self._state, data, plan)

    def __call__(self) -> None:
        train_epoch(self._state, self._step, self._batch)


class PlainLoop:
    """The plain loop; each call trains the next epoch."""

    def __init__(self, network: str, data: ImageData, quick: bool) -> None:
        self._network, self._device = built(network, data, quick), data.device
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4
        )
        gpu = data.device.type == "cuda"
        self._loader = DataLoader(
            InMemory(data),
            batch_size=128,
            shuffle=True,
            num_workers=WORKERS,
            pin_memory=gpu,
            persistent_workers=True,
        )

    def __call__(self) -> None:
        plain_epoch(self._network, self._optimizer, self._loader, self._device)


def built(network: str, data: ImageData, quick: bool) -> nn.Module:
    """The network at full width, or narrow if quick."""
    torch.manual_seed(0)
    width = 0.125 if quick else 1.0
    return build_network(network, num_classes=data.num_classes, width=width).to(data.device)


def of_jobs(jobs: int, device: torch.device, quick: bool) -> Result:
    """Images per second of several runs of ResNet-56 on one GPU, each in its own process."""
    what = f"resnet56: {jobs} run{'s' * (jobs > 1)} on one GPU together"
    if device.type != "cuda":
        return not_measured(
            PART, what, "images/s", "needs a GPU; on a CPU each run has a core of its own"
        )
    spawn = multiprocessing.get_context("spawn")
    ready, spans = spawn.Barrier(jobs), spawn.SimpleQueue()
    processes = [spawn.Process(target=timed_run, args=(ready, spans, quick)) for _ in range(jobs)]
    for process in processes:
        process.start()
    measured = [spans.get() for _ in processes]
    for process in processes:
        process.join()
    images = sum(count for count, _ in measured)
    spent = statistics.median(seconds for _, seconds in measured)
    return at_least(PART, what, [images / spent], "images/s")


def timed_run(
    ready: Barrier, spans: multiprocessing.SimpleQueue[tuple[int, float]], quick: bool
) -> None:
    """Time three short epochs, started when all runs are ready; sends images and seconds."""
    device = torch.device("cuda")
    data = first_images(part_of(available_images(), device, quick), PLAIN_ON_GPU)
    epoch = OurLoop("resnet56", data, quick)
    epoch()
    ready.wait()
    began = time.perf_counter()
    for _ in range(3):
        epoch()
    spans.put((3 * len(data.train_labels), time.perf_counter() - began))


def main() -> None:
    """Time everything and print it; with --json also write it."""
    given = command(__doc__ or "").parse_args()
    finish(results(given.quick), given.json)


if __name__ == "__main__":
    main()
