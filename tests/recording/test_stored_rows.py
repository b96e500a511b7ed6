"""The subset of single weights that a log stores: uniform, and fixed by its seed."""

from __future__ import annotations

import numpy as np
from scipy import stats

from pruneviz.recording.stored_rows import stored_rows


def test_the_subset_is_fixed_by_its_seed_and_ascending() -> None:
    drawn = stored_rows(1000, 50, 0).tolist()
    assert drawn == stored_rows(1000, 50, 0).tolist() == sorted(set(drawn))
    assert len(drawn) == 50
    assert drawn != stored_rows(1000, 50, 1).tolist()


def test_every_weight_is_as_likely_as_any_other() -> None:
    drawn = np.concatenate([stored_rows(40, 10, seed) for seed in range(2000)])
    assert stats.chisquare(np.bincount(drawn, minlength=40)).pvalue > 0.001


def test_all_weights_are_stored_if_there_are_no_more() -> None:
    assert stored_rows(7, 7, 3).tolist() == stored_rows(7, 2000, 3).tolist() == list(range(7))
