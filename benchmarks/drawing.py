"""Cost of drawing: all 17 figures at the scale of the paper, `--help`, and `import pruneviz`.

Each call is its own process, timed from start to end, with its own peak memory.

    python -m benchmarks.drawing [--quick] [--json FILE] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Result, at_most

ROOT = Path(__file__).resolve().parents[1]
FIGURES = tuple(map(str, range(1, 18)))


@dataclass(frozen=True)
class Spent:
    """Cost of a process: wall clock and processor time in seconds, peak memory in MB."""

    wall: float
    processor: float
    peak: float


def spent(command: Sequence[str]) -> Spent:
    """Run a Python process to its end.

    Raises:
        CalledProcessError: If the process fails.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    # wait4 has the resource usage of this process alone, so Popen must be told of its end.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def draw_all(data: Path, times: int) -> list[Spent]:
    """Draw all figures, each time into a new folder."""
    one = ("--jobs", "1")  # so that time and memory are those of this process
    command = ["-m", "pruneviz.figures", *FIGURES, *one, "--data", str(data), "--out"]
    found = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as out:
            found.append(spent([*command, out]))
    return found


def results(quick: bool, data: Path | None = None) -> list[Result]:
    """Results of this benchmark; without `data`, recordings are made in a temporary folder."""
    if data is None:
        with tempfile.TemporaryDirectory() as folder:
            # In its own process: it loads torch, and a child's peak is at least its parent's size.
            spent(["-m", "benchmarks.paper_scale", folder, *(["--quick"] if quick else [])])
            return results(quick, Path(folder))
    times = 1 if quick else 5
    drawn = draw_all(data, times)
    answers = [spent(["-m", "pruneviz.figures", "--help"]) for _ in range(times)]
    imports = [spent(["-c", "import pruneviz"]) for _ in range(times)]
    scale = (
        "embedded-scale recordings"
        if quick
        else "paper-scale recordings (63 runs of 160 epochs, 36 of rounds alone)"
    )
    processor = (
        f"one process; {min(run.processor for run in drawn):.1f} s of processor time at best"
    )
    return [
        at_most(
            "drawing",
            f"all 17 figures from {scale}",
            [run.wall for run in drawn],
            "s",
            20,
            processor,
        ),
        at_most("drawing", "peak memory of that", [run.peak for run in drawn], "MB", 1000),
        at_most(
            "drawing", "python -m pruneviz.figures --help", [run.wall for run in answers], "s", 0.7
        ),
        at_most(
            "drawing",
            "import pruneviz, the start of Python included",
            [run.wall for run in imports],
            "s",
            0.3,
        ),
    ]


def main() -> None:
    """Print the results; with --json also write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="Small recordings, to check that it works."
    )
    parser.add_argument("--json", type=Path, help="File for the results.")
    parser.add_argument("--data", type=Path, help="Recordings made by benchmarks.paper_scale.")
    given = parser.parse_args()
    found = results(given.quick, given.data)
    for result in found:
        print(f"{result.what}: {result.value:.2f} {result.unit} (goal {result.goal}) {result.note}")
    if given.json:
        given.json.write_text(
            json.dumps([dataclasses.asdict(result) for result in found], indent=2) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
