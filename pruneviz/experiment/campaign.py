"""Record many runs in parallel, after checking their shared requirements once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruneviz.console.time_limit import TimeLimit
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.experiment.node_task import wait_until_idle
from pruneviz.experiment.parallel import Device, available_device, run_jobs
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.workers import Job, Report
from pruneviz.log.runs import load
from pruneviz.log.spec_file import read_spec
from pruneviz.log.spooled_runs import check_many_processes
from pruneviz.plans.run_plan import RunPlan

if TYPE_CHECKING:
    from pruneviz.measuring.ranks import Ranks


def check_data_sets(names: Sequence[str], images: Path | None, download: bool = False) -> None:
    """Check that data sets exist before any process starts; download missing ones if allowed.

    Args:
        names: Data sets; repeats are allowed.
        images: Folder with the data sets. Default: see `load_dataset`.
        download: Whether torchvision may download a missing data set.

    Raises:
        PresetError: If a name is unknown.
        DataError: If files are missing or damaged, or a download fails.
    """
    from pruneviz.experiment.datasets import find_dataset

    for name in dict.fromkeys(names):
        find_dataset(name, root=images, download=download)


def record_runs(
    plans: Sequence[RunPlan],
    setting: Setting,
    jobs: int,
    say: Callable[[str], None],
    engine: Engine = LOCAL,
    limit: TimeLimit | None = None,
) -> None:
    """Record runs in worker processes, here or on other machines, and show their progress.

    Args:
        plans: The runs; unfinished ones are resumed.
        setting: Where and how to record them. Workers never download: `check_data_sets` does.
        jobs: Number of workers.
        say: Prints one line.
        engine: Where. Default: on this machine.
        limit: When to stop. Default: once all runs have ended.

    Raises:
        PrunevizError: If runs failed or their processes died; raised after the others finish, with
            names and reasons. At once if the engine cannot be reached.
        Stopped: If a signal or the limit asked to stop; raised once the runs have written their
            checkpoints.
    """
    check_many_processes(setting.out)
    setting = replace(setting, download=False)  # only one process may write into the folder
    record = record_one if engine.is_local else record_elsewhere
    work = [Job(plan.run, plan.epochs, partial(record, plan, setting)) for plan in plans]
    run_jobs(work, jobs, say, engine, setting.out, limit=limit)


def record_elsewhere(plan: RunPlan, setting: Setting, report: Report, stop: Stop) -> str:
    """Record on a machine that was not asked before whether it has a GPU."""
    available_device(Device(setting.device))
    wait_until_idle(setting.out / plan.run, report)
    return record_one(plan, setting, report, stop)


def record_one(
    plan: RunPlan, setting: Setting, report: Report, stop: Stop, ranks: Ranks | None = None
) -> str:
    """Record the run of a plan, and say in a sentence what came of it.

    Args:
        plan: What to record.
        setting: Where and how.
        report: Called with the epochs done and a note.
        stop: Says when to stop.
        ranks: The processes that train the run together. Default: this one alone.

    Returns:
        The sentence; "" on other ranks than the first.
    """
    from pruneviz.experiment.run import record_run
    from pruneviz.measuring.ranks import ALONE

    ranks = ranks or ALONE
    # another command may have finished it meanwhile
    if not ranks.first(f"the run {plan.run}", lambda: is_recorded(plan, setting)):
        record_run(plan, setting, report, stop, ranks)
    return _result(plan, setting.out / plan.run) if ranks.is_first else ""


def _result(plan: RunPlan, path: Path) -> str:
    accuracy = load(path).epochs["test_acc"].iloc[-1]
    epochs = f"{plan.epochs} epoch{'s' * (plan.epochs != 1)}"
    removed = _removal_in_words(read_spec(path).extra)
    return f"recorded {epochs}, test accuracy {accuracy:.1%}{removed}"


def _removal_in_words(facts: Mapping[str, Any]) -> str:
    """End of a message: savings by removal, or why removal was not possible.

    Empty for a run that never prunes.
    """
    if "not_removed" in facts:
        return f"; {facts['not_removed']}"
    if "parameters_before" not in facts:
        return ""
    parameters = f"{facts['parameters_before']:,} to {facts['parameters_after']:,} parameters"
    macs = [facts[f"macs_{when}"] / 1e6 for when in ("before", "after")]
    seconds = [facts[f"forward_seconds_{when}"] for when in ("before", "after")]
    work = f"{macs[0]:.3g} to {macs[1]:.3g} million MACs"
    speed = f"{1e3 * seconds[0]:.3g} to {1e3 * seconds[1]:.3g} ms per forward pass"
    masked = facts["filters_masked"]
    kept = f", {masked} filters masked in place" if masked else ""
    return f"; removing {facts['filters_removed']} filters: {parameters}, {work}, {speed}{kept}"
