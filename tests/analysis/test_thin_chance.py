"""The chance level of masks of thin copies is that of the full run, or null."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pruneviz.analysis.masks import mask_distance
from pruneviz.analysis.thin_chance import thin_chance
from pruneviz.log.thin_copies import ThinCopy

SIZES = {"a": 7, "b": 9, "c": 30}  # c has no scores, so no mask holds it
KEPT = {1: {"a": 5, "b": 9, "c": 11}, 3: {"a": 4, "b": 3, "c": 5}}  # by round, after these epochs
COPY = ThinCopy("run", tuple(range(6)), (0, 5), (0, 5), (1, 2, 3, 4, 5))
RATIO = 0.3


def full() -> pd.DataFrame:
    keys = [(e, layer, n) for e in range(6) for layer, size in SIZES.items() for n in range(size)]
    rows = pd.DataFrame(keys, columns=["epoch", "layer", "filter"]).assign(run="run")
    left = [
        KEPT[max(after for after in KEPT if after <= epoch)][layer] if epoch else SIZES[layer]
        for epoch, layer in zip(rows["epoch"], rows["layer"], strict=True)
    ]
    scores = np.random.default_rng(0).uniform(1, 2, len(rows))
    kept = rows["filter"] < pd.Series(left)
    return rows.assign(kept=kept, own=np.where(rows["layer"] == "c", np.nan, scores * kept))


def rounds() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"epoch": epoch, "layer": layer, "filters": SIZES[layer], "kept": kept}
            for epoch, layers in KEPT.items()
            for layer, kept in layers.items()
        ]
    )


def of_copy(copy: ThinCopy = COPY, table: pd.DataFrame | None = None) -> pd.Series:
    rows = full()[lambda rows: rows["epoch"].isin(copy.held)]
    return thin_chance(rows, rows["own"], rounds() if table is None else table, copy, RATIO)


@pytest.mark.parametrize("held", [(0, 5), (5,), (0, 2, 4)])
def test_rounds_give_the_level_of_the_full_run(held: tuple[int, ...]) -> None:
    expected = mask_distance(full(), lambda rows: rows["own"], RATIO).set_index("epoch")["chance"]
    assert expected.nunique() > 2
    found = of_copy(replace(COPY, held=held))
    assert np.isnan(found[0])
    assert found[1:].to_dict() == pytest.approx(expected.to_dict(), abs=1e-12)


def test_without_rounds_only_held_and_unpruned_epochs_have_a_level() -> None:
    expected = mask_distance(full(), lambda rows: rows["own"], RATIO).set_index("epoch")["chance"]
    found = of_copy(replace(COPY, held=(0, 1, 2, 5)), rounds()[:0])
    assert found.isna().tolist() == [True, False, False, True, True, True]
    assert found[1:3].to_dict() == pytest.approx(expected[:2].to_dict(), abs=1e-12)


def test_rounds_that_are_not_all_of_the_pruning_are_not_believed() -> None:
    partly = rounds()[lambda table: table["epoch"] == 1]
    assert of_copy(table=partly)[1:].isna().all()


def test_filters_that_grow_back_have_no_level() -> None:
    back = pd.concat([rounds(), rounds()[:3].assign(epoch=4)])
    assert of_copy(replace(COPY, held=(0,)), back).isna().tolist() == [
        True,
        *[False] * 3,
        True,
        False,
    ]
