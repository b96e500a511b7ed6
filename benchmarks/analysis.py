"""Analysis of 100 million filter rows on disk: memory stays bounded, time grows linearly.

Synthetic run directories are analysed, and a quarter of them. Each call runs in its own process and
has its own peak memory; whole and quarter take turns. The same calls run with two worker processes,
for the cost of a row (processor time, bytes read) and the memory of a worker.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import pruneviz as pv
from benchmarks.common import Result, at_most, peak_bytes
from pruneviz.log import schema
from pruneviz.log.checksums import FileSum
from pruneviz.log.parquet import write_table
from pruneviz.log.run_directory import RunLog
from pruneviz.log.scan import Scan

LAYERS, FILTERS, EPOCHS = 20, 200, 250  # a run has a million rows
ROWS = LAYERS * FILTERS * EPOCHS
# On disk: four float32 columns that hardly compress, the keys, and the scores that one case writes.
BYTES_A_ROW = 40
PAIR = ("theta_g", "theta_hg")
WORKERS = 2

Case = Callable[[Scan, Path, Executor | None], object]
CASES: Mapping[str, Case] = {
    "correlate, pearson by run and epoch": lambda filters, out, executor: pv.correlate(
        filters, *PAIR, executor=executor
    ),
    "correlate, spearman by run and epoch": lambda filters, out, executor: pv.correlate(
        filters, *PAIR, method="spearman", executor=executor
    ),
    "correlate, pearson by epoch over all runs": lambda filters, out, executor: pv.correlate(
        filters, *PAIR, by=["epoch"], executor=executor
    ),
    "correlate, pearson by layer over all runs": lambda filters, out, executor: pv.correlate(
        filters, *PAIR, by=["layer"], executor=executor
    ),
    "correlate, spearman by layer over all runs": lambda filters, out, executor: pv.correlate(
        filters, *PAIR, by=["layer"], method="spearman", executor=executor
    ),
    "score, magnitude": lambda filters, out, executor: pv.score(
        filters, "magnitude", out / "magnitude.parquet", executor=executor
    ),
    "score, magnitude into a folder": lambda filters, out, executor: pv.score(
        filters, "magnitude", f"{out}/magnitude/", executor=executor
    ),
    "mask_distance, bn_scale": lambda filters, out, executor: pv.mask_distance(
        filters, executor=executor
    ),
}


def results(quick: bool) -> list[Result]:
    """Seconds, peak memory and growth of every case, on 100 million rows; if quick, 1 million."""
    runs, epochs, times = (16, EPOCHS // 16, 1) if quick else (100, EPOCHS, 2)
    with tempfile.TemporaryDirectory() as folder:
        _check_room(Path(folder), runs * epochs * LAYERS * FILTERS)
        whole, quarter = make_sets(Path(folder), runs, epochs)
        return [
            result
            for case in CASES
            for result in _results_of(case, whole, quarter, runs * epochs * LAYERS * FILTERS, times)
        ]


def _results_of(case: str, whole: Path, quarter: Path, rows: int, times: int) -> list[Result]:
    goal = 1.25 if rows >= 1e8 else None  # with few rows, the overhead of a call dominates
    found = [(_in_own_process(case, quarter), _in_own_process(case, whole)) for _ in range(times)]
    by_workers = [_in_own_process(case, whole, WORKERS) for _ in range(times)]
    spent = [large["seconds"] for _, large in found]
    peaks = [large["peak_gb"] for _, large in found]
    growth = [large["processor_s"] / (4 * small["processor_s"]) for small, large in found]
    said = f"{case}, {rows / 1e6:g} million rows"
    return [
        at_most("analysis", f"{said}: time", spent, "s"),
        at_most(
            "analysis",
            f"{said}: peak memory",
            peaks,
            "GB",
            2,
            note="of the process, with what it imports",
        ),
        at_most(
            "analysis",
            f"{said}: time over four times that of a quarter",
            growth,
            "",
            goal,
            note="in processor time",
        ),
        at_most(
            "analysis",
            f"{said}: processor time per row",
            [large["processor_s"] / rows * 1e9 for _, large in found],
            "ns",
            note="files are read twice: all bytes for the SHA-256, then columns",
        ),
        at_most(
            "analysis",
            f"{said}: read per row",
            [large["read_bytes"] / rows for _, large in found],
            "bytes",
        ),
        *_with_workers(said, by_workers, spent, rows),
    ]


def _with_workers(
    said: str, found: list[dict[str, float]], alone: list[float], rows: int
) -> list[Result]:
    ratios = [some["seconds"] / one for some, one in zip(found, alone, strict=True)]
    workers = f"{said}, {WORKERS} workers"
    return [
        at_most("analysis", f"{workers}: time over that of one process", ratios, ""),
        at_most(
            "analysis",
            f"{workers}: processor time per row",
            [some["processor_s"] / rows * 1e9 for some in found],
            "ns",
            note="of the workers and the process that asks",
        ),
        at_most(
            "analysis",
            f"{workers}: peak memory of a worker",
            [some["worker_gb"] for some in found],
            "GB",
            1,
            note="of the largest worker process, with what it imports",
        ),
    ]


def make_sets(folder: Path, runs: int, epochs: int) -> tuple[Path, Path]:
    """Write run directories; returns the folder of all, and one with hard links to a quarter."""
    whole, quarter = folder / "whole", folder / "quarter"
    for seed in range(runs):
        run = f"made-s{seed}"
        _make_run(whole / run, epochs, seed)
        if seed < runs // 4:
            shutil.copytree(whole / run, quarter / run, copy_function=os.link)
    return whole, quarter


def _make_run(path: Path, epochs: int, seed: int) -> None:
    """Write a finished run, then replace its empty filters table."""
    log = RunLog.create(path, pv.RunSpec(run=path.name, network="made", dataset="made", seed=seed))
    log.append(0, epochs=pd.DataFrame({"epoch": range(epochs)}))
    log.seal()
    write_table(path / "filters.parquet", _filters(path.name, epochs, seed))
    spec = json.loads((path / "spec.json").read_text(encoding="utf-8"))
    spec["facts_sha256"] = None  # the facts are edited here
    spec["table_files"]["filters"] = FileSum.of_file(path / "filters.parquet").to_facts()
    (path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")


def _filters(run: str, epochs: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    rows = epochs * LAYERS * FILTERS
    theta_g = random.standard_normal(rows, dtype="float32")
    columns = {
        "run": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype="int32")), [run]),
        "epoch": np.repeat(np.arange(epochs, dtype="int32"), LAYERS * FILTERS),
        "layer": pa.DictionaryArray.from_arrays(
            pa.array(np.tile(np.repeat(np.arange(LAYERS, dtype="int32"), FILTERS), epochs)),
            [f"features.{i}.conv" for i in range(LAYERS)],
        ),
        "filter": np.tile(np.arange(FILTERS, dtype="int32"), epochs * LAYERS),
        "kept": np.ones(rows, dtype=bool),
        "theta_norm2": random.random(rows, dtype="float32"),
        "sigma": random.standard_normal(rows, dtype="float32"),
        "theta_g": theta_g,
        "theta_hg": theta_g + random.standard_normal(rows, dtype="float32"),
    }
    wanted = schema.arrow_schema("filters", [])
    return pa.table(
        {field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in wanted},
        schema=wanted,
    )


def _check_room(folder: Path, rows: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < rows * BYTES_A_ROW:
        needed = rows * BYTES_A_ROW
        raise SystemExit(
            f"{folder} has {free / 1e9:.1f} GB free but {needed / 1e9:.1f} GB are needed; "
            "set TMPDIR to another folder"
        )


def _in_own_process(case: str, path: Path, workers: int = 0) -> dict[str, float]:
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.analysis", "--one", case, str(path), str(workers)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(shown.stdout)
    return found


def _one(case: str, path: str, workers: str) -> dict[str, float]:
    # Names load on first use; their imports are not part of the time.
    assert pv.correlate and pv.score and pv.mask_distance
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as out:
        began, worked, read = time.perf_counter(), time.process_time(), _bytes_read()
        with _executor(int(workers)) as executor:
            CASES[case](pv.scan(path), Path(out), executor)
        spent = {
            "seconds": time.perf_counter() - began,
            "processor_s": time.process_time() - worked,
            "read_bytes": _bytes_read() - read,
        }
        of_workers = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent["processor_s"] += of_workers.ru_utime + of_workers.ru_stime
        spent["worker_gb"] = of_workers.ru_maxrss * 1024 / 1e9
        return {**spent, "peak_gb": peak_bytes() / 1e9}


def _executor(workers: int) -> ProcessPoolExecutor | nullcontext[None]:
    if not workers:
        return nullcontext()
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _bytes_read() -> int:
    """Bytes that this process asked for so far; 0 where the system does not count them."""
    counts = Path("/proc/self/io")
    lines = counts.read_text(encoding="utf-8").splitlines() if counts.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def main() -> None:
    """Print all results; with --json also write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="One million rows, to check that it works."
    )
    parser.add_argument("--json", type=Path, help="File for the results.")
    parser.add_argument(
        "--one",
        nargs=3,
        metavar=("CASE", "FOLDER", "WORKERS"),
        help="Run one case on existing run directories and print JSON; 0 workers: in this process.",
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(*options.one)))
        return
    found = results(options.quick)
    for result in found:
        verdict = {
            None: "",
            True: f"(goal {result.goal}: met)",
            False: f"(goal {result.goal}: missed)",
        }[result.met]
        print(f"{result.what}: {result.value:.3g} {result.unit} {verdict}".rstrip())
    if options.json:
        options.json.write_text(
            json.dumps([dataclasses.asdict(result) for result in found], indent=2) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
