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
import torch.nn.functional as F

import pruneviz as pv
from pruneviz.experiment import run
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import normalise, subset
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.setting import Setting, is_recorded
from pruneviz.log import files
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.run_plan import RunPlan
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
OWN = ("own loop", "own loop, saved first")
KINDS = (*PLANS, *OWN)

# Facts and columns that tell when and how fast a run was recorded.
_TIMES = ("created", "wall_seconds", "forward_seconds_before", "forward_seconds_after", "files")


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
    run._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    with _killed_at(at, counted):
        if kind in PLANS:
            plan, setting = PLANS[kind], Setting(folder, threads=1)
            if not is_recorded(plan, setting):  # as the command does
                run.record_run(plan, setting, ignore)
        else:
            _own_loop(folder, saved_first=kind != OWN[0])


def _own_loop(folder: Path, *, saved_first: bool) -> None:
    """The loop of docs/loops.md."""
    data = subset(load_dataset("digits"), 6, 4, seed=0)
    images, labels = normalise(data.train_images), data.train_labels
    torch.manual_seed(0)
    network = build_network("vgg13", num_classes=10, width=0.0625)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    saved = folder / "own.pt"
    recorder = pv.Recorder(network, (images, labels), folder / "run", every=2, resume="auto")
    if recorder.finished:
        return
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        recorder.load_state_dict(state["recorder"])

    def save() -> None:
        parts = {"network": network, "optimizer": optimizer, "recorder": recorder}
        state = {name: part.state_dict() for name, part in parts.items()}
        files.write_whole(saved, lambda path: torch.save(state, path))

    first = 0 if recorder.last_epoch is None else recorder.last_epoch + 1
    with recorder:
        for epoch in range(first, EPOCHS + 1):
            if epoch:
                _trained(network, optimizer, images, labels, epoch)
            if saved_first:
                save()
            recorder.after_epoch(epoch)
            if not saved_first:
                save()


def _trained(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    epoch: int,
) -> None:
    network.train()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
    for chosen in order.split(32):
        optimizer.zero_grad()
        F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()


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
    facts = runs.spec.drop(columns=[*_TIMES], errors="ignore").iloc[0].to_dict()
    return tables, facts
