"""Verdicts on convergence and on the first layers once more: plain loops, and t from scipy.stats.

Written from docs/claims.md, without anything of `pruneviz.analysis`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from scipy import stats

from pruneviz.log.runs import Runs

FASTEST_FIRST = ("magnitude", "proposed", "loss_preservation")
ROUNDED = 1 / math.sqrt(6)  # of the difference of two numbers, each rounded


class Plain(NamedTuple):
    """A lead with its interval, and the verdict on it."""

    value: float
    low: float
    high: float
    verdict: str


class _Tested(NamedTuple):
    value: float
    low: float
    high: float
    above: float
    below: float


def convergence_verdicts(runs: Runs) -> dict[tuple[str, str, str], Plain]:
    """Verdicts on the leads of runs of one figure, by data set, first measure of the pair, unit."""
    values: dict[str, dict[tuple[str, str], list[float]]] = {"points": {}, "epochs": {}}
    for dataset in sorted(set(runs.spec["dataset"])):
        curves = _curves(runs, dataset)
        best = max(list(curve.values())[-1] for curve in curves.values())
        for one, other in itertools.pairwise(FASTEST_FIRST):
            seeds = sorted(seed for measure, seed in curves if measure == one)
            seeds = [seed for seed in seeds if (other, seed) in curves]
            values["points"][dataset, one] = [
                100 * (_area(curves[one, seed]) - _area(curves[other, seed])) for seed in seeds
            ]
            sooner = [
                [
                    _when(curves[other, seed], share * best)
                    - _when(curves[one, seed], share * best)
                    for share in (0.5, 0.8, 0.9, 0.95)
                ]
                for seed in seeds
            ]
            reached = [at for at in range(4) if not any(math.isnan(row[at]) for row in sooner)]
            values["epochs"][dataset, one] = [mean(row[at] for at in reached) for row in sooner]
    found = {}
    for unit, leads in values.items():
        least = 0 if unit == "points" else ROUNDED
        tests = [_tested(each, 0, 1, least) for each in leads.values()]
        for key, plain in zip(leads, _decided(tests), strict=True):
            found[*key, unit] = plain
    return found


def first_layer_verdicts(runs: Runs, far: float = 20) -> dict[int, Plain]:
    """Verdicts on the first third of the layers, by number of rounds; runs of one network."""
    tests, numbers = [], [rounds for rounds in sorted(set(runs.spec["rounds"])) if rounds >= 5]
    for rounds in numbers:
        chosen = runs.spec[runs.spec["rounds"] == rounds]
        leads = []
        for seed in sorted(set(chosen["seed"])):
            shares = {
                run["measure"]: _first_third(runs, run["run"], rounds)
                for _, run in chosen[chosen["seed"] == seed].iterrows()
            }
            own, filters = shares.pop("grasp")
            leads.append(own - max(share for share, _ in shares.values()))
        tests.append(_tested(leads, far, far, 100 / filters * ROUNDED))
    return dict(zip(numbers, _decided(tests), strict=True))


def _curves(runs: Runs, dataset: str) -> dict[tuple[str, int], dict[int, float]]:
    chosen = runs.spec[runs.spec["dataset"] == dataset]
    curves = {}
    for _, run in chosen.iterrows():
        rows = runs.epochs[runs.epochs["run"] == run["run"]].sort_values("epoch")
        curve = {int(row["epoch"]): float(row["test_acc"]) for _, row in rows.iterrows()}
        curves[run["measure"], int(run["seed"])] = curve
    return curves


def _area(curve: dict[int, float]) -> float:
    steps = itertools.pairwise(curve)
    whole = sum((b - a) * (curve[a] + curve[b]) / 2 for a, b in steps)
    return whole / (max(curve) - min(curve))


def _when(curve: dict[int, float], threshold: float) -> float:
    for epoch, accuracy in curve.items():
        if accuracy >= threshold * (1 - 1e-6):
            return epoch
    return math.nan


def _first_third(runs: Runs, run: str, rounds: int) -> tuple[float, int]:
    """Percent of the filters in the first third of the layers that are gone, and their number."""
    rows = runs.rounds[(runs.rounds["run"] == run) & (runs.rounds["round"] == rounds)]
    rows = rows[rows["coupled_to"].isna()].sort_values("layer_index")
    first = list(zip(rows["filters"], rows["kept"], strict=True))[: len(rows) // 3]
    filters = sum(int(all_of) for all_of, _ in first)
    return 100 * sum(int(all_of) - int(kept) for all_of, kept in first) / filters, filters


def _tested(values: Sequence[float], above: float, below: float, least: float) -> _Tested:
    """Student's t interval, and twice the one-sided p of a lead above and below some bounds."""
    middle, error = mean(values), max(stdev(values), least) / math.sqrt(len(values))
    t = stats.t(df=len(values) - 1)
    half = t.ppf(0.975) * error
    return _Tested(
        middle,
        middle - half,
        middle + half,
        min(1.0, 2 * t.sf((middle - above) / error)),
        min(1.0, 2 * t.cdf((middle - below) / error)),
    )


def _decided(tests: Sequence[_Tested]) -> list[Plain]:
    above, below = _holm([one.above for one in tests]), _holm([one.below for one in tests])
    found = []
    for one, is_above, is_below in zip(tests, above, below, strict=True):
        verdict = "supported" if is_above else "undecided"
        verdict = "not supported" if is_below else verdict
        found.append(Plain(one.value, one.low, one.high, verdict))
    return found


def _holm(p_values: Sequence[float]) -> list[bool]:
    """Which hypotheses are rejected: the smallest p at 0.05 / m, the next at 0.05 / (m - 1), ..."""
    rejected = [False] * len(p_values)
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        if p_values[at] > 0.05 / (len(p_values) - rank):
            break
        rejected[at] = True
    return rejected
