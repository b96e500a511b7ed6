"""The list of the runs that a command would record: what is there, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruneviz.console.command import tell, tell_damaged
from pruneviz.console.words import counted
from pruneviz.experiment.parallel import runs_at_once
from pruneviz.experiment.setting import Setting, progress_of, unreadable
from pruneviz.plans.durations import duration_in_words, expected_durations, total_in_words
from pruneviz.plans.run_plan import RunPlan

_TO_RECORD = ("missing", "unfinished")


def list_runs(
    plans: Sequence[RunPlan],
    setting: Setting,
    jobs: int | None,
    served: Mapping[str, Sequence[str]],
    command: str,
) -> None:
    """Print one line per run, and the duration of the missing ones.

    Args:
        plans: The runs.
        setting: Where they are recorded.
        jobs: Number of runs at once. Default: by device.
        served: The figures of each run, by its name.
        command: The command that records them.

    Raises:
        LogError: If a run was started with other options.
    """
    damaged = {plan.run: why for plan in plans if (why := unreadable(plan, setting))}
    progress = {
        plan.run: "damaged" if plan.run in damaged else progress_of(plan, setting) for plan in plans
    }
    durations = expected_durations(plans, setting.out)
    width = max(len(plan.run) for plan in plans)
    for plan in plans:
        state = progress[plan.run]
        epochs = counted(plan.epochs, "epoch")
        figures = f"figures {' '.join(served[plan.run])}" if plan.run in served else "no figure"
        time = f"  {duration_in_words(durations[plan.run])}" if state in _TO_RECORD else ""
        tell(f"{state:10}  {plan.run:{width}}  {epochs:>10}  {figures}{time}")
    left = [durations[plan.run] for plan in plans if progress[plan.run] in _TO_RECORD]
    if left:
        at_once = jobs or runs_at_once(setting.device)
        tell(
            f"{counted(len(left), 'run')} of {len(plans)} left to record, {at_once} at a time; "
            f"duration {total_in_words(left, at_once)}{not_counted(plans, setting)}"
        )
        tell(f"Record them with: {command}")
    tell_damaged(damaged.values())


def not_counted(plans: Sequence[RunPlan], setting: Setting) -> str:
    """What expected durations leave out, which may be most of the time, in words."""
    asked = {
        "columns on request": bool(setting.on_request.columns or setting.on_request.oracle),
        "half samples": any(plan.samples > 1 for plan in plans),
        "flow": setting.flow,
    }
    named = " and ".join(name for name, there in asked.items() if there)
    return f", without {named}" if named else ""
