"""A power failure at any moment: the run goes on to the recording it would have been, or says why.

The operations of a recording on its files are noted, among them an interruption and the resume
after it. Folders as a power failure may leave them are made from the first operations, and the
command that was running is repeated there.
"""

from __future__ import annotations

import functools
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.experiment.checkpoint import parts_of, restore_checkpoint, write_checkpoint
from pruneviz.experiment.training import start
from pruneviz.log.leftovers import remove_leftovers
from pruneviz.log.spec_file import is_sealed
from pruneviz.recording.kept_weights import drop_kept_after, keep_weights, kept_epochs, load_tensors
from tests.support.plans import UNPRUNED
from tests.support.power_loss import Disk, Operation, recorded_operations

EPOCHS, INTERRUPTED = 5, 3
COLUMNS = ["theta_g", "update_size", "distance_from_init"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


def record(path: Path, stop: Callable[[int], None] = lambda epoch: None) -> None:
    """Record a run as `pruneviz record` does, or go on with it: every file that a run can have."""
    if (path / "spec.json").exists() and is_sealed(path):
        remove_leftovers([path])
        return
    state = start(network(), UNPRUNED)
    state.generator.manual_seed(0)
    sample = torch.ones(4, 1, 3, 3).cumsum(0), torch.tensor([0, 1, 0, 1])
    how: dict[str, Any] = {"every": 2, "columns": COLUMNS, "measure_last": False}
    how["resume"] = (path / "spec.json").exists()
    with pv.Recorder(state.network, sample, path, **how) as recorder:
        logged = -1 if recorder.last_epoch is None else recorder.last_epoch
        restore_checkpoint(state, recorder.log.checkpoint, logged)
        recorder.rewind(state.epoch or -1)
        drop_kept_after(path, state.epoch or -1)
        for epoch in range(state.epoch + 1 if state.epoch else 0, EPOCHS + 1):
            if epoch:
                train(state.network, state.optimizer, state.generator)
            state.epoch = epoch
            recorder.after_epoch(epoch)
            if epoch % 2 == 0:
                keep_weights(state.network, path, epoch)
            stop(epoch)
            if epoch:
                write_checkpoint(parts_of(state), recorder.log.checkpoint)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    images = torch.rand(6, 1, 3, 3, generator=generator)
    optimizer.zero_grad()
    model(images)[:, 0].sum().backward()
    optimizer.step()


def interrupt(epoch: int) -> None:
    if epoch == INTERRUPTED:
        raise KeyboardInterrupt


def whole(path: Path) -> dict[str, Any]:
    """All that a finished run holds, apart from the names of its folders and times."""
    assert sorted(file.name for file in path.iterdir() if file.is_dir()) == ["weights"]
    runs = pv.load(path)
    tables = {
        name: getattr(runs, name).drop(columns=["run", "seconds"], errors="ignore")
        for name in ("epochs", "filters", "rounds")
    }
    weights = {
        epoch: load_tensors(path / f"weights/{epoch:05d}.safetensors")
        for epoch in kept_epochs(path)
    }
    return {**tables, "weights": weights}


def check_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("epochs", "filters", "rounds"):
        pd.testing.assert_frame_equal(found[name], expected[name], check_exact=True)
    assert found["weights"].keys() == expected["weights"].keys()
    for epoch, tensors in expected["weights"].items():
        for name, value in tensors.items():
            assert torch.equal(found["weights"][epoch][name], value)


@functools.cache
def recorded(folder: Path) -> tuple[list[Operation], dict[str, Any]]:
    """The operations of a recording that was interrupted once, and what it recorded."""
    with recorded_operations(folder) as operations:
        with pytest.raises(KeyboardInterrupt):
            record(folder / "run", interrupt)
        record(folder / "run")
    return operations, whole(folder / "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


def contents(folder: Path) -> dict[Path, bytes]:
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_every_operation_is_noted(folder: Path, tmp_path: Path) -> None:
    operations, _ = recorded(folder)
    Disk(operations).leave(tmp_path)
    assert contents(tmp_path) == contents(folder)
    assert Counter(operation.kind for operation in operations)["flush folder"] > 40


def goes_on_or_says_why(folder: Path, tmp_path: Path, failures: int) -> Counter[str]:
    operations, expected = recorded(folder)
    chance, outcomes = random.Random(3), Counter[str]()
    for number in range(failures):
        until = chance.randrange(len(operations) + 1)
        out = tmp_path / str(number)
        Disk(operations[:until]).leave(out, chance)
        try:
            with pytest.MonkeyPatch.context() as quick:
                quick.setattr(os, "fsync", lambda handle: None)
                record(out / "run")
        except LogError as error:
            outcomes[str(error).replace(str(out), "")] += 1
        else:
            check_equal(whole(out / "run"), expected)
            outcomes["equal"] += 1
    return outcomes


def test_a_run_goes_on_after_a_power_failure_as_if_there_had_been_none(
    folder: Path, tmp_path: Path
) -> None:
    assert goes_on_or_says_why(folder, tmp_path, 14) == {"equal": 14}


@pytest.mark.soak
def test_a_run_goes_on_after_any_of_many_power_failures(folder: Path, tmp_path: Path) -> None:
    assert goes_on_or_says_why(folder, tmp_path, 1000) == {"equal": 1000}
