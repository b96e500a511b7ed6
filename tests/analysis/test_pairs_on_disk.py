"""Correlations, scores and mask distances of runs on disk equal those of the same runs in memory, and hold few rows at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.analysis import pairs_on_disk
from pruneviz.errors import AnalysisError, LogError, ScoreError
from pruneviz.log import scan as scanning
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan, scan
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
SIZES = pytest.mark.parametrize("block_rows", [1, 40, 10_000])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filters of several networks, some without batch norm and some pruned, whose derivatives are null then."""
    path = tmp_path_factory.mktemp("on-disk")
    runs = make_runs({"vgg13": (3, 5), "resnet56": (4, 2, 3)}, seeds=(0, 1), epochs=6, every=2)
    filters = runs.filters.assign(
        kept=~((runs.filters["epoch"] >= 3) & (runs.filters["filter"] == 1))
    )
    measured = [
        name for name in ("theta_g", "theta_hg", "abs_theta_g", "theta2_abs_g") if name in filters
    ]
    filters[measured] = filters[measured].where(filters["kept"])
    filters["sigma"] = (
        filters["sigma"].where(filters["layer"] != "features.1.conv").round(1)
    )  # ties
    save_runs(dataclasses.replace(runs, filters=filters), path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> pd.DataFrame:
    return pv.load(folder).filters


def scanned(folder: Path, block_rows: int) -> Scan:
    return dataclasses.replace(scan(folder), block_rows=block_rows)


def assert_alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12, atol=1e-14)


# Correlations


@SIZES
@pytest.mark.parametrize("by", GROUPS, ids="-".join)
@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_correlations_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, method: Any, by: list[str], block_rows: int
) -> None:
    found = pv.correlate(scanned(folder, block_rows), "theta_g", "theta_hg", by=by, method=method)
    assert_alike(found, pv.correlate(loaded, "theta_g", "theta_hg", by=by, method=method))


@pytest.mark.parametrize("by", [["run", "epoch"], ["layer"]], ids="-".join)
def test_bootstraps_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, by: list[str]
) -> None:
    options: dict[str, Any] = {"by": by, "interval": "bootstrap", "resamples": 20, "seed": 3}
    assert_alike(
        pv.correlate(scanned(folder, 40), "sigma", "theta_hg", **options),
        pv.correlate(loaded, "sigma", "theta_hg", **options),
    )


@pytest.mark.parametrize("x", ["sigma_change", "random", "magnitude"])
@pytest.mark.parametrize("by", [["run", "epoch"], ["layer"]], ids="-".join)
def test_measures_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, x: str, by: list[str]
) -> None:
    assert_alike(
        pv.correlate(scanned(folder, 40), x, "loss_preservation", by=by),
        pv.correlate(loaded, x, "loss_preservation", by=by),
    )


@pytest.mark.parametrize("pairs", [60, 100, 150, 10_000])
@pytest.mark.parametrize("by", [["layer"], ["epoch"], ["run", "layer"]], ids="-".join)
def test_groups_are_gathered_in_portions(
    folder: Path, loaded: pd.DataFrame, by: list[str], pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_on_disk, "GATHERED_PAIRS", pairs)
    found = pv.correlate(scanned(folder, 40), "theta_g", "theta_hg", by=by, method="spearman")
    assert_alike(found, pv.correlate(loaded, "theta_g", "theta_hg", by=by, method="spearman"))


def test_a_group_too_large_for_ranks_is_told_with_its_repair(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_on_disk, "GATHERED_PAIRS", 10)
    with pytest.raises(
        AnalysisError,
        match=r"a group has \d+ pairs, .* at most 10; group by run and epoch too, or use method='pearson'",
    ):
        pv.correlate(scan(folder), "theta_g", "theta_hg", by=["layer"], method="spearman")
    assert len(
        pv.correlate(scan(folder), "theta_g", "theta_hg", by=["run", "epoch"], method="spearman")
    )
    assert len(pv.correlate(scan(folder), "theta_g", "theta_hg", by=["layer"]))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_moments_of_tiny_and_huge_values_add_up(tmp_path: Path, scale: float) -> None:
    runs = make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1)
    size = np.where(runs.filters["epoch"] == 1, scale, 1.0) * np.where(
        runs.filters["epoch"] == 2, 0.0, 1.0
    )  # an epoch is all zero
    save_runs(
        dataclasses.replace(
            runs, filters=runs.filters.assign(synflow=size * runs.filters["theta_g"])
        ),
        tmp_path,
    )
    for table in (pv.load(tmp_path).filters, scanned(tmp_path, 8)):
        found = pv.correlate(table, "synflow", "theta_g", by=["layer"])
        groups = [
            rows.astype({"theta_g": "float64"})
            for _, rows in pv.load(tmp_path).filters.groupby("layer", observed=True)
        ]
        expected = [
            np.corrcoef(rows["synflow"] / rows["synflow"].abs().max(), rows["theta_g"])[0, 1]
            for rows in groups
        ]
        np.testing.assert_allclose(found["r"], expected, rtol=1e-10)


@SIZES
def test_what_has_no_correlation_in_memory_has_none_on_disk(
    tmp_path: Path, block_rows: int
) -> None:
    runs = make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=3, every=1)
    filters = runs.filters.assign(
        sigma=1.0, synflow=runs.filters["theta_g"].astype("float64"), theta_l1=np.nan
    )
    filters.loc[filters["epoch"] == 1, "synflow"] = np.inf
    save_runs(dataclasses.replace(runs, filters=filters), tmp_path)
    table = pv.load(tmp_path).filters
    for x in ("sigma", "synflow", "theta_l1"):
        found = pv.correlate(scanned(tmp_path, block_rows), x, "theta_g", by=["layer"])
        assert_alike(found, pv.correlate(table, x, "theta_g", by=["layer"]))
        assert found["r"].isna().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"x": "nonsense"},
        {"x": "layer"},
        {"by": ["network"]},
        {"by": ["nonsense"]},
        {"method": "n"},
        {"level": 2},
    ],
)
def test_errors_are_those_of_the_table_in_memory(
    folder: Path, loaded: pd.DataFrame, wrong: dict[str, Any]
) -> None:
    told = []
    for table in (loaded, scan(folder)):
        with pytest.raises(AnalysisError) as caught:
            pv.correlate(table, **{"x": "theta_g", "y": "theta_hg", **wrong})
        told.append(str(caught.value))
    assert told[0] == told[1]


# Mask distances


@SIZES
@pytest.mark.parametrize("lag", [1, 2])
@pytest.mark.parametrize("score", ["bn_scale", "gradient_norm_preservation", "random"])
def test_mask_distances_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, score: str, lag: int, block_rows: int
) -> None:
    found = pv.mask_distance(scanned(folder, block_rows), score, ratio=0.3, lag=lag)
    pd.testing.assert_frame_equal(found, pv.mask_distance(loaded, score, ratio=0.3, lag=lag))
    assert found["distance"].gt(0).any()


def test_bad_input_of_a_mask_distance_is_told(folder: Path) -> None:
    with pytest.raises(ScoreError, match="choose one of magnitude"):
        pv.mask_distance(scan(folder), "nonsense")
    with pytest.raises(AnalysisError, match="whole number from 1"):
        pv.mask_distance(scan(folder), lag=0)


# Scores


@SIZES
@pytest.mark.parametrize("name", ["magnitude", "sigma_change", "random"])
def test_written_scores_are_those_of_the_loaded_table(
    folder: Path, loaded: pd.DataFrame, tmp_path: Path, name: str, block_rows: int
) -> None:
    out = pv.score(scanned(folder, block_rows), name, out=tmp_path / "scores.parquet")
    found = pd.read_parquet(out)
    pd.testing.assert_series_equal(found[name], pv.score(loaded, name))
    pd.testing.assert_frame_equal(
        found.drop(columns=name),
        loaded[["run", "epoch", "layer", "filter", "weight"]],
        check_dtype=False,
    )


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
    with pytest.raises(LogError, match="exists already"):
        pv.score(scan(folder), "magnitude", out=tmp_path / "mine.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]


# Single weights, and memory


@SIZES
def test_runs_of_single_weights(tmp_path: Path, block_rows: int) -> None:
    save_runs(
        weights(make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=4, every=1, unit="weight")),
        tmp_path / "set",
    )
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0,), epochs=4, every=1), tmp_path / "set")
    table, on_disk_too = pv.load(tmp_path / "set").filters, scanned(tmp_path / "set", block_rows)
    pd.testing.assert_frame_equal(
        pv.mask_distance(on_disk_too, "magnitude"), pv.mask_distance(table, "magnitude")
    )
    by_weight = [
        pv.correlate(each, "random", "theta_g", by=["weight"]) for each in (on_disk_too, table)
    ]
    assert_alike(
        by_weight[0].astype({"weight": "float64"}), by_weight[1]
    )  # integers are floats in memory where filters have null
    found = pd.read_parquet(pv.score(on_disk_too, "random", out=tmp_path / "scores.parquet"))
    pd.testing.assert_frame_equal(found[["weight"]], table[["weight"]])
    pd.testing.assert_series_equal(found["random"], pv.score(table, "random"))


def weights(runs: Runs) -> Runs:
    """The same runs, each filter's rows three weights with values of their own."""
    parts = [
        runs.filters.assign(weight=place, theta_norm2=runs.filters["theta_norm2"] * (1 + place))
        for place in range(3)
    ]
    filters = pd.concat(parts).sort_values(["run", "epoch"], kind="stable", ignore_index=True)
    return dataclasses.replace(runs, filters=filters)


@pytest.mark.parametrize("epochs", [6, 24])
def test_no_more_rows_are_held_however_long_the_runs(
    tmp_path: Path, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_runs(make_runs({"vgg13": (3, 5)}, seeds=(0, 1), epochs=epochs, every=1), tmp_path)
    held: list[int] = []
    blocks = Scan.blocks

    def watched(self: Scan, columns: Any) -> Any:
        for block in blocks(self, columns):
            held.append(len(block))
            yield block

    monkeypatch.setattr(scanning.Scan, "blocks", watched)
    few = scanned(tmp_path, 16)
    pv.correlate(few, "theta_g", "theta_hg")
    pv.correlate(few, "theta_g", "theta_hg", by=["layer"])
    pv.mask_distance(few)
    pv.score(few, "magnitude", out=tmp_path / "scores.parquet")
    assert max(held) == 16 and sum(held) == 4 * 2 * 8 * (epochs + 1)
