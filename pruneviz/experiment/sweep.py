"""The runs of a sweep: how far each is, and all that are not recorded in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pruneviz.console.time_limit import TimeLimit
from pruneviz.engines.engine import LOCAL, Engine
from pruneviz.errors import LogError
from pruneviz.experiment.campaign import record_one
from pruneviz.experiment.node_task import wait_until_idle
from pruneviz.experiment.own_training import check_call, own_epochs, train_own
from pruneviz.experiment.parallel import Device, available_device, run_jobs
from pruneviz.experiment.setting import Setting, check_measure, damage_of, progress_of
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.workers import Job, Report
from pruneviz.log.leftovers import remove_leftovers
from pruneviz.log.run_lock import recorded_by
from pruneviz.log.spec_file import SPEC_FILE, is_sealed
from pruneviz.log.spooled_runs import check_many_processes
from pruneviz.log.sweep_notes import Note, as_kept, keep_note, note_of
from pruneviz.plans.own_runs import OwnRun
from pruneviz.plans.run_plan import precision_on
from pruneviz.plans.sweep_runs import RecordedRun

AnyRun = RecordedRun | OwnRun
STATES = ("recorded", "running", "failed", "unfinished", "missing")


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        word: "recorded"; "running", by another process; "failed", the last time or for what is in
            its folder; "unfinished"; "missing".
        why: By which process it is recorded, or why it failed.
    """

    word: Literal["recorded", "running", "failed", "unfinished", "missing"]
    why: str = ""


def check_runs(runs: Sequence[AnyRun], setting: Setting) -> None:
    """Check that runs can be recorded, before any is.

    Args:
        runs: The runs.
        setting: Where and how to record them.

    Raises:
        PrunevizError: If one cannot: a measure, function or argument does not fit, a sink or a
            precision is missing.
    """
    from pruneviz.recording.sinks import makeable_sinks

    checked: set[str] = set()
    for run in runs:
        if isinstance(run, OwnRun):
            key = f"{run.function} {sorted(run.arguments)}"
            if key not in checked:
                check_call(run)
            checked.add(key)
            continue
        precision_on(setting.device, run.plan.precision)
        check_measure(run.plan)
        if str(run.sinks) not in checked:
            makeable_sinks(run.sinks)
        checked.add(str(run.sinks))


def state_of(run: AnyRun, setting: Setting) -> State:
    """How far a run of a sweep is.

    Args:
        run: The run.
        setting: Where it is recorded.
    """
    path, note = setting.out / run.run, note_of(setting.out, run.run)
    by = recorded_by(path)
    if by:
        return State("running", by)
    wrong = damage_of(path)
    try:
        if not wrong and isinstance(run, RecordedRun):
            word = progress_of(run.plan, _setting_of(run, setting))
        else:
            word = _own_progress(path)
            wrong = wrong or _other_call(run, note, path)
    except LogError as error:
        wrong = str(error)
    if wrong:
        return State("failed", wrong)
    if word != "recorded" and note.failed:
        return State("failed", note.failed)
    return State(word)


def record_sweep(
    runs: Sequence[AnyRun],
    setting: Setting,
    jobs: int,
    say: Callable[[str], None],
    engine: Engine = LOCAL,
    *,
    limit: TimeLimit | None = None,
) -> None:
    """Record runs of a sweep in worker processes, here or elsewhere; what fails stops no other.

    Args:
        runs: The runs; unfinished ones go on.
        setting: Where and how to record them.
        jobs: Number of workers.
        say: Prints one line.
        engine: Where. Default: on this machine.
        limit: When to stop. Default: once all runs have ended.

    Raises:
        PrunevizError: If runs failed or their processes died; raised after the others finish, with
            names and reasons, which are kept beside the runs.
        Stopped: If a signal or the limit asked to stop.
    """
    check_many_processes(setting.out)
    remove_leftovers(setting.out / run.run for run in runs)
    by_name = {run.run: run for run in runs}

    def failed(name: str, why: str) -> None:
        note, path = note_of(setting.out, name), setting.out / name
        # what is there is recorded by another command or call, which has not failed
        if not recorded_by(path) and not _other_call(by_name[name], note, path):
            keep_note(setting.out, name, replace(note, failed=why))

    work = [_job(run, replace(setting, download=False), engine) for run in runs]
    run_jobs(work, jobs, say, engine, setting.out, limit=limit, failed=failed)


def _job(run: AnyRun, setting: Setting, engine: Engine) -> Job:
    home = str(Path.cwd())
    epochs = own_epochs(run) if isinstance(run, OwnRun) else run.plan.epochs
    record = _record if engine.is_local else _record_elsewhere
    return Job(run.run, epochs, partial(record, run, setting, home))


def _record_elsewhere(run: AnyRun, setting: Setting, home: str, report: Report, stop: Stop) -> str:
    """Record on a machine that was not asked before whether it has a GPU."""
    available_device(Device(setting.device))
    wait_until_idle(setting.out / run.run, report)
    return _record(run, setting, home, report, stop)


def _record(run: AnyRun, setting: Setting, home: str, report: Report, stop: Stop) -> str:
    """Record a run in a worker process, unless another command does."""
    path = setting.out / run.run
    by = recorded_by(path)
    if by:
        return f"left to another command, it is being recorded {by}"
    note = note_of(setting.out, run.run)
    if isinstance(run, RecordedRun):
        if note.failed:
            keep_note(setting.out, run.run, Note())
        return record_one(run.plan, _setting_of(run, setting), report, stop)
    wrong = _other_call(run, note, path)
    if wrong:
        raise LogError(wrong)
    keep_note(setting.out, run.run, Note(as_kept(_call_of(run))))
    return train_own(run, setting.out, setting.threads, home, report, stop)


def _setting_of(run: RecordedRun, setting: Setting) -> Setting:
    return replace(
        setting,
        keep_weights=run.keep_weights,
        on_request=run.on_request,
        flow=run.flow,
        sinks=run.sinks,
    )


def _own_progress(path: Path) -> Literal["recorded", "unfinished", "missing"]:
    if not (path / SPEC_FILE).exists():
        return "missing"
    return "recorded" if is_sealed(path) else "unfinished"


def _call_of(run: AnyRun) -> dict[str, Any]:
    """What a run is begun with; of the reference experiment the spec says it."""
    if isinstance(run, RecordedRun):
        return {}
    return {"function": run.function, "arguments": dict(run.arguments)}


def _other_call(run: AnyRun, note: Note, path: Path) -> str:
    """Why what is recorded is not what a function would record now; "" if nothing says so."""
    if isinstance(run, RecordedRun) or not note.begun or not (path / SPEC_FILE).exists():
        return ""
    now = as_kept(_call_of(run))
    if note.begun == now:
        return ""
    was = {"function": note.begun.get("function"), **_arguments(note.begun)}
    new = {"function": run.function, **_arguments(now)}
    changed = [name for name in {**was, **new} if was.get(name) != new.get(name)]
    told = "; ".join(f"{name} was {was.get(name)!r}, now {new.get(name)!r}" for name in changed)
    return (
        f"{path} was begun with other arguments: {told}; use the old ones, give another name, or "
        "delete the folder"
    )


def _arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call.get("arguments")
    return arguments if isinstance(arguments, dict) else {}
