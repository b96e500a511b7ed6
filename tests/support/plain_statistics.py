"""Statistics of correlations once more, in plain loops and by other algorithms than the package."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def effective_number(x: Sequence[float], y: Sequence[float]) -> float:
    """(sum w)^2 / sum w^2 with w the products of deviations, one pair after another."""
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    contributions = [(a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)]
    return math.fsum(contributions) ** 2 / math.fsum(w * w for w in contributions)


def symmetric_log(values: Sequence[float]) -> list[float]:
    """Logarithm on both sides of zero, linear up to a power of ten, as pictures draw axes."""
    sizes = sorted(abs(value) for value in values if value != 0)
    place = 0.1 * (len(sizes) - 1)
    below, share = int(place), place - int(place)
    above = sizes[min(below + 1, len(sizes) - 1)]
    tenth = sizes[below] * (1 - share) + above * share
    threshold = 10.0 ** math.floor(math.log10(max(tenth, sizes[-1] / 1e10)))
    return [math.copysign(math.log(1 + abs(v) / threshold), v) for v in values]


def interval_over_seeds(r: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of atanh(r), by scipy, transformed back."""
    z = [math.atanh(value) for value in r]
    low, high = stats.t.interval(level, len(z) - 1, np.mean(z), stats.sem(z))
    return math.tanh(low), math.tanh(high)


def holm_rejects(p: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's procedure rejects, step by step from the smallest p-value on."""
    rejected = [False] * len(p)
    waiting = list(range(len(p)))
    while waiting:
        least = min(waiting, key=lambda place: p[place])
        if p[least] * len(waiting) > alpha:
            break
        rejected[least] = True
        waiting.remove(least)
    return rejected
