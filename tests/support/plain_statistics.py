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


def _z(units: Sequence[np.ndarray], of_tau: bool) -> float:
    """atanh of Pearson's r, or of Kendall's tau-b, over all pairs [pair, 2] of some units."""
    x, y = np.concatenate(units).T
    found = stats.kendalltau(x, y) if of_tau else stats.pearsonr(x, y)
    return math.atanh(found.statistic)


def _jackknife_error(units: Sequence[np.ndarray], of_tau: bool) -> float:
    rests = [_z([*units[:place], *units[place + 1 :]], of_tau) for place in range(len(units))]
    mean = sum(rests) / len(rests)
    squares = sum((rest - mean) ** 2 for rest in rests)
    return math.sqrt((len(rests) - 1) / len(rests) * squares)


def jackknife(units: Sequence[np.ndarray], of_tau: bool = False) -> tuple[float, float]:
    """Student's t interval with the error that leaving out one unit after the other gives."""
    z = _z(units, of_tau)
    half = stats.t.ppf(0.975, len(units) - 1) * _jackknife_error(units, of_tau)
    return math.tanh(z - half), math.tanh(z + half)


def symmetric_bootstrap(
    units: Sequence[np.ndarray], resamples: int, seed: int, of_tau: bool = False
) -> tuple[float, float]:
    """Interval from resamples of whole units, put together pair by pair."""
    z, error = _z(units, of_tau), _jackknife_error(units, of_tau)
    count, generator, sizes = len(units), np.random.default_rng(seed), []
    for places in generator.integers(count, size=(resamples, count)):
        drawn = [units[place] for place in places]
        sizes.append(abs(_z(drawn, of_tau) - z) / _jackknife_error(drawn, of_tau))
    half = error * sorted(sizes)[math.ceil(0.95 * (resamples - 1))]
    return math.tanh(z - half), math.tanh(z + half)


def nested_bootstrap(
    cells: Sequence[np.ndarray], runs: Sequence[int], resamples: int, seed: int, of_tau: bool
) -> tuple[float, float]:
    """Interval from resamples of runs, and of the layers of each drawn run."""
    count, generator = max(runs) + 1, np.random.default_rng(seed)
    times = generator.multinomial(count, [1 / count] * count, size=resamples)
    often = np.zeros((resamples, len(cells)), dtype=int)
    for run in range(count):
        mine = [place for place, owner in enumerate(runs) if owner == run]
        for place, drawn in zip(
            mine,
            generator.multinomial(times[:, run] * len(mine), [1 / len(mine)] * len(mine)).T,
            strict=True,
        ):
            often[:, place] = drawn
    zs = [
        _z([cell for cell, n in zip(cells, row, strict=True) for _ in range(n)], of_tau)
        for row in often
    ]
    z, spread = _z(cells, of_tau), np.std(zs) * math.sqrt(count / (count - 1))
    half = stats.t.ppf(0.975, count - 1) * spread
    return math.tanh(z - half), math.tanh(z + half)


def random_masks_apart(
    ratio: float, gone: np.ndarray, gone_later: np.ndarray, rng: np.random.Generator
) -> float:
    """Distance of two masks: what is pruned, and filters drawn from the rest up to a ratio."""
    masks = []
    for pruned in (gone, gone_later):
        mask = pruned.copy()
        more = max(round(ratio * len(mask)) - int(pruned.sum()), 0)
        mask[rng.choice(np.flatnonzero(~pruned), more, replace=False)] = True
        masks.append(mask)
    return float(np.mean(masks[0] != masks[1]))
