"""What every benchmark shares: a result, timing, peak memory, the description of the machine, and results as JSON and in a terminal."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One measured figure of a benchmark.

    `part` groups the figures (measuring, memory, training, recording, drawing, analysis); `goal` is what was aimed at, such as "<= 20",
    empty where nothing was; `met` is None where there is no goal; `samples` are all timed values, of which `value` is the median. A `value`
    of NaN was not measured, and `note` says why.
    """

    part: str
    what: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None
    samples: tuple[float, ...] = ()
    note: str = ""


def at_most(
    part: str,
    what: str,
    samples: Sequence[float],
    unit: str,
    goal: float | None = None,
    note: str = "",
) -> Result:
    """The median of the samples, which should not be above the goal."""
    value = statistics.median(samples)
    told = "" if goal is None else f"<= {goal:g}"
    return Result(
        part, what, value, unit, told, None if goal is None else value <= goal, tuple(samples), note
    )


def at_least(
    part: str,
    what: str,
    samples: Sequence[float],
    unit: str,
    goal: float | None = None,
    note: str = "",
) -> Result:
    """The median of the samples, which should not be below the goal."""
    value = statistics.median(samples)
    told = "" if goal is None else f">= {goal:g}"
    return Result(
        part, what, value, unit, told, None if goal is None else value >= goal, tuple(samples), note
    )


def not_measured(part: str, what: str, unit: str, why: str, goal: str = "") -> Result:
    """A figure that could not be measured here."""
    return Result(part, what, math.nan, unit, goal, None, (), f"not measured: {why}")


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes, with all that it has handed to a GPU."""
    _finish_device_work()
    began = time.perf_counter()
    run()
    _finish_device_work()
    return time.perf_counter() - began


def _finish_device_work() -> None:
    torch = sys.modules.get("torch")  # a benchmark that never loads torch waits for no GPU
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def side_by_side(
    runs: Sequence[Callable[[], object]], times: int, *, warm_up: bool = True
) -> list[list[float]]:
    """Times of several calls that take turns, so that what else the machine does strikes all alike; each is called once to warm up."""
    for run in runs if warm_up else ():
        run()
    rounds = [[seconds(run) for run in runs] for _ in range(times)]
    return [list(times) for times in zip(*rounds, strict=True)]


def peak_bytes() -> int:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on."""
    facts: dict[str, str | int | float] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "gpu": _gpu(),
    }
    return facts | {
        name: version(name)
        for name in ("torch", "torchvision", "numpy", "pandas", "pyarrow", "matplotlib")
    }


def write_results(results: Sequence[Result], path: Path) -> None:
    """The results as a JSON list."""
    path.write_text(
        json.dumps(list(map(row_of, results)), indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )


def row_of(result: Result) -> dict[str, Any]:
    """A result for JSON, which has no NaN: a value that was not measured is null."""
    return asdict(result) | ({"value": None} if math.isnan(result.value) else {})


def result_from(row: dict[str, Any]) -> Result:
    """A result as it was before it was written to JSON."""
    return Result(
        **row
        | {
            "value": math.nan if row["value"] is None else row["value"],
            "samples": tuple(row["samples"]),
        }
    )


def line(result: Result) -> str:
    """A result for the terminal."""
    told = "not measured" if math.isnan(result.value) else f"{result.value:.4g} {result.unit}"
    goal = {
        None: "",
        True: f"   goal {result.goal}: met",
        False: f"   goal {result.goal}: NOT met",
    }[result.met]
    return f"{result.part:10} {result.what:75} {told:>18}{goal}" + (
        f"\n{'':11}{result.note}" if result.note else ""
    )


def command(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark module has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see within seconds that it works"
    )
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser


def finish(results: Iterable[Result], path: Path | None) -> None:
    """Print every result as it comes and, with a path, write them all."""
    found = []
    for result in results:
        print(line(result), flush=True)
        found.append(result)
    if path:
        write_results(found, path)


def _processor() -> str:
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
