"""Which runs the options of `pruneviz record` ask for, and which contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pruneviz.errors import PresetError, unknown_name
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.run_plan import RunPlan


def own_pruning(pruning: Mapping[str, Any], figures: Sequence[str]) -> PruningOptions | None:
    """Pruning options of custom runs; None for runs of figures.

    Args:
        pruning: Options of pruning, as a command gets them.
        figures: Figures that are asked for.

    Raises:
        PresetError: If the options do not say how to prune, or figures are asked for, too.
    """
    given = _given(pruning)
    if not given:
        return None
    named = _as_options(given)
    if "measure" not in given:
        raise PresetError(
            f"{named} says how to prune, but not by which measure; add one, such as "
            "--measure magnitude, or leave it out"
        )
    if figures:
        raise PresetError(
            "figures have measures and rounds of their own; leave out --figures, or leave out "
            f"{named}"
        )
    return PruningOptions(**given)


def check_alone(pruning: Mapping[str, Any], figures: Sequence[str]) -> None:
    """Check that baselines are not asked for together with other runs.

    Args:
        pruning: Options of pruning, as a command gets them.
        figures: Figures that are asked for.

    Raises:
        PresetError: If they are.
    """
    others = [*_given(pruning), *(["figures"] if figures else [])]
    if others:
        raise PresetError(
            "--baseline records runs that no figure needs and nothing prunes; leave out "
            f"{_as_options(others)}"
        )


def check_reached(epochs: Sequence[int], plans: Sequence[RunPlan]) -> None:
    """Check that some run reaches each epoch of --request-at.

    Args:
        epochs: The epochs.
        plans: All runs that are planned.

    Raises:
        PresetError: If none reaches one of them.
    """
    last = max(plan.epochs for plan in plans)
    beyond = [epoch for epoch in epochs if epoch > last]
    if beyond:
        raise PresetError(
            f"--request-at {beyond[0]}: no run has so many epochs; name epochs from 0 to {last}"
        )


def named_runs(plans: Sequence[RunPlan], names: Sequence[str]) -> list[RunPlan]:
    """The plans of some runs.

    Args:
        plans: All runs that are planned.
        names: Names of runs. Default: all.

    Raises:
        PresetError: If no planned run has one of these names.
    """
    known = [plan.run for plan in plans]
    for name in names:
        if name not in known:
            raise PresetError(
                unknown_name("run", name, known, "other options may plan it, see --list")
            )
    return [plan for plan in plans if not names or plan.run in names]


def _given(pruning: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in pruning.items() if value is not None and value is not False
    }


def _as_options(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
