"""Run benchmark modules, each in its own process, and keep their results in a JSON file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.common import Result, result_from, row_of

Facts = dict[str, str | int | float]


@dataclass(frozen=True)
class Measured:
    """Results of one benchmark module, and their date."""

    module: str
    date: str
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Machine:
    """Results from one machine with one set of versions, by module."""

    facts: Facts
    modules: tuple[Measured, ...]

    def with_modules(self, fresh: Sequence[Measured]) -> Machine:
        """A copy in which these modules replace their previous results."""
        by_name = {measured.module: measured for measured in (*self.modules, *fresh)}
        return Machine(self.facts, tuple(by_name.values()))


def run_modules(modules: Sequence[str], options: Mapping[str, Sequence[str]]) -> list[Measured]:
    """Run benchmark modules one after the other; report and skip those that fail."""
    ran = [run_module(module, options.get(short_name(module), ())) for module in modules]
    return [found for found in ran if found is not None]


def short_name(module: str) -> str:
    """`benchmarks.memory` -> `memory`."""
    return module.rpartition(".")[2]


def run_module(module: str, options: Sequence[str] = ()) -> Measured | None:
    """Run a benchmark module, which prints its results; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        name = short_name(module)
        answer = Path(folder) / "results.json"
        began = time.perf_counter()
        print(f"== {name}", flush=True)
        status = subprocess.run(
            [sys.executable, "-m", module, "--json", str(answer), *options]
        ).returncode
        print(f"== {name} took {time.perf_counter() - began:.0f} s", flush=True)
        if status or not answer.is_file():
            print(
                f"== {name} FAILED with exit status {status}; its figures stay as they were",
                flush=True,
            )
            return None
        rows = json.loads(answer.read_text(encoding="utf-8"))
    return Measured(name, date.today().isoformat(), tuple(map(result_from, rows)))


def file_name(facts: Facts) -> str:
    """Name of a machine's JSON file: its GPU, or its processor and cores."""
    processor = f"{facts['processor']} {facts['cores']} cores"
    machine = processor if facts["gpu"] == "none" else str(facts["gpu"])
    return re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-") + ".json"


def read_machine(file: Path) -> Machine:
    """Read a machine's results."""
    data = json.loads(file.read_text(encoding="utf-8"))
    modules = [
        Measured(m["module"], m["date"], tuple(map(result_from, m["results"])))
        for m in data["modules"]
    ]
    return Machine(data["machine"], tuple(modules))


def write_machine(machine: Machine, file: Path) -> None:
    """Write a machine's results with all their samples."""
    modules = [
        {"module": m.module, "date": m.date, "results": [row_of(result) for result in m.results]}
        for m in machine.modules
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({"machine": machine.facts, "modules": modules}, indent=1, allow_nan=False)
        + "\n",
        encoding="utf-8",
    )


def updated(file: Path, facts: Facts, fresh: Sequence[Measured]) -> Machine:
    """The machine in the file, with fresh results.

    With other hardware or versions it starts empty, so that every result has its right facts.
    """
    known = read_machine(file) if file.is_file() else None
    before = known if known and known.facts == facts else Machine(facts, ())
    return before.with_modules(fresh)
