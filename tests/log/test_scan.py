"""Scans of run directories: their blocks against the loaded table, and what cannot be scanned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.scan import Scan, scan
from tests.support.edited_specs import edit_spec, forget_sums
from tests.support.synthetic_runs import make_runs, save_runs

NETWORKS = {"vgg13": (3, 5), "resnet56": (4, 2, 3)}
KEYS = ["run", "epoch", "layer", "filter", "kept"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two networks whose layers differ, measured at every third of their epochs."""
    path = tmp_path_factory.mktemp("scanned")
    save_runs(make_runs(NETWORKS, seeds=(0, 1), epochs=6, every=3), path)
    return path


def rewritten(run: Path, change: Callable[[pa.Table], pa.Table], rows: int | None = None) -> Path:
    """A run whose filters table is changed, or cut into other row groups."""
    file = run / "filters.parquet"
    pq.write_table(change(pq.read_table(file)), file, row_group_size=rows)
    forget_sums(run)
    return run


def one_run(folder: Path) -> Path:
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0,), epochs=3, every=1), folder)
    return next(folder.iterdir())


def blocks_of(scanned: Scan, block_rows: int, columns: list[str] = KEYS) -> list[pd.DataFrame]:
    return list(dataclasses.replace(scanned, block_rows=block_rows).blocks(columns))


@pytest.mark.parametrize("row_group", [None, 1, 7])
def test_blocks_are_the_loaded_table_cut_between_epochs(
    tmp_path: Path, row_group: int | None
) -> None:
    save_runs(make_runs(NETWORKS, seeds=(0,), epochs=4, every=3), tmp_path)
    for run in tmp_path.iterdir():
        rewritten(run, lambda table: table, row_group)
    columns = [*KEYS, "theta_g"]
    loaded = pv.load(tmp_path).filters[columns]
    for block_rows in (1, 5, 8, 20, 10_000):
        found = blocks_of(scan(tmp_path), block_rows, columns)
        pd.testing.assert_frame_equal(pd.concat(found, ignore_index=True), loaded)
        epochs = pd.concat([block[["run", "epoch"]].drop_duplicates() for block in found])
        assert not epochs.duplicated().any()
        # at most a batch and the epoch that waited for it
        assert max(map(len, found)) <= max(block_rows + 8, 9)


def test_a_scan_says_what_it_holds_and_reads_no_rows(folder: Path) -> None:
    scanned, loaded = scan(folder), pv.load(folder).filters
    assert len(scanned) == len(loaded) and scanned.columns == tuple(loaded.columns)
    pd.testing.assert_series_equal(
        scanned.no_rows().dtypes[["run", "layer", "epoch"]],
        loaded.dtypes[["run", "layer", "epoch"]],
    )
    assert list(scanned.files) == loaded["run"].cat.categories.tolist()


def test_a_column_that_some_runs_lack_is_null_there(tmp_path: Path) -> None:
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1), tmp_path)
    rewritten(
        tmp_path / "vgg13-digits-s1",
        lambda table: table.append_column("theta_hg_t3", table["theta_g"]),
    )
    rewritten(tmp_path / "vgg13-digits-s0", lambda table: table.drop_columns(["weight"]))
    found = pd.concat(blocks_of(scan(tmp_path), 100, ["theta_hg_t3", "weight"]), ignore_index=True)
    assert found["theta_hg_t3"].notna().tolist() == (found["run"] == "vgg13-digits-s1").tolist()


def test_a_run_without_rows_has_no_blocks(tmp_path: Path) -> None:
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1), tmp_path)
    rewritten(tmp_path / "vgg13-digits-s0", lambda table: table.slice(0, 0))
    found = pd.concat(blocks_of(scan(tmp_path), 100), ignore_index=True)
    pd.testing.assert_frame_equal(found, pv.load(tmp_path).filters[KEYS])


def test_runs_that_cannot_be_scanned_are_told_with_their_repair(tmp_path: Path) -> None:
    save_runs(
        make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1),
        tmp_path,
        unfinished=["vgg13-digits-s1"],
    )
    with pytest.raises(
        LogError, match=r"s1 is unfinished; finish its recording, or read .*pruneviz.load"
    ):
        scan(tmp_path)
    with pytest.raises(LogError, match="there is no folder"):
        scan(tmp_path / "nowhere")


def test_two_runs_of_one_name_are_scanned_under_the_names_they_are_loaded_with(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        one_run(tmp_path / name)
    scanned, loaded = scan(tmp_path), pv.load(tmp_path)
    assert list(scanned.files) == ["a/vgg13-digits-s0", "b/vgg13-digits-s0"]
    found = pd.concat(blocks_of(scanned, 4), ignore_index=True)
    pd.testing.assert_frame_equal(found, loaded.filters[KEYS])
    pd.testing.assert_frame_equal(
        pv.correlate(scanned, "theta_g", "theta_hg"),
        pv.correlate(loaded.filters, "theta_g", "theta_hg"),
    )


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    file = one_run(tmp_path) / "filters.parquet"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        file.write_bytes(content)
        with pytest.raises(LogError, match=r"filters.parquet is corrupt .*restore it"):
            scan(tmp_path)
    file.write_bytes(whole)
    sigma = next(
        column
        for column in pq.read_metadata(file).row_group(0).to_dict()["columns"]
        if column["path_in_schema"] == "sigma"
    )
    last = sigma["data_page_offset"] + sigma["total_compressed_size"] - 2
    file.write_bytes(whole[:last] + bytes([whole[last] ^ 255]) + whole[last + 1 :])
    with pytest.raises(LogError, match=r"filters.parquet is corrupt .*restore it"):
        blocks_of(scan(tmp_path), 100, list(scan(tmp_path).columns))
    file.unlink()
    with pytest.raises(LogError, match=r"filters.parquet is missing; restore it"):
        scan(tmp_path)


def test_a_column_of_another_type_is_told(tmp_path: Path) -> None:
    run = one_run(tmp_path)
    rewritten(run, lambda table: table.set_column(0, "run", table["run"].cast("string")))
    with pytest.raises(LogError, match=r"column run is of type string, expected dictionary"):
        scan(tmp_path)


def test_an_unsorted_file_is_told(tmp_path: Path) -> None:
    rewritten(
        one_run(tmp_path),
        lambda table: table.take(pc.sort_indices(table, [("epoch", "descending")])),
    )
    for block_rows in (1, 8, 1000):
        with pytest.raises(LogError, match=r"is not sorted by epoch.*record it again"):
            blocks_of(scan(tmp_path), block_rows)


def test_a_run_whose_rows_have_another_name_is_told(tmp_path: Path) -> None:
    edit_spec(one_run(tmp_path), run="renamed")
    with pytest.raises(
        LogError, match=r"holds rows of vgg13-digits-s0, but its spec.json names renamed"
    ):
        blocks_of(scan(tmp_path), 100)
