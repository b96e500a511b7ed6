"""Correlations, scores and mask distances of runs on disk equal those of the same runs in memory.

They also hold few rows at a time.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis import pairs_on_disk
from pruneviz.errors import AnalysisError, LogError, ScoreError
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan, scan
from pruneviz.log.sections import Section
from tests.support.synthetic_runs import make_runs, save_runs

GROUPS = [
    ["run", "epoch"],
    ["epoch", "run"],
    ["run", "epoch", "layer"],
    ["layer"],
    ["epoch"],
    ["run"],
    ["layer", "filter"],
    ["run", "kept"],
    [],
]
METHODS = ["pearson", "spearman", "kendall"]
BLOCK_ROWS = [1, 40, 10_000]  # one epoch, some epochs, and a whole run in a block


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two networks: some filters without batch norm, some pruned with null derivatives."""
    path = tmp_path_factory.mktemp("on-disk")
    runs = make_runs({"vgg13": (3, 5), "resnet56": (4, 2, 3)}, seeds=(0, 1), epochs=4, every=2)
    filters = runs.filters
    filters["kept"] = ~((filters["epoch"] >= 3) & (filters["filter"] == 1))
    derivatives = ["theta_g", "theta_hg", "abs_theta_g", "theta2_abs_g"]
    filters[derivatives] = filters[derivatives].where(filters["kept"])
    has_norm = filters["layer"] != "features.1.conv"
    filters["sigma"] = filters["sigma"].where(has_norm).round(1)  # creates ties
    save_runs(dataclasses.replace(runs, filters=filters), path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> pd.DataFrame:
    return pv.load(folder).filters


def scanned(folder: Path, block_rows: int) -> Scan:
    return dataclasses.replace(scan(folder), block_rows=block_rows)


def assert_alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12, atol=1e-14)


def unlike_in_memory(
    folder: Path, loaded: pd.DataFrame, cases: Iterable[tuple[int, Mapping[str, Any]]]
) -> list[str]:
    """The cases, rows of a block and arguments of `correlate`, that differ on disk."""
    offenders = []
    tables = {block_rows: scanned(folder, block_rows) for block_rows in BLOCK_ROWS}
    for block_rows, arguments in cases:
        found = pv.correlate(tables[block_rows], **arguments)
        try:
            assert_alike(found, pv.correlate(loaded, **arguments))
        except AssertionError as difference:
            offenders.append(f"{block_rows} rows a block, {arguments}: {difference}")
    return offenders


# Correlations


def test_correlations_are_those_of_the_loaded_table(folder: Path, loaded: pd.DataFrame) -> None:
    # Every pair of groups, method and size of a block, in a third of the full product.
    of_both = {"x": "theta_g", "y": "theta_hg", "resamples": 9}
    cases = [
        (BLOCK_ROWS[(i + j) % 3], {**of_both, "by": by, "method": method})
        for i, by in enumerate(GROUPS)
        for j, method in enumerate(METHODS)
    ]
    assert not unlike_in_memory(folder, loaded, cases)


@pytest.mark.parametrize("interval", ["layers", "hierarchical", "seeds"])
def test_resampled_units_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, interval: str
) -> None:
    options = {"interval": interval, "resamples": 10, "seed": 3, "x": "theta_g", "y": "theta_hg"}
    cases = [
        (BLOCK_ROWS[place], {"by": by, "method": method, **options})
        for place, (by, method) in enumerate(
            [(["epoch"], "pearson"), ([], "spearman"), (["epoch"], "symlog")]
        )
    ]
    assert not unlike_in_memory(folder, loaded, cases)


def test_bootstraps_are_those_of_the_loaded_table(folder: Path, loaded: pd.DataFrame) -> None:
    options = {"interval": "filters", "resamples": 10, "seed": 3}
    cases = [
        (40, {"x": "sigma", "y": "theta_hg", "by": by, **options})
        for by in (["run", "epoch"], ["layer"])
    ]
    assert not unlike_in_memory(folder, loaded, cases)


def test_measures_are_those_of_the_loaded_table(folder: Path, loaded: pd.DataFrame) -> None:
    cases = [
        (40, {"x": x, "y": "loss_preservation", "by": by})
        for x in ("sigma_change", "random", "magnitude")
        for by in (["run", "epoch"], ["layer"])
    ]
    assert not unlike_in_memory(folder, loaded, cases)


@pytest.mark.parametrize("pairs", [40, 60, 80, 10_000])
def test_groups_are_gathered_in_portions(
    folder: Path, loaded: pd.DataFrame, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_on_disk, "GATHERED_PAIRS", pairs)
    cases = [
        (40, {"x": "theta_g", "y": "theta_hg", "by": by, "method": "spearman"})
        for by in (["layer"], ["epoch"], ["run", "layer"])
    ]
    assert not unlike_in_memory(folder, loaded, cases)


def test_a_group_too_large_for_ranks_is_told_with_its_repair(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_on_disk, "GATHERED_PAIRS", 10)
    table = scan(folder)
    with pytest.raises(
        AnalysisError,
        match=r"a group has \d+ pairs, .* at most 10; group by run and epoch too, or use "
        r"method='pearson'",
    ):
        pv.correlate(table, "theta_g", "theta_hg", by=["layer"], method="spearman")
    by_epoch = pv.correlate(table, "theta_g", "theta_hg", by=["run", "epoch"], method="spearman")
    assert len(by_epoch)
    assert len(pv.correlate(table, "theta_g", "theta_hg", by=["layer"], interval="fisher"))
    assert len(pv.correlate(table, "theta_g", "theta_hg", by=["epoch"]))


def test_moments_of_tiny_and_huge_values_add_up(tmp_path: Path) -> None:
    # A layer for each scale; an epoch of one run is all zero.
    scales = [1e-300, 1e-160, 1.0, 1e160, 1e300]
    runs = make_runs({"vgg13": (5,) * len(scales)}, seeds=(0, 1), epochs=3, every=1)
    filters = runs.filters
    place = filters["layer"].map({name: i for i, name in enumerate(filters["layer"].unique())})
    size = np.where(filters["epoch"] == 1, np.array(scales)[place], 1.0)
    size[filters["epoch"] == 2] = 0.0
    filters = filters.assign(synflow=size * filters["theta_g"])
    save_runs(dataclasses.replace(runs, filters=filters), tmp_path)
    loaded = pv.load(tmp_path).filters.astype({"theta_g": "float64"})
    expected = []
    for _, rows in loaded.groupby("layer", observed=True):
        x = rows["synflow"] / rows["synflow"].abs().max()
        expected.append(np.corrcoef(x, rows["theta_g"])[0, 1])
    assert len(expected) == len(scales)
    for table in (loaded, scanned(tmp_path, 8)):
        found = pv.correlate(table, "synflow", "theta_g", by=["layer"])
        np.testing.assert_allclose(found["r"], expected, rtol=1e-10)


def test_what_has_no_correlation_in_memory_has_none_on_disk(tmp_path: Path) -> None:
    runs = make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1)
    infinite = runs.filters["theta_g"].astype("float64").where(runs.filters["epoch"] != 1, np.inf)
    filters = runs.filters.assign(sigma=1.0, synflow=infinite, theta_l1=np.nan)
    save_runs(dataclasses.replace(runs, filters=filters), tmp_path)
    table = pv.load(tmp_path).filters
    for x in ("sigma", "synflow", "theta_l1"):
        expected = pv.correlate(table, x, "theta_g", by=["layer"])
        assert expected["r"].isna().all()
        for block_rows in BLOCK_ROWS:
            found = pv.correlate(scanned(tmp_path, block_rows), x, "theta_g", by=["layer"])
            assert_alike(found, expected)


def test_errors_are_those_of_the_table_in_memory(folder: Path, loaded: pd.DataFrame) -> None:
    mistakes: list[dict[str, Any]] = [
        {"x": "nonsense"},
        {"x": "layer"},
        {"by": ["network"]},
        {"by": ["nonsense"]},
        {"method": "n"},
        {"level": 2},
    ]
    on_disk = scan(folder)
    for wrong in mistakes:
        messages = []
        for table in (loaded, on_disk):
            with pytest.raises(AnalysisError) as caught:
                pv.correlate(table, **{"x": "theta_g", "y": "theta_hg", **wrong})
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


# Mask distances


@pytest.mark.parametrize("block_rows", BLOCK_ROWS)
def test_mask_distances_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, block_rows: int
) -> None:
    table = scanned(folder, block_rows)
    scores = ["bn_scale", "gradient_norm_preservation", "random"]
    for score, lag in itertools.product(scores, [1, 2]):
        found = pv.mask_distance(table, score, ratio=0.3, lag=lag)
        pd.testing.assert_frame_equal(found, pv.mask_distance(loaded, score, ratio=0.3, lag=lag))
        assert found["distance"].gt(0).any()


def test_bad_input_of_a_mask_distance_is_told(folder: Path) -> None:
    with pytest.raises(ScoreError, match="choose one of magnitude"):
        pv.mask_distance(scan(folder), "nonsense")
    with pytest.raises(AnalysisError, match="whole number from 1"):
        pv.mask_distance(scan(folder), lag=0)


# Scores


@pytest.mark.parametrize("block_rows", BLOCK_ROWS)
def test_written_scores_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, tmp_path: Path, block_rows: int
) -> None:
    table = scanned(folder, block_rows)
    keys = ["run", "epoch", "layer", "filter", "weight"]
    for name in ("magnitude", "sigma_change", "random"):
        found = pd.read_parquet(pv.score(table, name, out=tmp_path / f"{name}.parquet"))
        pd.testing.assert_series_equal(found[name], pv.score(loaded, name))
        pd.testing.assert_frame_equal(found.drop(columns=name), loaded[keys], check_dtype=False)


def test_scores_of_a_scan_need_a_file_that_does_not_exist(
    folder: Path, loaded: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(ScoreError, match="name the Parquet file in out"):
        pv.score(scan(folder), "magnitude")  # type: ignore[call-overload]
    with pytest.raises(ScoreError, match="is for a scan"):
        pv.score(loaded, "magnitude", out=tmp_path / "scores.parquet")  # type: ignore[call-overload]
    with pytest.raises(ScoreError, match="choose one of magnitude"):
        pv.score(scan(folder), "nonsense", out=tmp_path / "scores.parquet")
    (tmp_path / "mine.parquet").touch()
    with pytest.raises(LogError, match="already exists"):
        pv.score(scan(folder), "magnitude", out=tmp_path / "mine.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]


# Single weights


def test_runs_of_single_weights(tmp_path: Path) -> None:
    networks = {"vgg13": (3, 5)}
    of_weights = make_runs(networks, seeds=(0, 1), epochs=4, every=1, unit="weight")
    save_runs(with_three_weights(of_weights), tmp_path / "set")
    save_runs(make_runs(networks, seeds=(0,), epochs=4, every=1), tmp_path / "set")
    table = pv.load(tmp_path / "set").filters
    by_weight = pv.correlate(table, "random", "theta_g", by=["weight"])
    distances, random = pv.mask_distance(table, "magnitude"), pv.score(table, "random")
    for block_rows in BLOCK_ROWS:
        on_disk = scanned(tmp_path / "set", block_rows)
        pd.testing.assert_frame_equal(pv.mask_distance(on_disk, "magnitude"), distances)
        # In memory, integers are floats where filters have null.
        found = pv.correlate(on_disk, "random", "theta_g", by=["weight"])
        assert_alike(found.astype({"weight": "float64"}), by_weight)
        out = pv.score(on_disk, "random", out=tmp_path / f"scores-{block_rows}.parquet")
        scores = pd.read_parquet(out)
        pd.testing.assert_frame_equal(scores[["weight"]], table[["weight"]])
        pd.testing.assert_series_equal(scores["random"], random)


def with_three_weights(runs: Runs) -> Runs:
    """The same runs with three weights, of values of their own, in place of each filter."""
    norm2 = runs.filters["theta_norm2"]
    parts = [
        runs.filters.assign(weight=place, theta_norm2=norm2 * (1 + place)) for place in range(3)
    ]
    filters = pd.concat(parts).sort_values(["run", "epoch"], kind="stable", ignore_index=True)
    return dataclasses.replace(runs, filters=filters)


# Memory


@pytest.mark.parametrize("epochs", [3, 12])
def test_no_more_rows_are_held_however_long_the_runs(
    tmp_path: Path, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=epochs, every=1), tmp_path)
    held: list[int] = []
    blocks = Section.blocks

    def watched(self: Section, columns: Any, layers: Any) -> Any:
        for block in blocks(self, columns, layers):
            held.append(len(block))
            yield block

    monkeypatch.setattr(Section, "blocks", watched)
    few = scanned(tmp_path, 16)
    with ThreadPoolExecutor(2) as executor:
        for by in (None, executor):
            pv.correlate(few, "theta_g", "theta_hg", executor=by)
            pv.correlate(few, "theta_g", "theta_hg", by=["epoch"], resamples=9, executor=by)
            pv.mask_distance(few, executor=by)
            pv.score(few, "magnitude", out=tmp_path / f"scores{len(held)}.parquet", executor=by)
    assert max(held) == 16 and sum(held) == 2 * 4 * 2 * 8 * (epochs + 1)


@pytest.mark.parametrize("interval", ["seeds", "hierarchical"])
def test_a_group_of_one_run_has_no_interval_over_runs_on_disk_either(
    folder: Path, loaded: pd.DataFrame, interval: Any
) -> None:
    run = loaded["run"].iloc[0]
    alone = scan(folder / str(run))
    for table in (loaded[loaded["run"] == run], alone):
        with pytest.raises(AnalysisError, match="a group holds a single one"):
            pv.correlate(table, "theta_g", "theta_hg", by=["epoch"], interval=interval)
