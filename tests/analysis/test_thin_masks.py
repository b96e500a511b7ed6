"""Mask distances of thin copies: those of the full run, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import AnalysisError
from pruneviz.log.scan import scan
from pruneviz.log.thinning import thin
from tests.support.synthetic_runs import SMALL, make_runs, save_runs


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 epochs, measured every 2, of which epoch 5 prunes a fourth of the filters."""
    runs = make_runs({"vgg13": SMALL["vgg13"]}, seeds=(0,), epochs=6, every=2)
    gone = (runs.filters["epoch"] >= 5) & (runs.filters["filter"] % 4 == 0)
    derived = ["theta_g", "theta_hg", "abs_theta_g", "g_norm2"]
    kept_fraction = np.where(runs.epochs["epoch"] >= 5, 0.75, 1.0)
    filters = runs.filters.assign(kept=~gone)
    filters[derived] = filters[derived].mask(gone)
    epochs = runs.epochs.assign(kept_fraction=kept_fraction)
    folder = tmp_path_factory.mktemp("full")
    save_runs(replace(runs, filters=filters, epochs=epochs), folder)
    return next(folder.iterdir())


def copy_of(full: Path, folder: Path, *epochs: int) -> Path:
    return thin(full, folder, epochs=list(epochs) or None).path


def test_distances_of_measured_epochs_are_those_of_the_full_run(full: Path, tmp_path: Path) -> None:
    copy = copy_of(full, tmp_path)
    expected = pv.mask_distance(pv.load(full), "loss_preservation", 0.3)
    assert len(expected) == 3 and expected["distance"].notna().all()
    for source in (pv.load(copy), scan(copy)):
        found = pv.mask_distance(source, "loss_preservation", 0.3)
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("epochs", "score", "lag", "why"),
    [
        ((), "bn_scale", 1, "epoch 2 cannot be compared .*: epoch 1 is left out"),
        ((), "bn_scale", 2, "epoch 2 cannot be compared .*: epoch 1 is left out"),
        ((), lambda rows: rows["sigma"], 1, "epoch 1 is left out"),  # may be of any epoch
        ((0, 4), "loss_preservation", 1, "epoch 4 cannot be compared .*: epoch 2 is left out"),
        ((6,), "loss_preservation", 1, "epoch 6 cannot be compared .*: epoch 4 is left out"),
        # whether a pruned filter ever had a gradient, and so counts, is not in this copy
        ((4, 6), "loss_preservation", 1, "epoch 4 cannot be compared"),
        ((0, 4, 6), "loss_preservation", 1, "epoch 4 cannot be compared"),
    ],
)
def test_where_an_epoch_before_is_left_out_distances_are_refused(
    full: Path, tmp_path: Path, epochs: tuple[int, ...], score: str, lag: int, why: str
) -> None:
    copy = copy_of(full, tmp_path, *epochs)
    with pytest.raises(AnalysisError, match=f"is a thin copy .*{why}.*runs.epochs"):
        pv.mask_distance(pv.load(copy), score, lag=lag)
    if isinstance(score, str):
        with pytest.raises(AnalysisError, match="is a thin copy"):
            pv.mask_distance(scan(copy), score, lag=lag)


def test_what_no_epoch_goes_back_to_is_not_missed(full: Path, tmp_path: Path) -> None:
    first = pv.load(copy_of(full, tmp_path / "first", 0, 2))
    found = pv.mask_distance(first, "loss_preservation")
    expected = pv.mask_distance(pv.load(full), "loss_preservation")
    pd.testing.assert_frame_equal(found, expected[expected["epoch"] == 2])
    assert pv.mask_distance(first, "loss_preservation", lag=2).empty
    late = pv.load(copy_of(full, tmp_path / "late", 0, 4))
    assert pv.mask_distance(late, "loss_preservation", lag=5).empty
    assert len(pv.mask_distance(late.filters, "loss_preservation")) == 1  # a table is as it is
