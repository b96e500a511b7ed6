"""A snapshot shared by two ranks, beside one process: `python -m benchmarks.ranks`.

Two processes with one thread each, over gloo. First rank 0 measures alone while the other waits,
then both together, in turns. The images are noise of CIFAR's size, in two batches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import pruneviz as pv
from benchmarks.common import Result, at_most, command, finish, not_measured, seconds
from pruneviz.experiment.networks.registry import build_network

PART = "ranks"
NETWORK, CLASSES, RANKS = "resnet56", 100, 2
GOAL = 0.7  # time with two ranks, relative to one


def results(quick: bool) -> list[Result]:
    """Time with two ranks, relative to one."""
    return list(figures(quick))


def figures(quick: bool) -> Iterator[Result]:
    """The same result, as it arrives."""
    what = f"{NETWORK}: time of a snapshot on two ranks / on one"
    if len(os.sched_getaffinity(0)) < RANKS:
        yield not_measured(PART, what, "times", "this machine has one core", f"<= {GOAL:g}")
        return
    images, rounds = (32, 1) if quick else (512, 5)
    with TemporaryDirectory() as folder:
        mp.spawn(measure_in_turns, (folder, images, rounds, quick), nprocs=RANKS)
        alone, shared = json.loads((Path(folder) / "times.json").read_text())
    ratios = [two / one for one, two in zip(alone, shared, strict=True)]
    note = f"{images} images, one thread for each rank, gloo; alone {min(alone):.3g} s"
    yield at_most(PART, what, ratios, "times", None if quick else GOAL, note)


def measure_in_turns(rank: int, folder: str, images: int, rounds: int, quick: bool) -> None:
    """What each rank does; rank 0 writes the durations of both ways."""
    torch.set_num_threads(1)
    where = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    model = build_network(NETWORK, num_classes=CLASSES, width=0.125 if quick else 1.0)
    pixels, labels = torch.randn(images, 3, 32, 32), torch.arange(images) % CLASSES
    sample = list(zip(pixels.chunk(2), labels.chunk(2), strict=True))
    alone, shared = [], []
    for _ in range(rounds + 1):
        if rank == 0:
            alone.append(seconds(lambda: pv.measure(model, sample)))
        dist.barrier()
        shared.append(seconds(lambda: pv.measure(model, sample, ranks="share")))
    if rank == 0:  # without the first round, which warms up
        (Path(folder) / "times.json").write_text(json.dumps([alone[1:], shared[1:]]))
    dist.destroy_process_group()


def main() -> None:
    """Print the result."""
    given = command(__doc__ or "").parse_args()
    finish(figures(given.quick), given.json)


if __name__ == "__main__":
    main()
