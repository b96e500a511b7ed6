"""Axes for values of both signs over many decades."""

from __future__ import annotations

import numpy as np
import pytest

from pruneviz.figures.signed_log import SignedLog, linear_threshold


@pytest.mark.parametrize("seed", range(20))
def test_signed_log_axis_suits_any_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (
        10 ** random.uniform(-random.integers(1, 12), 2, 200)
        * random.choice([-1, 1], 200) ** random.integers(0, 2)
        * (-1) ** seed
    )
    axis = SignedLog.fit(values)
    assert ((values >= axis.low) & (values <= axis.high)).all() and axis.low <= 0 <= axis.high
    labels = axis.labelled(0.2)
    assert 0 in labels and len(labels) >= 2 and (np.diff(axis.fraction(labels)) >= 0.2).all()
    assert set(labels) <= set(axis.decades())


def test_signed_log_axis_of_next_to_nothing() -> None:
    for values in ([], [0.0], [np.nan], [0.0, 0.0]):
        axis = SignedLog.fit(np.array(values))
        assert (
            axis.threshold == 1
            and axis.low < 0 < axis.high
            and axis.labelled(0.2).tolist() == [-1, 0, 1]
        )
    assert linear_threshold(np.array([3e-5])) == pytest.approx(1e-5)
    assert linear_threshold(np.array([1e-20] * 9 + [1.0])) == pytest.approx(1e-10)
