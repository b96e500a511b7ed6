"""Analysis of a scan by other processes: the bits of one process, whatever their number."""

from __future__ import annotations

import dataclasses
import multiprocessing
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from benchmarks import analysis
from pruneviz.analysis import pairs_on_disk
from pruneviz.errors import AnalysisError, LogError, ScoreError
from pruneviz.log.scan import Scan
from tests.support import own_measures, piece_work
from tests.support.edited_specs import forget_sums
from tests.support.synthetic_runs import make_runs, save_runs

PAIR = ("theta_g", "theta_hg")
EPOCHS = 140  # of a run of 560,000 rows, more than a block
WAYS: list[dict[str, Any]] = [
    {"by": ["run", "epoch"], "resamples": 9},
    {"by": ["epoch"], "interval": "layers", "resamples": 9},
    {"by": [], "interval": "hierarchical", "resamples": 9},
    {"by": ["layer", "run"], "method": "spearman", "interval": None},
    {"by": ["epoch"], "method": "symlog", "interval": "seeds"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two networks, in files of groups of 11 rows."""
    path = tmp_path_factory.mktemp("by-executor")
    save_runs(make_runs({"vgg13": (3, 5), "resnet56": (4, 2, 3)}, (0, 1), epochs=4, every=2), path)
    for run in path.iterdir():
        file = run / "filters.parquet"
        pq.write_table(pq.read_table(file), file, row_group_size=11)
        forget_sums(run)
    return path


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


def scanned(folder: Path, block_rows: int = 4) -> Scan:
    return dataclasses.replace(pv.scan(folder), block_rows=block_rows)


def check_bits(
    executor: Executor, folder: Path, out: Path, ways: list[dict[str, Any]], *measures: Any
) -> None:
    """Check that an executor gives the bits of one process, and one process those in memory."""
    loaded = pv.load(folder).filters
    one, many = scanned(folder), scanned(folder)
    assert len(list(many.sections())) >= 6
    for way in ways:
        expected = pv.correlate(one, *PAIR, **way)
        found = pv.correlate(many, *PAIR, **way, executor=executor)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
        in_memory = pv.correlate(loaded, *PAIR, **way)
        pd.testing.assert_frame_equal(found, in_memory, rtol=1e-12, atol=1e-14)
    masks = pv.mask_distance(many, executor=executor)
    pd.testing.assert_frame_equal(masks, pv.mask_distance(loaded), check_exact=True)
    keys = ["run", "epoch", "layer", "filter", "weight"]
    for name in measures:
        pv.score(one, name, out / "one.parquet")
        pv.score(many, name, f"{out}/many/", executor=executor)
        file = pv.score(many, name, out / "many.parquet", executor=executor)
        scores = pd.read_parquet(file)
        pd.testing.assert_frame_equal(scores, pd.read_parquet(out / "one.parquet"))
        pieces = sorted((out / "many").iterdir())
        assert len(pieces) == len(list(many.sections()))
        together = pd.concat(map(pd.read_parquet, pieces), ignore_index=True)
        pd.testing.assert_frame_equal(together, scores, check_categorical=False, check_dtype=False)
        pd.testing.assert_series_equal(scores.iloc[:, -1], pv.score(loaded, name))
        pd.testing.assert_frame_equal(scores[keys], loaded[keys], check_dtype=False)
        for written in (*pieces, out / "one.parquet", out / "many.parquet"):
            written.unlink()
        (out / "many").rmdir()
    assert not list(out.iterdir())


def test_processes_give_the_bits_of_one_process(
    folder: Path, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    check_bits(processes, folder, tmp_path, WAYS, own_measures.half_gradient)


def test_any_number_of_workers_gives_the_same_bits(folder: Path) -> None:
    way = {"by": [], "interval": "layers", "resamples": 9}
    expected = pv.correlate(scanned(folder), *PAIR, **way)
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as executor:
            found = pv.correlate(scanned(folder), *PAIR, **way, executor=executor)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_dask_gives_the_bits_of_one_process(folder: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        check_bits(client.get_executor(), folder, tmp_path, WAYS[1:4:2], "bn_scale")
        with pytest.raises(ScoreError, match=r"run resnet56-digits-s0, epochs 0 to \d: .*reads"):
            pv.score(
                scanned(folder),
                own_measures.reads_what_it_does_not_name,
                tmp_path / "scores.parquet",
                executor=client.get_executor(),
            )


def test_groups_are_read_in_portions(
    folder: Path, processes: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = {"by": ["layer"], "method": "spearman", "interval": None}
    expected = pv.correlate(scanned(folder), *PAIR, **way)
    monkeypatch.setattr(pairs_on_disk, "GATHERED_PAIRS", 45)
    found = pv.correlate(scanned(folder), *PAIR, **way, executor=processes)
    assert len(expected) == 3 and expected["n"].sum() > 2 * 40
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_failure_names_run_and_epochs_and_leaves_nothing(
    folder: Path, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    with pytest.raises(AnalysisError, match=r"run vgg13-digits-s1, epochs \d to 4: .*KeyError: 'n"):
        pv.score(
            scanned(folder), own_measures.fails_late, f"{tmp_path}/scores/", executor=processes
        )
    assert not list(tmp_path.iterdir())
    with pytest.raises(AnalysisError, match="cannot be sent to another process"):
        pv.correlate(scanned(folder), "theta_g", own_measures.nameless(), executor=processes)


def test_a_damaged_file_is_told_with_its_run(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1), tmp_path)
    file = tmp_path / "vgg13-digits-s1" / "filters.parquet"
    table = pv.scan(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:400] + bytes([content[400] ^ 255]) + content[401:])
    with pytest.raises(LogError, match=r"run vgg13-digits-s1: .*filters.parquet is corrupt"):
        pv.mask_distance(table, executor=processes)


@pytest.mark.soak
def test_the_memory_of_a_worker_does_not_grow_with_runs(tmp_path: Path) -> None:
    whole, quarter = analysis.make_sets(tmp_path, runs=8, epochs=EPOCHS)
    calls = {
        "by epoch": lambda table, executor: pv.correlate(table, *PAIR, executor=executor),
        "by layer": lambda table, executor: pv.correlate(
            table, *PAIR, by=["layer"], interval="fisher", executor=executor
        ),
        "bootstraps by layer": lambda table, executor: pv.correlate(
            table, *PAIR, by=["layer"], resamples=9, executor=executor
        ),
        "masks": lambda table, executor: pv.mask_distance(table, executor=executor),
        "scores": lambda table, executor: pv.score(
            table, "magnitude", f"{tmp_path}/{uuid.uuid4().hex}/", executor=executor
        ),
    }
    for name, call in calls.items():
        peaks = []
        for folder in (quarter, whole):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
                call(pv.scan(folder), executor)
                peaks.append(executor.submit(piece_work.peak_bytes).result())
        # bootstraps hold up to 8 million pairs at once, which are more than there are here
        assert name.startswith("bootstraps") or peaks[1] < 1.1 * peaks[0] + 20e6, (name, peaks)
        assert peaks[1] < 1e9, (name, peaks)


def test_an_executor_is_one_and_is_for_a_scan(folder: Path, tmp_path: Path) -> None:
    loaded, table = pv.load(folder), scanned(folder)
    calls = [
        lambda filters, executor: pv.correlate(filters, *PAIR, executor=executor),
        lambda filters, executor: pv.mask_distance(filters, executor=executor),
        lambda filters, executor: pv.score(filters, "magnitude", executor=executor),
    ]
    with ThreadPoolExecutor(1) as executor:
        for call in calls:
            with pytest.raises(AnalysisError, match=r"works on a scan, not on a Runs in memory"):
                call(loaded, executor)
            with pytest.raises(AnalysisError, match=r"executor=8 is a int; give a concurrent"):
                call(table, 8)
    (tmp_path / "scores").mkdir()
    with pytest.raises(LogError, match="scores already exists; name another folder"):
        pv.score(table, "magnitude", f"{tmp_path}/scores/")
