"""Masks of every epoch: recorded ones, and those that a measure gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.masks import mask_distance
from pruneviz.errors import AnalysisError, FigureError
from pruneviz.log.runs import Runs, load
from pruneviz.log.thinning import thin
from pruneviz.plot.mask_tables import masks_table
from tests.support.synthetic_runs import SMALL, make_runs, save_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=4, every=2)


def table(**columns: object) -> pd.DataFrame:
    keys = [(e, layer, p) for e in (0, 1) for layer in ("b", "a") for p in range(5)]
    rows = pd.DataFrame(keys, columns=["epoch", "layer", "filter"])
    return rows.assign(mine=np.arange(20) % 7, **columns)


def test_pruned_runs_show_what_was_pruned() -> None:
    kept = [True] * 10 + [True, False] * 5
    found = masks_table(table(kept=kept))
    assert found["kept"].tolist() == kept
    assert found["score"].isna().all()
    assert found["depth"].tolist() == ([1] * 5 + [2] * 5) * 2


def test_a_measure_masks_the_lowest_of_the_whole_network_at_each_epoch() -> None:
    found = masks_table(table(), score="mine", ratio=0.3)
    for epoch, rows in table().groupby("epoch"):
        lowest = np.argsort(rows["mine"].to_numpy(), kind="stable")[:3]
        kept = np.ones(10, dtype=bool)
        kept[lowest] = False
        assert found.loc[found["epoch"] == epoch, "kept"].tolist() == kept.tolist()
    assert set(found["ratio"]) == {0.3}


def test_masks_of_two_epochs_differ_by_the_mask_distance(runs: Runs) -> None:
    run = "vgg13-digits-s0"
    found = masks_table(runs, runs=run, score="magnitude", ratio=0.4)
    by_epoch = found.pivot_table(
        index=["layer", "filter"], columns="epoch", values="kept", aggfunc="first", sort=False
    )
    moved = [(by_epoch[e] != by_epoch[e - 1]).mean() for e in range(1, 5)]
    rows = runs.filters[runs.filters["run"] == run]
    assert moved == pytest.approx(mask_distance(rows, "magnitude", 0.4)["distance"].tolist())


def test_the_default_of_unpruned_runs_is_the_mask_of_the_log(runs: Runs) -> None:
    found = masks_table(runs, runs={"network": "vgg13"})
    assert (set(found["score"]), set(found["ratio"])) == ({"bn_scale"}, {0.2})
    assert (set(found["run"]), set(found["seeds"])) == ({"vgg13-digits-s0"}, {3})
    without = runs.filters[runs.filters["run"] == "vgg13-digits-s0"].drop(columns="sigma")
    assert set(masks_table(without)["score"]) == {"magnitude"}


def test_pruned_filters_count_towards_the_ratio_and_stay_pruned() -> None:
    kept = ([False] * 2 + [True] * 8) * 2
    found = masks_table(table(kept=kept), score="mine", ratio=0.3)
    assert found.groupby("epoch")["kept"].sum().tolist() == [7, 7]
    assert not found.loc[~np.array(kept), "kept"].any()


def test_there_is_no_mask_without_a_ranking_or_a_score() -> None:
    alike = masks_table(table().assign(mine=1.0), score="mine", ratio=0.5)
    assert alike["kept"].isna().all()
    some = table().assign(mine=lambda rows: rows["mine"].where(rows["layer"] == "a"))
    found = masks_table(some, score="mine", ratio=0.4)
    assert found.loc[found["layer"] == "b", "kept"].isna().all()
    assert found.loc[found["layer"] == "a", "kept"].sum() == 6
    late = table().assign(mine=lambda rows: rows["mine"].where(rows["epoch"] == 1))
    assert set(masks_table(late, score="mine")["epoch"]) == {1}


def test_what_is_not_there_is_told(runs: Runs) -> None:
    with pytest.raises(FigureError, match=r"no bn_scale or magnitude .*one of \[mine\]"):
        masks_table(table())
    with pytest.raises(FigureError, match="theta2_g2, which fisher is drawn from"):
        masks_table(runs, score="fisher")
    with pytest.raises(FigureError, match="no layer 'conv9'"):
        masks_table(runs, layers="conv9")
    with pytest.raises(FigureError, match="epoch 9 holds none"):
        masks_table(runs, epochs=9)
    with pytest.raises(AnalysisError, match="ratio=2"):
        masks_table(runs, ratio=2)


def pruned_late(folder: Path) -> Path:
    """A run on disk without rounds that loses a fourth of its filters at epoch 3 of 4."""
    runs = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=4, every=2)
    gone = (runs.filters["epoch"] >= 3) & (runs.filters["filter"] % 4 == 0)
    kept_fraction = np.where(runs.epochs["epoch"] >= 3, 0.75, 1.0)
    epochs = runs.epochs.assign(kept_fraction=kept_fraction)
    gradient = runs.filters["theta_g"].mask(gone)
    filters = runs.filters.assign(kept=~gone, theta_g=gradient)
    spec = runs.spec.assign(pruned=True)
    save_runs(replace(runs, spec=spec, epochs=epochs, filters=filters), folder)
    return next(folder.iterdir())


def test_a_thin_copy_of_a_pruned_run_shows_its_own_masks(tmp_path: Path) -> None:
    full = pruned_late(tmp_path / "full")
    whole = masks_table(load(full))
    assert whole["score"].isna().all() and "of_epochs" not in whole
    for epochs in ([0], [0, 4]):
        copy = thin(full, tmp_path / str(len(epochs)), epochs=epochs).path
        found = masks_table(load(copy))
        assert set(found.pop("of_epochs")) == {5}
        expected = whole[whole["epoch"].isin(epochs)].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)


def test_masks_of_a_thin_copy_by_derivatives_need_all_measured_epochs(tmp_path: Path) -> None:
    full = pruned_late(tmp_path / "full")
    whole = masks_table(load(full), score="theta_g", ratio=0.5)
    copy = load(thin(full, tmp_path / "all").path)
    found = masks_table(copy, score="theta_g", ratio=0.5).drop(columns="of_epochs")
    pd.testing.assert_frame_equal(found, whole)
    late = load(thin(full, tmp_path / "late", epochs=[4]).path)
    with pytest.raises(FigureError, match=r"thin copy .* which of its pruned filters count"):
        masks_table(late, score="theta_g", ratio=0.5)
    assert len(masks_table(late, score="magnitude", ratio=0.5))


def test_an_unpruned_thin_copy_shows_the_masks_of_the_log(tmp_path: Path) -> None:
    runs = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=4, every=2)
    save_runs(runs, tmp_path / "full")
    copy = load(thin(next((tmp_path / "full").iterdir()), tmp_path / "thin", epochs=[0]).path)
    found = masks_table(copy)
    assert set(found["score"]) == {"bn_scale"} and set(found["of_epochs"]) == {5}
