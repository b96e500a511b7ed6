"""Expected durations of recordings, from similar finished ones or else from the preset."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from pruneviz.console.words import duration
from pruneviz.errors import LogError
from pruneviz.log.arguments import is_number
from pruneviz.log.spec_file import is_sealed, read_spec
from pruneviz.plans.presets import PRESETS
from pruneviz.plans.run_plan import RunPlan

Durations = Mapping[str, float | None]  # seconds by run; None where unknown
_Like = tuple[str | None, str | None, str | None, str]  # preset, network, data set, kind of run


def expected_durations(plans: Sequence[RunPlan], out: Path) -> dict[str, float | None]:
    """Expected seconds per run, alone on its share of the machine.

    The time per epoch is the mean over finished runs in `out` with the same preset, network, data
    set and kind; the initialisation counts as an epoch.
    A run that cannot be read tells none.

    Returns:
        Seconds by run name; None if unknown.
    """
    recorded = _recorded_seconds_per_epoch(out)
    expected: dict[str, float | None] = {}
    for plan in plans:
        like = (plan.preset, plan.network, plan.dataset, plan.kind)
        per_epoch = recorded.get(like, _preset_seconds_per_epoch(plan))
        expected[plan.run] = None if per_epoch is None else per_epoch * (plan.epochs + 1)
    return expected


def together(seconds: Sequence[float], jobs: int) -> float:
    """Total time of runs, `jobs` at a time, longest first."""
    free = [0.0] * max(1, jobs)
    for longest in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + longest)
    return max(free)


def longest_first(plans: Sequence[RunPlan], durations: Durations) -> list[RunPlan]:
    """Runs of unknown duration, then longest first, so that parallel processes end together."""
    return sorted(plans, key=lambda plan: -(durations[plan.run] or float("inf")))


def duration_in_words(seconds: float | None) -> str:
    """A duration in words; None is `unknown until a first one is recorded`."""
    return "unknown until a first one is recorded" if seconds is None else duration(seconds)


def total_in_words(durations: Sequence[float | None], jobs: int) -> str:
    """Total time for runs, `jobs` at a time, and the number of runs with unknown duration."""
    known = [seconds for seconds in durations if seconds is not None]
    unknown = len(durations) - len(known)
    if not known:
        return duration_in_words(None)
    total = duration(together(known, jobs))
    if not unknown:
        return total
    return f"{total}, and {unknown} of them whose duration is {duration_in_words(None)}"


def _recorded_seconds_per_epoch(out: Path) -> dict[_Like, float]:
    found: dict[_Like, list[float]] = {}
    for file in sorted(out.glob("*/spec.json")):
        try:
            if not is_sealed(file.parent):
                continue
            spec = read_spec(file.parent)
        except LogError:
            continue
        seconds = spec.extra.get("wall_seconds")
        if seconds is not None and is_number(seconds) and spec.epochs is not None:
            like = (spec.preset, spec.network, spec.dataset, spec.kind)
            found.setdefault(like, []).append(seconds / (spec.epochs + 1))
    return {like: mean(values) for like, values in found.items()}


def _preset_seconds_per_epoch(plan: RunPlan) -> float | None:
    preset = PRESETS.get(plan.preset)
    if preset is None or plan.dataset not in preset.datasets:
        return None
    return preset.scales[plan.kind].seconds_per_epoch.get(plan.network)
