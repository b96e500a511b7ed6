"""Tiny recordings that end by SIGKILL at a chosen file operation or moment, and go on afterwards.

A server process loads torch once and forks a process for every recording, so that one takes a
fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import pruneviz as pv
from pruneviz.experiment import run
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.log.leftovers import remove_leftovers
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.run_plan import RunPlan
from tests.support import own_loop
from tests.support.cut_off import ignore
from tests.support.plans import UNPRUNED, changed

EPOCHS = 3
_ROUNDS = PruningOptions("proposed", target=0.5, rounds=2)
_RUN = changed(UNPRUNED, run="run", epochs=EPOCHS, lr_drops=(2,), every=2)
_PRUNED = changed(_RUN, pruning=_ROUNDS)
PLANS: dict[str, RunPlan] = {
    "filter": _RUN,
    "weight": changed(_RUN, unit="weight"),
    "pruned": _PRUNED,
    "carried": changed(_PRUNED, carry_momentum=True),
    "flowandprune": changed(_PRUNED, flowandprune=True, augment=True),
}
# A loop of one's own that saves its checkpoint after or before it records the epoch.
OWN = {"own loop": "after", "own loop saved first": "before"}
KINDS = (*PLANS, *OWN)

# Facts and columns that tell when and how fast a run was recorded.
_TIMES = (
    "created",
    "wall_seconds",
    "forward_seconds_before",
    "forward_seconds_after",
    "table_files",
)


def server() -> ForkServerContext:
    """Where recordings are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def record(kind: str, folder: Path, at: int | None = None, counted: Any = None) -> None:
    """Record `folder / "run"` to its end, or up to a file operation that kills the process.

    Args:
        kind: One of `KINDS`.
        folder: Existing folder.
        at: Number of the operation before which the process is killed. Default: none.
        counted: Shared number, set to the count of operations.
    """
    torch.set_num_threads(1)
    run._SECONDS_BETWEEN_CHECKPOINTS = run._SECONDS_WITHOUT_CHECKPOINT = 0.0
    with _killed_at(at, counted):
        if kind in PLANS:
            plan, setting = PLANS[kind], Setting(folder, threads=1)
            remove_leftovers([folder / plan.run])  # as the command does
            if not is_recorded(plan, setting):
                run.record_run(plan, setting, ignore)
        else:
            own_loop.run_loop(folder, OWN[kind])


@contextmanager
def _killed_at(at: int | None, counted: Any) -> Iterator[None]:
    """Kill this process before its file operation of this number; count the operations."""
    done = 0

    def operation() -> None:
        nonlocal done
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        if counted is not None:
            counted.value = done

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            operation()
            return function(*args, **options)

        return call

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and _writes(args)):
            operation()

    os.fsync = before(os.fsync)  # this process ends with the recording
    sys.addaudithook(hook)
    yield


_EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.link"}


def _writes(args: tuple[Any, ...]) -> bool:
    return isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def content(folder: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The tables and facts of the run in a folder, but for times."""
    runs = pv.load(folder / "run", unfinished="error")
    tables = {
        table: getattr(runs, table).drop(columns="seconds", errors="ignore")
        for table in ("epochs", "filters", "rounds", "correlations")
    }
    facts = runs.spec.drop(columns=[*_TIMES], errors="ignore").iloc[0]
    return tables, {str(name): value for name, value in facts.items()}
