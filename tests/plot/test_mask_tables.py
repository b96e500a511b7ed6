"""Masks of every epoch: recorded ones, and those that a measure gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.masks import mask_distance
from pruneviz.errors import AnalysisError, FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.mask_tables import masks_table
from tests.support.synthetic_runs import SMALL, make_runs


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
