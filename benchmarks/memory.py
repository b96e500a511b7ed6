"""Memory of a snapshot of ResNet-56: `python -m benchmarks.memory`.

Each case runs in its own process and has its own peak: the resident set of the process on a CPU,
torch's allocation on a GPU. The images are noise of CIFAR's size; reading a data set would add to
the memory.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import pruneviz as pv
from benchmarks.common import Result, at_most, command, finish, peak_bytes, seconds
from pruneviz.experiment.networks.registry import build_network

PART = "memory"
NETWORK, CLASSES = "resnet56", 100
MB, GB = 1e6, 1e9
PEAK_GOAL = 4.0  # GB on a CPU
GROWTH_GOAL = 20.0  # MB from an early to a late snapshot
BOUND_GOAL = 1.15  # peak with twice the images and the same chunk, relative to once
CHUNKS = (16, 32, 64)
PASS_SIZE = 64
Answer = dict[str, Any]


def results(quick: bool) -> list[Result]:
    """Peak of a large snapshot, growth over many snapshots, peak by chunk."""
    return list(figures(quick))


def figures(quick: bool) -> Iterator[Result]:
    """The same results, as they arrive."""
    yield from large_snapshot(quick)
    yield growth_over_snapshots(quick)
    yield from peaks_by_chunk(quick)


def large_snapshot(quick: bool) -> list[Result]:
    """Peak memory and time in passes of a snapshot of 2,560 images."""
    got = in_a_process("large", quick, images=50 if quick else 2560)
    note = f"{got['images']:,} images, chunk chosen automatically"
    on_cpu = got["device"] == "cpu"
    return [
        at_most(
            PART,
            f"{NETWORK}: peak memory of a whole snapshot",
            [got["peak"] / GB],
            "GB",
            PEAK_GOAL if on_cpu else None,
            note,
        ),
        at_most(
            PART,
            f"{NETWORK}: of it, above the forward pass at {PASS_SIZE} images",
            [got["grown"] / GB],
            "GB",
            note=note,
        ),
        at_most(
            PART,
            f"{NETWORK}: time of this snapshot, once",
            [got["passes"]],
            "passes",
            note=f"{note}; a pass at {PASS_SIZE} images",
        ),
    ]


def growth_over_snapshots(quick: bool) -> Result:
    """Memory held after the last of many snapshots, minus that after an early one."""
    early, late = (1, 3) if quick else (5, 50)
    got = in_a_process("growth", quick, images=25, early=early, late=late)
    what = f"{NETWORK}: growth of memory from snapshot {early} to snapshot {late}"
    return at_most(
        PART,
        what,
        [got["grown"] / MB],
        "MB",
        GROWTH_GOAL,
        f"{got['images']} images; garbage collected before both readings",
    )


def peaks_by_chunk(quick: bool) -> Iterator[Result]:
    """Peak above the forward pass at several chunks, and its ratio for twice the images."""
    for chunk in CHUNKS[:1] if quick else CHUNKS:
        once, twice = (
            in_a_process("chunk", quick, images=images, chunk=chunk)
            for images in ((50, 100) if quick else (250, 500))
        )
        what = f"{NETWORK}: memory above the forward pass, chunk {chunk}"
        yield at_most(PART, what, [once["grown"] / MB], "MB", note=f"{once['images']} images")
        more = [twice["grown"] / once["grown"]]
        yield at_most(
            PART,
            f"{what}, twice the images / once",
            more,
            "times",
            BOUND_GOAL,
            f"{twice['images']} images",
        )


def in_a_process(case: str, quick: bool, **sizes: int) -> Answer:
    """Run a case in a new process."""
    options = ["--case", case, "--sizes", json.dumps(sizes), *(["--quick"] if quick else [])]
    command = [sys.executable, "-m", "benchmarks.memory", *options]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: Answer = json.loads(ended.stdout)
    return answer


def case(quick: bool, images: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, images and labels."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = build_network(NETWORK, num_classes=CLASSES, width=0.125 if quick else 1.0).to(device)
    pixels = torch.randn(images, 3, 32, 32).to(device)
    update_bn([pixels[:PASS_SIZE]], model)
    return model.eval(), pixels, (torch.arange(images) % CLASSES).to(device)


def peak_of_snapshot(quick: bool, images: int, chunk: int | None = None) -> Answer:
    """Peak, growth over the forward pass, and time in passes."""
    model, pixels, labels = case(quick, images)
    one_pass = min(seconds(lambda: forward(model, pixels)) for _ in range(2))
    before = peak(pixels)
    whole = seconds(lambda: pv.measure(model, (pixels, labels), chunk=chunk))
    after = peak(pixels)
    return {
        "images": images,
        "device": pixels.device.type,
        "peak": after,
        "grown": after - before,
        "passes": whole / one_pass,
    }


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> None:
    """The forward pass over the sample."""
    for part in images.split(PASS_SIZE):
        model(part)


def held_after_snapshots(quick: bool, images: int, early: int, late: int) -> Answer:
    """Growth of the memory held between an early and a late snapshot."""
    model, pixels, labels = case(quick, images)
    held = []
    for _ in range(late):
        pv.measure(model, (pixels, labels))
        gc.collect()
        held.append(now(pixels))
    return {"images": images, "grown": held[late - 1] - held[early - 1]}


def peak(images: Tensor) -> int:
    """Peak memory so far on the device of the images, in bytes."""
    return torch.cuda.max_memory_allocated() if images.is_cuda else peak_bytes()


def now(images: Tensor) -> int:
    """Memory held now on the device of the images, in bytes."""
    if images.is_cuda:
        return torch.cuda.memory_allocated()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


CASES: dict[str, Callable[..., Answer]] = {
    "large": peak_of_snapshot,
    "chunk": peak_of_snapshot,
    "growth": held_after_snapshots,
}


def main() -> None:
    """Measure everything, or with --case one case and print its answer as JSON."""
    parser = command(__doc__ or "")
    parser.add_argument("--case", choices=list(CASES), help="Run only this case and print JSON.")
    parser.add_argument("--sizes", type=json.loads, default={}, help="Sizes of the case, as JSON.")
    given = parser.parse_args()
    if given.case:
        print(json.dumps(CASES[given.case](given.quick, **given.sizes)))
        return
    finish(figures(given.quick), given.json)


if __name__ == "__main__":
    main()
