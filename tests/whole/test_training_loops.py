"""Loops of Accelerate and timm: recorded exactly, and trained as without a recorder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm import create_model
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pruneviz as pv
from tests.support.short_recordings import SAMPLE, at, network

EPOCHS = 2
AfterEpoch = Callable[[int], None]
Loop = Callable[[nn.Module, AfterEpoch], None]


def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(TensorDataset(*SAMPLE), batch_size=len(SAMPLE[0]) // 2)


def accelerated(precision: str) -> Loop:
    def loop(model: nn.Module, after_epoch: AfterEpoch) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        prepared, optimizer, batches = accelerator.prepare(model, optimizer, loader())
        after_epoch(0)
        for epoch in range(1, EPOCHS + 1):
            for inputs, targets in batches:
                optimizer.zero_grad()
                accelerator.backward(F.cross_entropy(prepared.train()(inputs), targets))
                optimizer.step()
            after_epoch(epoch)

    return loop


def timms(model: nn.Module, after_epoch: AfterEpoch) -> None:
    average = ModelEmaV3(model)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3)
    scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=EPOCHS)
    criterion = SoftTargetCrossEntropy()
    after_epoch(0)
    for epoch in range(1, epochs + 1):
        for inputs, targets in loader():
            loss = criterion(model.train()(inputs), F.one_hot(targets, 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update(model)
        after_epoch(epoch)
        scheduler.step(epoch)


def vision_transformer() -> nn.Module:
    torch.manual_seed(0)
    channels, size = SAMPLE[0].shape[1:3]
    how = {"img_size": size, "patch_size": size // 2, "in_chans": channels}
    return create_model("test_vit", num_classes=10, drop_rate=0.1, **how)


CASES = {
    "accelerate": (accelerated("no"), network),
    "accelerate in bf16": (accelerated("bf16"), network),
    "timm": (timms, vision_transformer),
}


@pytest.mark.filterwarnings("ignore:::accelerate|torch.utils.data")
@pytest.mark.parametrize("name", CASES)
def test_a_loop_is_recorded_exactly_and_trains_as_without_a_recorder(
    tmp_path: Path, name: str
) -> None:
    loop, build = CASES[name]
    alone, recorded, exact = build(), build(), build()
    torch.manual_seed(0)
    loop(alone, lambda epoch: None)
    with pv.Recorder(recorded, SAMPLE, tmp_path / "run", every=1) as recorder:
        torch.manual_seed(0)
        loop(recorded, recorder.after_epoch)
    for key, value in alone.state_dict().items():
        assert torch.equal(recorded.state_dict()[key], value), key
    exact.load_state_dict(recorded.state_dict())
    measured, logged = pv.measure(exact, SAMPLE), at(pv.load(tmp_path / "run"), EPOCHS)
    for column in ("theta_norm2", "theta_g", "theta_hg"):
        assert logged[column].equals(measured[column].astype("float32")), column
