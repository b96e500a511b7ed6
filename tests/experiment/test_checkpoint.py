"""Checkpoints: training continues as if never stopped, and files of others are refused."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import LogError, TrainingError
from pruneviz.experiment.checkpoint import parts_of, restore_checkpoint, write_checkpoint
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample, subset
from pruneviz.experiment.training import TrainingState, start, train
from pruneviz.plans.run_plan import RunPlan
from tests.support.file_sizes import largest_file
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
                    write_checkpoint(parts_of(state), recorder.log.checkpoint)
                    raise InterruptedError

            assert restore_checkpoint(state, recorder.log.checkpoint) == resume
            assert recorder.next_epoch() == (state.epoch + 1 if resume else 0)
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


def checkpoints(folder: Path) -> list[int]:
    """Epochs of the checkpoints in a folder."""
    return sorted(int(file.name.split("-")[1]) for file in folder.glob("epoch-*.pt"))


def saved(folder: Path, *epochs: int) -> list[Path]:
    """Checkpoints of a network whose weights are the number of the epoch, in a folder."""
    files = []
    for epoch in epochs:
        state = start(network(), PLAN)
        state.epoch = epoch
        with torch.no_grad():
            state.network.get_parameter("1.bias").fill_(epoch)
        write_checkpoint(parts_of(state), folder)
        files += folder.glob(f"epoch-{epoch:05d}-*.pt")
    return files


def restored(folder: Path, logged: int | None = None, lost: str | None = None) -> int | None:
    """The epoch of the checkpoint that is restored; None if there is none."""
    state = start(network(1), PLAN)
    if not restore_checkpoint(state, folder, logged, lost):
        return None
    assert (state.network.get_parameter("1.bias") == state.epoch).all()
    return state.epoch


def flipped(file: Path, bit: int) -> None:
    """Flip one bit of a file; bits count on from its end to its beginning."""
    content = bytearray(file.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    file.write_bytes(content)


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for epoch, kept in ((1, [1]), (2, [1, 2]), (5, [2, 5]), (9, [5, 9])):
        saved(tmp_path, epoch)
        assert checkpoints(tmp_path) == kept
    assert len(list(tmp_path.iterdir())) == 2
    assert restored(tmp_path) == 9
    saved(tmp_path, 7)  # of a training that went on from 5
    assert checkpoints(tmp_path) == [5, 7]


def test_the_earlier_checkpoint_takes_over_from_a_damaged_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier, last = saved(tmp_path, 4, 8)
    flipped(last, 1000)
    assert restored(tmp_path) == 4
    assert caplog.messages == [
        f"{last} is damaged; training goes on from the checkpoint of epoch 4"
    ]
    assert [*tmp_path.iterdir()] == [earlier]
    assert restored(tmp_path) == 4
    assert len(caplog.messages) == 1


def test_without_a_whole_checkpoint_the_files_are_named(tmp_path: Path) -> None:
    files = saved(tmp_path, 4, 8)
    for file in files:
        flipped(file, 1000)
    with pytest.raises(TrainingError) as caught:
        restored(tmp_path)
    assert str(caught.value) == (
        f"{files[1]} and {files[0]} are damaged, and there is no other checkpoint; "
        "delete them to train this run from the start"
    )
    assert checkpoints(tmp_path) == [4, 8]


def damage_is_noticed(tmp_path: Path, bits: int) -> None:
    """Flip seeded bits of a checkpoint, each alone."""
    (file,) = saved(tmp_path, 3)
    whole = file.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), bits):
        flipped(file, bit)
        with pytest.raises(TrainingError, match="is damaged, and there is no other"):
            restored(tmp_path)
        file.write_bytes(whole)
    assert restored(tmp_path) == 3


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    damage_is_noticed(tmp_path, 40)


@pytest.mark.soak
def test_every_one_of_many_flipped_bits_is_noticed(tmp_path: Path) -> None:
    damage_is_noticed(tmp_path, 3600)


@pytest.mark.parametrize(
    ("logged", "lost", "said"),
    [
        (
            7,
            None,
            "the parts of epoch 8 are missing, so the log ends at epoch 7, and {}; restore them",
        ),
        (5, "6 is missing", "6 is missing, so the log ends at epoch 5, and {}; restore it"),
        (-1, "0 is corrupt", "0 is corrupt, so the log holds no epoch, and {}; restore it"),
    ],
)
def test_a_checkpoint_beyond_the_log_says_that_the_log_lost_a_part(
    tmp_path: Path, logged: int, lost: str | None, said: str
) -> None:
    _, last = saved(tmp_path, 4, 8)
    with pytest.raises(TrainingError) as caught:
        restored(tmp_path, logged, lost)
    assert str(caught.value) == (
        said.format(f"{last} is of epoch 8")
        + " from a backup, or delete the run and record it again"
    )
    assert checkpoints(tmp_path) == [4, 8]
    assert restored(tmp_path, 8) == 8


def test_the_one_checkpoint_of_an_earlier_version_is_read_and_then_replaced(tmp_path: Path) -> None:
    (file,) = saved(tmp_path, 3)
    file.rename(tmp_path / "state.pt")
    assert restored(tmp_path) == 3
    with pytest.raises(TrainingError, match="the log ends at epoch 2"):
        restored(tmp_path, 2)
    saved(tmp_path, 4, 5)
    assert restored(tmp_path) == 5
    assert not (tmp_path / "state.pt").exists()


def test_a_checkpoint_that_cannot_be_read_is_an_error_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 4, 8)
    read, fails = Path.read_bytes, errno.EMFILE

    def refuse(file: Path) -> bytes:
        if "00008" in file.name:
            raise OSError(fails, os.strerror(fails))
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(LogError, match=r"cannot read .*epoch-00008.*Too many open files; make it"):
        restored(tmp_path)
    assert checkpoints(tmp_path) == [4, 8]
    fails = errno.EIO  # a bad place of the disk is damage
    assert restored(tmp_path) == 4


@pytest.mark.parametrize("older", [False, True], ids=["by digest", "state.pt"])
@pytest.mark.parametrize("kind", ["malice", "garbage", "truncated", "another network", "no state"])
def test_a_checkpoint_that_is_not_ours_is_refused_and_never_unpickled(
    tmp_path: Path, kind: str, older: bool
) -> None:
    state, file = start(network(), PLAN), tmp_path / "state.pt"
    another = start(nn.Linear(2, 2), PLAN)
    write_checkpoint(parts_of(another if kind == "another network" else state), tmp_path)
    (written,) = tmp_path.iterdir()
    written.rename(file)
    whole = file.read_bytes()
    if kind == "malice":
        torch.save({"network": Malice(tmp_path / "harm")}, file)
    elif kind == "no state":
        torch.save({"epoch": 1}, file)
    elif kind != "another network":
        file.write_bytes(b"no checkpoint" if kind == "garbage" else whole[: len(whole) // 2])
    if not older:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        file = file.rename(tmp_path / f"epoch-00001-{digest}.pt")
    with pytest.raises(
        TrainingError,
        match=rf"{file.name} is corrupt or belongs to another network .*delete it to train",
    ) as error:
        restore_checkpoint(state, tmp_path)
    assert not (tmp_path / "harm").exists()
    assert "Re-running" not in str(error.value), (
        "torch's own message advises to unpickle it after all"
    )


def test_a_full_disk_keeps_the_checkpoints_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved(tmp_path, 1, 2)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(LogError) as caught:
        broken.setattr(os, "fsync", full)
        saved(tmp_path, 3)
    assert "No space left on device; free some space" in str(caught.value)
    assert sorted(tmp_path.iterdir()) == sorted(before)
    assert restored(tmp_path) == 2


def test_a_disk_that_cannot_be_written_to_is_named_with_its_repair(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text("in the way")
    with pytest.raises(LogError, match=r"cannot write to .*checkpoint: .*in the way; move it away"):
        write_checkpoint(parts_of(start(network(), PLAN)), tmp_path / "checkpoint")


def test_a_limit_on_file_sizes_keeps_the_checkpoint_before_wherever_it_strikes(
    tmp_path: Path,
) -> None:
    (before,) = saved(tmp_path, 1)
    size = before.stat().st_size
    for limit in [*range(0, size, size // 40), size - 1]:
        with largest_file(limit), pytest.raises(LogError) as caught:
            saved(tmp_path, 2)
        assert str(caught.value) == (
            f"cannot write to {tmp_path}: File too large; raise the limit on the size of a file "
            "(ulimit -f), or choose another folder"
        )
        assert [*tmp_path.iterdir()] == [before]
    assert restored(tmp_path) == 1
