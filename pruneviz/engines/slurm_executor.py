"""Slurm as an executor, by submitit: tasks that come together are one array job.

A job that Slurm preempts, or whose time is over, saves what its task holds and is queued again.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruneviz.console.stop_signals import exit_code
from pruneviz.engines.engine import Engine
from pruneviz.engines.task_future import TaskFuture
from pruneviz.errors import PrunevizError

_TOGETHER = 0.5  # seconds within which tasks are submitted together
_BETWEEN_LOOKS = 1.0  # seconds


@dataclass
class _Task:
    """A task, its future and, once it is submitted, its job."""

    future: TaskFuture
    call: Requeued
    job: Any = None


class Requeued:
    """A call that submitit can save before its job is queued again.

    The function may have a method `save`, which another process could not call: it is called when
    the job has to leave its node.

    Args:
        function: The function; it must be picklable, and go on where it stood if called again.
        arguments: Its arguments.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self._function, self._arguments, self._named = function, arguments, named

    def __call__(self) -> Any:
        """Call the function in a job, and save it when a signal asks to."""
        requeue = signal.getsignal(signal.SIGUSR2)
        if callable(requeue):  # some clusters send this one instead
            signal.signal(signal.SIGUSR1, requeue)
        signal.signal(signal.SIGTERM, self._end)
        return self._function(*self._arguments, **self._named)

    def checkpoint(self) -> Any:
        """Save the call, for submitit, which queues its job again."""
        from submitit.helpers import DelayedSubmission

        self._save()
        return DelayedSubmission(Requeued(self._function, self._arguments, self._named))

    def _save(self) -> None:
        getattr(self._function, "save", _nothing)()

    def _end(self, number: int, frame: object) -> None:
        """Save and end without a result: Slurm itself queues a job again that it preempts."""
        self._save()
        os._exit(exit_code(number))


class SlurmExecutor(Executor):
    """Tasks as jobs of Slurm.

    Args:
        engine: What each task gets; `resources` are options of sbatch, `time` (minutes) among them.
        folder: Folder that all machines share, for the jobs and what they print.
        cluster: "local" runs the jobs on this machine, without Slurm, as submitit does for tests.

    Raises:
        PrunevizError: If Slurm is not there, the time is missing, or sbatch has no such option.
    """

    def __init__(self, engine: Engine, folder: Path, cluster: str = "slurm") -> None:
        import submitit

        where = folder.absolute() / "%j"
        try:
            tries = {f"{cluster}_max_num_timeout": engine.tries}
            self._executor = submitit.AutoExecutor(where, cluster=cluster, **tries)
        except RuntimeError as error:
            raise PrunevizError(
                f"there is no Slurm on this machine ({error}); start the command where sbatch is"
            ) from error
        self._executor.update_parameters(**_parameters(engine))
        self._new: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._state = _State()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a task, with those that come within half a second as one array job."""
        if self._state.is_shut:
            raise RuntimeError("no task can be submitted after shutdown")
        task = _Task(TaskFuture(), Requeued(fn, args, kwargs))
        self._new.put(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the jobs, or cancel them."""
        self._state.is_shut = True
        self._state.cancels = cancel_futures
        if wait or cancel_futures:
            self._thread.join()

    def _follow(self) -> None:
        """Submit what is new, and look at the jobs, until there are none and no more come."""
        tasks = self._state.tasks
        while tasks or not self._new.empty() or not self._state.is_shut:
            new = self._together()
            if new:
                self._begin(new)
                tasks += new
            for task in list(tasks):
                if self._state.cancels:
                    task.future.cancel()
                if task.future.done() or _has_ended(task):
                    tasks.remove(task)

    def _together(self) -> list[_Task]:
        """The tasks that come one soon after the other."""
        found: list[_Task] = []
        try:
            found.append(self._new.get(timeout=_BETWEEN_LOOKS))
            until = time.monotonic() + _TOGETHER
            while (left := until - time.monotonic()) > 0:
                found.append(self._new.get(timeout=left))
        except queue.Empty:
            pass
        return [task for task in found if not task.future.cancelled()]

    def _begin(self, tasks: list[_Task]) -> None:
        try:
            with self._executor.batch():
                for task in tasks:
                    task.job = self._executor.submit(task.call)
        except Exception as error:  # what sbatch says, or the disk
            for task in tasks:
                task.future.settle(error=error)
            return
        for task in tasks:
            task.future.withdraw = task.job.cancel
            if task.future.cancelled():  # in between
                task.job.cancel()


@dataclass
class _State:
    """What the thread that follows the jobs is told, and what it follows."""

    is_shut: bool = False
    cancels: bool = False
    tasks: list[_Task] = field(default_factory=list)


def _has_ended(task: _Task) -> bool:
    """Whether the job of a task has ended; its future then has the result."""
    try:
        if not task.job.done():
            return False
        task.future.settle(task.job.result())
    except Exception as error:  # that of the task, or that the job ended without a result
        task.future.settle(error=error)
    return True


def _parameters(engine: Engine) -> dict[str, Any]:
    """Parameters of submitit; but for the time, options of sbatch are passed on as they are."""
    given = {name.replace("_", "-"): text for name, text in engine.resources.items()}
    minutes = given.pop("time", "")
    if not minutes.isdecimal() or int(minutes) == 0:
        raise PrunevizError(
            f"time={minutes or 'unknown'}; the engine slurm has to know how many minutes a job may "
            "take, so add the resource time=MINUTES"
        )
    return {
        "name": "pruneviz",
        "timeout_min": int(minutes),
        "cpus_per_task": engine.cpus or 1,
        "gpus_per_node": int(engine.gpus or 0) or None,
        "slurm_additional_parameters": given or None,
    }


def _nothing() -> None:
    """No-op, for functions that have nothing to save."""
