"""Shared by all benchmarks: results, timing, peak memory, facts of the machine, output."""

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
    """One measured value of a benchmark.

    Attributes:
        part: Group of the result: measuring, memory, ranks, training, recording, drawing or
            analysis.
        what: What was measured.
        value: Median of `samples`; NaN if it was not measured.
        unit: Unit of `value`.
        goal: Such as "<= 20"; empty if there is none.
        met: Whether the goal was met; None without a goal.
        samples: All measured values.
        note: Details, or why it was not measured.
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
    """Result with the median of the samples, which should not exceed the goal."""
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
    """Result with the median of the samples, which should reach the goal."""
    value = statistics.median(samples)
    told = "" if goal is None else f">= {goal:g}"
    return Result(
        part, what, value, unit, told, None if goal is None else value >= goal, tuple(samples), note
    )


def not_measured(part: str, what: str, unit: str, why: str, goal: str = "") -> Result:
    """Result for something that could not be measured here."""
    return Result(part, what, math.nan, unit, goal, None, (), f"not measured: {why}")


def seconds(run: Callable[[], object]) -> float:
    """Duration of one call in seconds, including its work on a GPU."""
    _finish_device_work()
    began = time.perf_counter()
    run()
    _finish_device_work()
    return time.perf_counter() - began


def _finish_device_work() -> None:
    torch = sys.modules.get("torch")  # without torch there is no GPU work to wait for
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def side_by_side(
    runs: Sequence[Callable[[], object]], times: int, *, warm_up: bool = True
) -> list[list[float]]:
    """Time several calls in turns, so that other load on the machine affects all of them alike.

    Args:
        runs: The calls.
        times: Number of rounds.
        warm_up: Call each once before timing.

    Returns:
        For each call its durations in seconds, one per round.
    """
    for run in runs if warm_up else ():
        run()
    rounds = [[seconds(run) for run in runs] for _ in range(times)]
    return [list(durations) for durations in zip(*rounds, strict=True)]


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine() -> dict[str, str | int | float]:
    """Facts of this machine: hardware and versions."""
    facts: dict[str, str | int | float] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "gpu": _gpu(),
    }
    packages = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "matplotlib")
    return facts | {name: version(name) for name in packages}


def write_results(results: Sequence[Result], path: Path) -> None:
    """Write the results as a JSON list."""
    path.write_text(
        json.dumps(list(map(row_of, results)), indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )


def row_of(result: Result) -> dict[str, Any]:
    """A result for JSON; a value that was not measured is null, since JSON has no NaN."""
    return asdict(result) | ({"value": None} if math.isnan(result.value) else {})


def result_from(row: dict[str, Any]) -> Result:
    """The result of a JSON row; the inverse of `row_of`."""
    value = math.nan if row["value"] is None else row["value"]
    return Result(**row | {"value": value, "samples": tuple(row["samples"])})


def line(result: Result) -> str:
    """A result as text for the terminal."""
    value = "not measured" if math.isnan(result.value) else f"{result.value:.4g} {result.unit}"
    goal = {
        None: "",
        True: f"   goal {result.goal}: met",
        False: f"   goal {result.goal}: NOT met",
    }[result.met]
    note = f"\n{'':11}{result.note}" if result.note else ""
    return f"{result.part:10} {result.what:75} {value:>18}{goal}{note}"


def command(description: str) -> argparse.ArgumentParser:
    """Parser with the options that every benchmark module has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="Small sizes, to check within seconds that it works."
    )
    parser.add_argument("--json", type=Path, help="Also write the results to this file.")
    return parser


def finish(results: Iterable[Result], path: Path | None) -> None:
    """Print each result as it arrives; with a path, also write them all."""
    found = []
    for result in results:
        print(line(result), flush=True)
        found.append(result)
    if path:
        write_results(found, path)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
