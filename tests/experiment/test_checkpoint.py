"""Checkpoints: training continues as if never stopped, and files of others are refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError, TrainingError
from pruneviz.experiment.checkpoint import restore_checkpoint, save_checkpoint
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample, subset
from pruneviz.experiment.training import TrainingState, start, train
from pruneviz.plans.run_plan import RunPlan
from tests.support.hooks import Hooks

PLAN = RunPlan(
    "tiny-s0", "test", "tiny", "digits", 0, epochs=3, lr_drops=(2,), batch_size=16, augment=True
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return subset(load_dataset("digits"), 8, 4, seed=0)


def network(seed: int = 0, norm: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10)]
    return nn.Sequential(
        nn.AvgPool2d(4),
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        *head,
    )


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("stop", [1, 2])
def test_training_and_recording_go_on_from_a_checkpoint_as_if_never_stopped(
    data: ImageData, tmp_path: Path, stop: int
) -> None:
    sample = balanced_sample(data, 1)

    def run(path: Path, stop_after: int | None = None) -> TrainingState:
        state, resume = start(network(), PLAN), path.exists()
        with pv.Recorder(state.network, sample, path, every=1, resume=resume) as recorder:

            def after_epoch(epoch: int, **facts: float) -> None:
                recorder.after_epoch(epoch, **{**facts, "seconds": 0.0})
                if epoch == stop_after:
                    save_checkpoint(state, recorder.log.checkpoint)
                    raise InterruptedError

            assert restore_checkpoint(state, recorder.log.checkpoint) == resume
            train(state, data, PLAN, Hooks(after_epoch))
        return state

    whole = run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "cut", stop_after=stop)
    resumed = run(tmp_path / "cut")
    assert same_weights(resumed.network, whole.network)
    first, second = pv.load(tmp_path / "whole"), pv.load(tmp_path / "cut")
    for table in ("filters", "epochs"):
        pd.testing.assert_frame_equal(
            getattr(first, table).drop(columns="run"), getattr(second, table).drop(columns="run")
        )


def test_there_is_nothing_to_restore_before_the_first_checkpoint(tmp_path: Path) -> None:
    state = start(network(), PLAN)
    assert not restore_checkpoint(state, tmp_path / "checkpoint")
    assert state.epoch == 0


class Malice:
    """Something that runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["malice", "garbage", "truncated", "another network", "no state"])
def test_a_checkpoint_that_is_not_ours_is_refused_and_never_unpickled(
    tmp_path: Path, kind: str
) -> None:
    state, file = start(network(), PLAN), tmp_path / "state.pt"
    save_checkpoint(state, tmp_path)
    whole = file.read_bytes()
    if kind == "malice":
        torch.save({"network": Malice(tmp_path / "harm")}, file)
    elif kind == "another network":
        save_checkpoint(start(nn.Linear(2, 2), PLAN), tmp_path)
    elif kind == "no state":
        torch.save({"epoch": 1}, file)
    else:
        file.write_bytes(b"no checkpoint" if kind == "garbage" else whole[: len(whole) // 2])
    with pytest.raises(
        TrainingError,
        match=r"state\.pt is corrupt or belongs to another network .*delete it to train",
    ) as error:
        restore_checkpoint(state, tmp_path)
    assert not (tmp_path / "harm").exists()
    assert "Re-running" not in str(error.value), (
        "torch's own message advises to unpickle it after all"
    )


def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = start(network(), PLAN)
    save_checkpoint(state, tmp_path)
    state.epoch = 1

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LogError, match="No space left on device; free some space"):
        save_checkpoint(state, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert restore_checkpoint(state, tmp_path)
    assert state.epoch == 0


def test_a_disk_that_cannot_be_written_to_is_named_with_its_repair(tmp_path: Path) -> None:
    """torch reports some of these failures as RuntimeError, depending on how it is called."""
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / f".state.pt.{os.getpid()}.tmp").mkdir()  # in the way
    with pytest.raises(LogError, match=r"cannot write to .*checkpoint"):
        save_checkpoint(start(network(), PLAN), tmp_path / "checkpoint")


def test_a_failure_of_the_writer_itself_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(LogError, match=r"unexpected pos.*free some space"):
        save_checkpoint(start(network(), PLAN), tmp_path)
    assert list(tmp_path.iterdir()) == []
