"""P-values of several tests that are judged together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.errors import AnalysisError


def holm(p: Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    """Adjust the p-values of several tests that are judged together.

    Whatever the tests have to do with each other, the chance of an adjusted p-value of at most 0.05
    in any of those whose null hypothesis is true is at most 5 %.

    Args:
        p: P-values, from 0 to 1, such as one for each panel of a figure. Nulls are of panels
            without a test and do not count.

    Returns:
        Adjusted p-values in the same order; at least as large as `p`, at most 1, null where `p` is.

    Raises:
        AnalysisError: If p is no list of numbers, or a value is outside [0, 1].

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Example:
        >>> pv.holm([0.01, 0.04, 0.03])
    """
    try:
        values = np.asarray(p, dtype="float64")
    except (TypeError, ValueError) as error:
        raise AnalysisError(f"holm takes a list of p-values, not {p!r}") from error
    if values.ndim != 1:
        raise AnalysisError(f"holm takes a list of p-values, such as [0.01, 0.04], not {p!r}")
    known = np.flatnonzero(~np.isnan(values))
    wrong = values[known][(values[known] < 0) | (values[known] > 1)]
    if len(wrong):
        raise AnalysisError(f"holm takes p-values from 0 to 1, not {wrong[0]:g}")
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    found = np.full(len(values), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found
