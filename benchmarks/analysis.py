"""Analysis at scale: 100 million filter rows on disk, in bounded memory, and in time that grows as the rows.

Run directories made up on disk are analysed, and so is a quarter of them. Every call runs in a process of its own, so that its peak memory
is its own; whole and quarter take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import pruneviz as pv
from benchmarks.common import Result, at_most, peak_bytes
from pruneviz.log import schema
from pruneviz.log.run_directory import RunLog
from pruneviz.log.scan import Scan

LAYERS, FILTERS, EPOCHS = 20, 200, 250  # a run has a million rows
ROWS = LAYERS * FILTERS * EPOCHS
BYTES_A_ROW = 40  # on disk: four columns of float32 that hardly compress, the keys, and the scores that one case writes
MEASURED = ("theta_norm2", "sigma", "theta_g", "theta_hg")

CASES: Mapping[str, Callable[[Scan, Path], object]] = {
    "correlate, pearson by run and epoch": lambda filters, out: pv.correlate(
        filters, "theta_g", "theta_hg"
    ),
    "correlate, spearman by run and epoch": lambda filters, out: pv.correlate(
        filters, "theta_g", "theta_hg", method="spearman"
    ),
    "correlate, pearson by layer over all runs": lambda filters, out: pv.correlate(
        filters, "theta_g", "theta_hg", by=["layer"]
    ),
    "correlate, spearman by layer over all runs": lambda filters, out: pv.correlate(
        filters, "theta_g", "theta_hg", by=["layer"], method="spearman"
    ),
    "score, magnitude": lambda filters, out: pv.score(
        filters, "magnitude", out / "magnitude.parquet"
    ),
    "mask_distance, bn_scale": lambda filters, out: pv.mask_distance(filters),
}


def results(quick: bool) -> list[Result]:
    """Seconds, peak memory and growth of every case: of 100 million rows, or with `quick` of one million in runs a tenth as long."""
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
    goal = 1.25 if rows >= 1e8 else None  # of few rows the time is mostly what a call costs
    found = [(_in_own_process(case, quarter), _in_own_process(case, whole)) for _ in range(times)]
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
    ]


def make_sets(folder: Path, runs: int, epochs: int) -> tuple[Path, Path]:
    """Write run directories below a folder; returns that of all, and one of the first quarter of them, which takes no room of its own."""
    whole, quarter = folder / "whole", folder / "quarter"
    for seed in range(runs):
        run = f"made-s{seed}"
        _make_run(whole / run, epochs, seed)
        if seed < runs // 4:
            shutil.copytree(whole / run, quarter / run, copy_function=os.link)
    return whole, quarter


def _make_run(path: Path, epochs: int, seed: int) -> None:
    """A finished run, whose filters table is then put in place of the empty one."""
    log = RunLog.create(
        path,
        pv.RunSpec(run=path.name, network="made", dataset="made", seed=seed, epochs=epochs - 1),
    )
    log.append(0, epochs=pd.DataFrame({"epoch": range(epochs)}))
    log.seal()
    options = {
        "compression": "zstd",
        "use_dictionary": ["run", "layer"],
        "use_byte_stream_split": list(MEASURED),
    }
    pq.write_table(
        _filters(path.name, epochs, seed),
        path / "filters.parquet",
        write_page_checksum=True,
        **options,
    )


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
        raise SystemExit(
            f"{folder} has {free / 1e9:.1f} GB free, {rows * BYTES_A_ROW / 1e9:.1f} GB are needed; set TMPDIR to another"
        )


def _in_own_process(case: str, path: Path) -> dict[str, float]:
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.analysis", "--one", case, str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(shown.stdout)
    return found


def _one(case: str, path: str) -> dict[str, float]:
    assert (
        pv.correlate and pv.score and pv.mask_distance
    )  # names load on first use: what they import is no part of the time
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as out:
        began, worked = time.perf_counter(), time.process_time()
        CASES[case](pv.scan(path), Path(out))
        spent = {
            "seconds": time.perf_counter() - began,
            "processor_s": time.process_time() - worked,
        }
        return {**spent, "peak_gb": peak_bytes() / 1e9}


def main() -> None:
    """Print every figure, and with --json write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a million rows, to see that it works")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument(
        "--one",
        nargs=2,
        metavar=("CASE", "FOLDER"),
        help="one case on run directories that exist, as JSON",
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
