"""How long recordings should take: from finished ones of their kind, else from what the catalogue knows, else unknown."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from pruneviz.log.run_directory import is_sealed, read_spec
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan

Durations = Mapping[str, float | None]  # seconds by run; None where unknown
_Kind = tuple[str | None, str | None, str | None, str]  # preset, network, data set, kind of run


def expected_durations(plans: Sequence[RunPlan], out: Path) -> dict[str, float | None]:
    """How long each run should take, in seconds, alone on its share of the machine: {run: seconds, None where unknown}.

    A run costs what an epoch took on average in the finished runs in `out` of the same preset, network, data set and kind,
    the initialisation counted as an epoch. Errors: `LogError` for a recording that is corrupt.
    """
    recorded = _recorded_seconds_per_epoch(out)
    known = {
        **{
            _kind(plan): seconds
            for plan in plans
            if (seconds := _catalogue_seconds_per_epoch(plan))
        },
        **recorded,
    }
    return {
        plan.run: known[_kind(plan)] * (plan.epochs + 1) if _kind(plan) in known else None
        for plan in plans
    }


def together(seconds: Sequence[float], jobs: int) -> float:
    """How long runs take in all, `jobs` at a time, the longest first."""
    free = [0.0] * max(1, jobs)
    for duration in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def longest_first(plans: Sequence[RunPlan], durations: Durations) -> list[RunPlan]:
    """The order in which processes side by side end together: the longest first, those of unknown length before all."""
    return sorted(plans, key=lambda plan: -(durations[plan.run] or float("inf")))


def duration_in_words(seconds: float | None) -> str:
    """A duration as a person would say it; `unknown until a first one is recorded` for None."""
    if seconds is None:
        return "unknown until a first one is recorded"
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "minutes"), (48 * 3600, 3600, "hours")):
        if seconds < limit:
            return f"about {max(1, round(seconds / unit))} {name}"
    return f"about {round(seconds / 86_400)} days"


def total_in_words(durations: Sequence[float | None], jobs: int) -> str:
    """How long runs should take in all, `jobs` at a time; of how many that is unknown."""
    known = [seconds for seconds in durations if seconds is not None]
    if not known:
        return duration_in_words(None)
    unknown = len(durations) - len(known)
    more = f", and {unknown} of them whose duration is {duration_in_words(None)}" if unknown else ""
    return duration_in_words(together(known, jobs)) + more


def _recorded_seconds_per_epoch(out: Path) -> dict[_Kind, float]:
    found: dict[_Kind, list[float]] = {}
    for path in (file.parent for file in sorted(out.glob("*/spec.json")) if is_sealed(file.parent)):
        spec = read_spec(path)
        seconds = spec.extra.get("wall_seconds")
        if seconds is not None and spec.epochs is not None:
            kind = (
                spec.preset,
                spec.network,
                spec.dataset,
                spec.kind,
            )
            found.setdefault(kind, []).append(seconds / (spec.epochs + 1))
    return {kind: mean(values) for kind, values in found.items()}


def _catalogue_seconds_per_epoch(plan: RunPlan) -> float | None:
    preset = PRESETS.get(plan.preset)
    if preset is None or plan.dataset not in preset.datasets:
        return None
    return preset.scales[plan.kind].seconds_per_epoch.get(plan.network)


def _kind(plan: RunPlan) -> _Kind:
    return plan.preset, plan.network, plan.dataset, plan.kind
