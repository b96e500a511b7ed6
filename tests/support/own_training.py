"""Training functions of a person, for sweeps: each takes a run directory and arguments."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

import pruneviz as pv

HERE = "tests.support.own_training"


def train(folder: Path, width: int = 2, seed: int = 0, epochs: int = 1) -> None:
    """Record a network of two layers in milliseconds; an interrupted run begins again."""
    network, sample = _parts(width, seed)
    facts = {"seed": seed}
    with pv.Recorder(network, sample, folder, every=1, spec=facts, resume="auto") as recorder:
        recorder.rewind(-1)
        for epoch in range(epochs + 1):
            recorder.after_epoch(epoch)


def train_unless(folder: Path, marker: str, how: str, seed: int = 0) -> None:
    """Fail in some way as long as a file is there."""
    if Path(marker).exists():
        _FAILURES[how](folder, seed)
    else:
        train(folder, seed=seed)


def keep_settings(folder: Path, seed: int) -> None:
    """Change settings of the process, and record only if no earlier run has left a change."""
    assert torch.get_default_dtype() == torch.float32
    train(folder, seed=seed)
    torch.set_default_dtype(torch.float64)


def wait_in_epoch(folder: Path, marker: str) -> None:
    """Record an epoch, say so by a file, and come to no other."""
    recorder = pv.Recorder(*_parts(2, 0), folder, every=1, resume="auto")
    recorder.rewind(-1)
    recorder.after_epoch(0)
    Path(marker).touch()
    signal.pause()


def _parts(width: int, seed: int) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * width, 2))
    return nn.Sequential(*layers), (torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]))


def _raise(folder: Path, seed: int) -> None:
    raise KeyError("lr")


def _raise_in_torch(folder: Path, seed: int) -> None:
    torch.zeros(2) @ torch.zeros(3)


def _leave_unfinished(folder: Path, seed: int) -> None:
    network, sample = _parts(2, seed)
    pv.Recorder(network, sample, folder, every=1, spec={"seed": seed}).after_epoch(0)


def _exit(folder: Path, seed: int) -> None:
    sys.exit("no data")


def _be_killed(folder: Path, seed: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _do_nothing(folder: Path, seed: int) -> None:
    """No-op."""


_FAILURES = {
    "raises": _raise,
    "torch": _raise_in_torch,
    "unfinished": _leave_unfinished,
    "exits": _exit,
    "killed": _be_killed,
    "nothing": _do_nothing,
}
