"""The symmetric logarithm: values of both signs over many decades on one scale."""

from __future__ import annotations

import math

import numpy as np

_MOST_DECADES = 10  # per side; more would squeeze the large values together
_LINEAR_SHARE = 0.1  # of the nonzero values are at most the threshold, if they span few decades
# Thresholds stay within these: below, matplotlib takes an axis for one of a single point; above,
# places on the axis overflow.
LEAST_THRESHOLD, MOST_THRESHOLD = 1e-280, 1e300


def linear_threshold(values: np.ndarray) -> float:
    """The power of ten up to which a symmetric-log scale for these values is linear.

    Args:
        values: Numbers of any shape; nulls and infinite values do not count.

    Returns:
        At most the 10th percentile of the nonzero absolute values, and at most ten decades below
        the largest one; from 1e-280 to 1e300. 1 if all values are zero or absent.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)]).astype(float)
    if not len(sizes):
        return 1.0
    least = max(np.quantile(sizes, _LINEAR_SHARE), sizes.max() / 10**_MOST_DECADES)
    return 10.0 ** math.floor(math.log10(min(max(least, LEAST_THRESHOLD), MOST_THRESHOLD)))


def symmetric_log(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """sign(v) log(1 + |v| / threshold) of every value, with a threshold for each group.

    Args:
        values: Values, float64 [pair], group after group.
        starts: Index at which each group starts [group].

    Returns:
        Transformed values [pair]; the threshold of a group is its `linear_threshold`, as on the
        axes of `pruneviz.plot.scatter`.
    """
    ends = np.append(starts[1:], len(values))
    bounds = zip(starts, ends, strict=True)
    thresholds = [linear_threshold(values[start:end]) for start, end in bounds]
    sizes = np.abs(values) / np.repeat(thresholds, ends - starts)
    return np.copysign(np.log1p(sizes), values)
