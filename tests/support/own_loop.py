"""A training loop of one's own with a checkpoint, which can be cut off at any point."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError
from tests.support.short_recordings import SAMPLE, network

EPOCHS = 3
Reached = Callable[[str], None]


class Cut(BaseException):
    """What ends a loop, as a signal would."""


def cut_at(point: int) -> tuple[Reached, list[str]]:
    """A function that is called at every point of a loop and ends it at one of them.

    Returns:
        The function, and the points that it has seen.
    """
    seen: list[str] = []

    def reached(name: str) -> None:
        seen.append(name)
        if len(seen) - 1 == point:
            raise Cut(name)

    return reached, seen


def run_loop(
    folder: Path,
    order: str,
    reached: Reached = lambda name: None,
    epochs: int = EPOCHS,
    **options: Any,
) -> None:
    """Train, record and save, or go on with what a folder holds.

    Args:
        folder: Of the recording and the checkpoint.
        order: "after", the checkpoint is saved after the epoch is recorded; or "before".
        reached: Called between any two steps.
        epochs: The last epoch.
        **options: Of the recorder.
    """
    torch.manual_seed(7)
    model = network(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    file = folder / "checkpoint.pt"
    reached("built")
    chosen = {"every": 2, "columns": "theta_g", "resume": "auto"} | options
    recorder = pv.Recorder(model, SAMPLE, folder / "run", **chosen)
    reached("recorder made")
    if file.exists():
        saved = torch.load(file)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        reached("restored")
        go_on(recorder, saved["recorder"])
    for epoch in range(first_epoch(recorder, lost=not file.exists()), epochs + 1):
        if epoch:
            train(model, optimizer, epoch)
        reached("trained")
        if order == "before":
            save(file, model, optimizer, recorder, reached)
        recorder.after_epoch(epoch)
        reached("recorded")
        if order == "after":
            save(file, model, optimizer, recorder, reached)
    recorder.close()
    reached("closed")


def go_on(recorder: pv.Recorder, state: dict[str, Any]) -> None:
    """Load a state, and make the call that an error names, if one does."""
    try:
        recorder.load_state_dict(state)
    except LogError as error:
        asked = str(error).partition("call recorder.after_epoch(")[2].partition(")")[0]
        if not asked:
            raise
        recorder.after_epoch(int(asked))


def first_epoch(recorder: pv.Recorder, *, lost: bool) -> int:
    """Where the loop goes on; without a checkpoint by the call that an error names, if one does."""
    try:
        return recorder.next_epoch()
    except LogError as error:
        asked = str(error).partition("if it is lost, call recorder.rewind(")[2].partition(")")[0]
        if not asked or not lost:
            raise
        recorder.rewind(int(asked))
        return recorder.next_epoch()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """Two steps, whose random numbers depend on the epoch alone."""
    torch.manual_seed(epoch)
    order = list(range(len(SAMPLE[1])))
    random.Random(epoch).shuffle(order)
    for part in (order[::2], order[1::2]):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(SAMPLE[0][part].double()), SAMPLE[1][part]).backward()
        optimizer.step()


def save(
    file: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recorder: pv.Recorder,
    reached: Reached,
) -> None:
    """Save a checkpoint, whole or not at all."""
    parts = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "recorder": recorder.state_dict(),
    }
    torch.save(parts, f"{file}.new")
    reached("written")
    Path(f"{file}.new").replace(file)
    reached("saved")
