"""The reference training loop: the protocol of the paper, with callbacks after every epoch and checkpoints to go on from.

Data stay on the device as uint8; shuffling, cropping and flipping happen there in batches, from one seeded generator. Within an
epoch the loop never waits for the device: losses and hits are summed on it and read once, at the end.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.datasets import ImageData, augment, normalise
from pruneviz.errors import TrainingError
from pruneviz.experiments import RunPlan
from pruneviz.runlog import disk_errors

AfterEpoch = Callable[..., None]
Progress = Callable[[float, str], None]  # epochs done, with the fraction of the running one, and a note
_SECONDS_BETWEEN_REPORTS = 1.0


def ignore_progress(epochs_done: float, note: str) -> None:
    """A progress report for nobody."""


@dataclass
class TrainingState:
    """What a training run is made of between two epochs; `epoch` epochs are done."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    epoch: int = 0


def start(network: nn.Module, plan: RunPlan) -> TrainingState:
    """The state before the first epoch: SGD over all parameters, and a generator on their device with the plan's seed."""
    optimizer = torch.optim.SGD(network.parameters(), lr=plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay)
    device = next(network.parameters()).device
    return TrainingState(network, optimizer, torch.Generator(device).manual_seed(plan.seed))


def train(state: TrainingState, data: ImageData, plan: RunPlan, after_epoch: AfterEpoch, progress: Progress = ignore_progress) -> None:
    """Train from the state's epoch to the plan's last, calling `after_epoch(epoch, **facts)` before the first epoch and after each.

    Args: facts are columns of the epochs table: lr, train_loss (nats, at the training temperature), train_acc and test_acc (fractions),
    test_loss (nats, at temperature 1) and seconds. `progress` is told about every epoch, and within slow ones every second.
    Errors: `TrainingError` naming the epoch when the training loss is not finite.
    Source: Lubana and Dick, ICLR 2021, protocol of the published code.
    """
    if state.epoch == 0:
        after_epoch(0, **evaluate(state.network, data))
    for epoch in range(state.epoch + 1, plan.epochs + 1):
        began = time.perf_counter()
        rate = set_learning_rate(state.optimizer, plan, epoch)
        loss, accuracy = train_epoch(state, data, plan, progress)
        if not math.isfinite(loss):
            raise TrainingError(f"the training loss of epoch {epoch} is {loss}; lower the learning rate (now {rate:g})")
        state.epoch = epoch
        facts = {"lr": rate, "train_loss": loss, "train_acc": accuracy, "seconds": time.perf_counter() - began}
        facts |= evaluate(state.network, data)
        after_epoch(epoch, **facts)
        progress(epoch, f"test accuracy {facts['test_acc']:.1%}")


def set_learning_rate(optimizer: torch.optim.Optimizer, plan: RunPlan, epoch: int) -> float:
    """Set and return the rate of an epoch (from 1): tenfold less after every epoch of `plan.lr_drops`."""
    rate = plan.lr * 0.1 ** sum(epoch > drop for drop in plan.lr_drops)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def train_epoch(state: TrainingState, data: ImageData, plan: RunPlan, progress: Progress = ignore_progress) -> tuple[float, float]:
    """One pass over the training images; returns the mean loss (nats, at the training temperature) and the accuracy (fraction)."""
    state.network.train()
    images, labels = data.train_images, data.train_labels
    order = torch.randperm(len(labels), generator=state.generator, device=labels.device)
    totals, done, reported = torch.zeros(2, device=labels.device), 0, time.perf_counter()
    for chosen in order.split(plan.batch_size):
        batch = augment(images[chosen], state.generator) if plan.augment else images[chosen]
        totals += _step(state, normalise(batch), labels[chosen], plan.train_temperature)
        done += len(chosen)
        if time.perf_counter() - reported > _SECONDS_BETWEEN_REPORTS:
            reported = time.perf_counter()
            progress(state.epoch + done / len(order), "training")
    loss, hits = (totals / len(order)).tolist()
    return loss, hits


def _step(state: TrainingState, x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """One step of the optimiser; returns the summed loss and the hits, on the device."""
    output = state.network(x)
    loss = F.cross_entropy(output / temperature, y)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    return torch.stack([loss.detach() * len(y), (output.argmax(1) == y).sum().to(loss.dtype)])


@torch.no_grad()
def evaluate(network: nn.Module, data: ImageData, batch_size: int = 500) -> dict[str, float]:
    """Test loss (nats, at temperature 1) and test accuracy (fraction), in evaluation mode."""
    network.eval()
    totals = torch.zeros(2, device=data.test_labels.device)
    for images, labels in zip(data.test_images.split(batch_size), data.test_labels.split(batch_size), strict=True):
        output = network(normalise(images))
        totals += torch.stack([F.cross_entropy(output, labels, reduction="sum"), (output.argmax(1) == labels).sum().to(output.dtype)])
    loss, hits = (totals / len(data.test_labels)).tolist()
    return {"test_loss": loss, "test_acc": hits}


def save_checkpoint(state: TrainingState, folder: Path) -> None:
    """Keep a state on disk, whole or not at all; `LogError` when the disk cannot be written to."""
    parts = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "epoch": state.epoch,
    }
    temporary = folder / ".state.tmp"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                torch.save(parts, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / "state.pt")
        finally:
            temporary.unlink(missing_ok=True)


def restore_checkpoint(state: TrainingState, folder: Path) -> bool:
    """Bring a state back to the last checkpoint in a folder; False where there is none. Only tensors and numbers are read.

    Errors: `TrainingError` for a file that is corrupt, or the checkpoint of another network.
    """
    file = folder / "state.pt"
    if not file.exists():
        return False
    device = next(state.network.parameters()).device
    try:
        parts = torch.load(file, map_location=device, weights_only=True)
        state.network.load_state_dict(parts["network"])
        state.optimizer.load_state_dict(parts["optimizer"])
        state.generator.set_state(parts["generator"].cpu())
        state.epoch = parts["epoch"]
    except Exception as error:  # of many kinds, and with pages of advice, such as to unpickle the file after all
        what = f"{file} is corrupt, or of another network ({type(error).__name__})"
        raise TrainingError(f"{what}; delete it to train this run from its start") from error
    return True
