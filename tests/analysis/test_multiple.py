"""Holm's adjustment against a plain rewrite, by hand, and its error rate by simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pruneviz as pv
from pruneviz.errors import AnalysisError
from tests.support.plain_statistics import holm_rejects


def test_adjusted_p_values_by_hand() -> None:
    # Sorted 0.01 0.03 0.04: times 3, 2 and 1, and never below the one before.
    np.testing.assert_allclose(pv.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(pv.holm([0.6, 0.7]), [1.0, 1.0])
    assert len(pv.holm([])) == 0


def test_nulls_do_not_count() -> None:
    found = pv.holm(pd.Series([0.02, None, 0.01], index=["b", "c", "a"]))
    np.testing.assert_allclose(found, [0.02, np.nan, 0.02])


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_adjusted_values_reject_as_the_steps_of_the_procedure_do(alpha: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.random(6) ** 4
        assert (pv.holm(p) <= alpha).tolist() == holm_rejects(p.tolist(), alpha)


def test_true_hypotheses_are_rejected_in_one_family_of_twenty() -> None:
    p = np.random.default_rng(1).random((2000, 5))
    wrong = np.mean([(pv.holm(family) <= 0.05).any() for family in p])
    assert wrong == pytest.approx(0.05, abs=0.02)  # four standard errors


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(AnalysisError, match=r"p-values from 0 to 1, not 1\.5"):
        pv.holm([0.1, 1.5])


@pytest.mark.parametrize("p", [["a"], [[0.1, 0.2]], 0.1, "0.1"])
def test_what_is_no_list_of_p_values_is_told(p: Any) -> None:
    with pytest.raises(AnalysisError, match="holm takes a list of p-values"):
        pv.holm(p)
