"""What pruneviz does in a process with little memory: jobs under a ladder of limits.

Run as a process of its own, which does every job once with a few images, so that all modules are
loaded, and then under each limit in a copy of itself.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import pruneviz as pv
from tests.support.scarce_memory import in_a_limited_child

Pair = tuple[Tensor, Tensor]
Rung = tuple[str, str, int]  # job, limit, megabytes beyond what the process has


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


def images(number: int, size: int = 32) -> Pair:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(number, 3, size, size, generator=generator)
    return pixels, torch.randint(0, 10, (number,), generator=generator)


def record(sample: Pair) -> object:
    with tempfile.TemporaryDirectory() as folder:
        with pv.Recorder(network(), sample, Path(folder) / "run", every=1) as recorder:
            recorder.after_epoch(0)
        return pv.load(Path(folder) / "run").filters


def check(sample: Pair) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return pv.Recorder(network(), sample, Path(folder) / "run")


ON_REQUEST = ["theta2_g2", "fisher_block", "wanda", "obd"]
JOBS: dict[str, Callable[[Pair], object]] = {
    "measure": lambda sample: pv.measure(network(), sample),
    "check": check,
    "record": record,
    "delta_loss": lambda sample: pv.delta_loss(network(), sample, filters=4),
    "on request": lambda sample: pv.measure(network(), sample, columns=ON_REQUEST, probes=2),
    "calibrated": lambda sample: pv.measure(
        network(), list(zip(*(part.split(8) for part in sample), strict=True)), bn="calibrated"
    ),
    "too large": lambda sample: pv.measure(
        network(), images(1, 1024 if len(sample[0]) > 4 else 32), columns="theta_g"
    ),
}


class Halvings(logging.Handler):
    """Counts how often memory ran out."""

    number = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.number += "memory ran out" in record.getMessage()


def outcomes(rungs: Sequence[Rung], number: int) -> list[str]:
    """Run rungs in a new process.

    Args:
        rungs: What is done, and how much memory it may take.
        number: Number of images.

    Returns:
        For each rung "right in N halvings", or class and text of the error.
    """
    command = [sys.executable, "-m", "tests.support.limited_jobs", json.dumps([rungs, number])]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert not done.returncode, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def _main() -> None:
    torch.set_num_threads(1)
    rungs, number = json.loads(sys.argv[1])
    counting = Halvings()
    logging.getLogger("pruneviz").addHandler(counting)
    few, sample = images(4), images(number)
    for job in dict.fromkeys(job for job, _, _ in rungs):
        JOBS[job](few)

    def counted(job: str) -> str:
        JOBS[job](sample)
        return f"right in {counting.number} halvings"

    found = [
        in_a_limited_child(more, lambda job=job: counted(job), kind) for job, kind, more in rungs
    ]
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    _main()
