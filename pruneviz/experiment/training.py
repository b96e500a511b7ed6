"""The reference training loop: the protocol of the paper, with callbacks at pruning rounds and after every epoch, and checkpoints.

Data stay on the device as uint8; shuffling, cropping and flipping happen there in batches, from one seeded generator. Within an
epoch the loop never waits for the device: losses and hits are summed on it and read once, at the end. What the host has to do between
two epochs, such as writing the log, it does while the device works on the next.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pruneviz.errors import TrainingError
from pruneviz.experiment.images import ImageData, normalise
from pruneviz.experiment.step import AnyStep, Step, best_of, lay_out, matrix_units, output_of
from pruneviz.log.files import disk_errors
from pruneviz.model.finite import first_nonfinite_layer
from pruneviz.plans.run_plan import RunPlan, precision_on
from pruneviz.pruning.held_entries import expect_pruned, hold_in_optimizer, hold_pruned

Rest = Callable[
    [], object
]  # what is left to do of an epoch, and does not need the network as it was after it
AfterEpoch = Callable[..., Rest | None]
Prune = Callable[
    [int], dict[str, Any]
]  # the round after an epoch; returns further facts of that epoch
Progress = Callable[
    [float, str], None
]  # epochs done, with the fraction of the running one, and a note
_SECONDS_BETWEEN_REPORTS = 1.0
_LONG_RUN = (
    10_000  # steps; trying kernels takes a GPU up to 25 seconds, and then saves up to 2 ms a step
)
_STEPS_AHEAD = 32  # steps that a GPU has been asked for, some 100 ms of work, when the host turns to the rest of the epoch before
_EVALUATED_AT_ONCE = {
    "cpu": 500,
    "cuda": 2000,
}  # images; few on a CPU, for its caches, many on a GPU, which is asked less often


def ignore_progress(epochs_done: float, note: str) -> None:
    """A progress report for nobody."""


def no_rest() -> None:
    """Of an epoch nothing is left to do."""


@dataclass
class TrainingState:
    """What a training run is made of between two epochs; `epoch` epochs are done, in `wall_seconds` with all that belongs to them.

    `best` is the network of the best test accuracy since the last round, for plans that imitate the published code: its epoch, test_acc
    and network (a state dict).
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    epoch: int = 0
    wall_seconds: float = 0.0
    best: dict[str, Any] | None = None


def start(network: nn.Module, plan: RunPlan) -> TrainingState:
    """The state before the first epoch: SGD over all parameters, and a generator on their device with the plan's seed.

    On a GPU the network is laid out channels last.
    """
    lay_out(network)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
    )
    device = next(network.parameters()).device
    return TrainingState(network, optimizer, torch.Generator(device).manual_seed(plan.seed))


def train(
    state: TrainingState,
    data: ImageData,
    plan: RunPlan,
    after_epoch: AfterEpoch,
    progress: Progress = ignore_progress,
    prune: Prune | None = None,
) -> None:
    """Train from the state's epoch to the plan's last, calling `after_epoch(epoch, **facts)` before the first epoch and after each.

    What `after_epoch` returns, if anything, is the rest of its work, which is done while a GPU trains on; on a CPU at once.

    Args: facts are columns of the epochs table: phase, lr, train_loss (nats, at the training temperature), train_acc and test_acc
    (fractions), test_loss (nats, at temperature 1) and seconds. `progress` is told about every epoch, and within slow ones every second.
    `prune(epoch)` prunes the network at the plan's rounds, after the epoch's training and before its evaluation; the facts that it
    returns join the others, and the optimiser's momentum starts anew, or is carried over where the plan says so.
    Errors: `TrainingError` naming the epoch and the layer when the training loss is not finite, and the epoch when after a round the
    optimiser holds other parameters than the network.
    Source: Lubana and Dick, ICLR 2021, protocol of the published code.
    """
    if plan.rounds and prune is None:
        raise TrainingError(
            f"{plan.run} prunes in {plan.rounds} rounds, but nothing was given that prunes; pass prune=... to train"
        )
    step = first_step(state, data, plan)
    rest: Rest = no_rest
    if state.epoch == 0:
        rest = _now_or_later(step, after_epoch(0, **_after_training(state, data, plan, 0, prune)))
    for epoch in range(state.epoch + 1, plan.epochs + 1):
        began = time.perf_counter()
        rate = set_learning_rate(state.optimizer, plan, epoch)
        loss, accuracy = train_epoch(state, step, plan.batch_size, progress, rest)
        if not math.isfinite(loss):
            raise TrainingError(_diverged(state.network, data, plan, epoch, loss, rate))
        state.epoch = epoch
        facts = {
            "lr": rate,
            "train_loss": loss,
            "train_acc": accuracy,
            "seconds": time.perf_counter() - began,
        }
        facts |= _after_training(state, data, plan, epoch, prune)
        rest = _now_or_later(step, after_epoch(epoch, **facts))
        progress(epoch, f"test accuracy {facts['test_acc']:.1%}")
    rest()


def _now_or_later(step: AnyStep, rest: Rest | None) -> Rest:
    """The rest of an epoch's work for when the next is under way, or nothing, because it is done where nothing would run beside it."""
    if rest is None or step.runs_ahead:
        return rest or no_rest
    rest()
    return no_rest


def first_step(state: TrainingState, data: ImageData, plan: RunPlan) -> AnyStep:
    """The step of a state's training, good for all its epochs; `PresetError` for a precision that the device has not."""
    precision = precision_on(data.device.type, plan.precision)
    steps = plan.epochs * math.ceil(len(data.train_labels) / plan.batch_size)
    given = (
        state.network,
        state.optimizer,
        state.generator,
        data,
        plan.train_temperature,
        plan.augment,
        precision,
    )
    return best_of(Step(*given, tries_kernels=steps >= _LONG_RUN))


def settle_optimizer(state: TrainingState, carry_momentum: bool) -> None:
    """After a round: forget the momentum, or carry it over for all but the pruned entries.

    Errors: `TrainingError` when the optimiser does not hold exactly the parameters of the network; it names the first that differ.
    """
    named = {id(parameter): name for name, parameter in state.network.named_parameters()}
    held = [
        id(parameter) for group in state.optimizer.param_groups for parameter in group["params"]
    ]
    lacking = [name for parameter, name in named.items() if parameter not in held]
    foreign = len(set(held) - set(named)) + len(held) - len(set(held))
    if lacking or foreign:
        what = f"it lacks {len(lacking)} ({', '.join(lacking[:3])}) and holds {foreign} that are not the network's, or that it holds twice"
        raise TrainingError(
            f"the optimiser must hold exactly the network's parameters, but {what}; make it anew from network.parameters()"
        )
    if carry_momentum:
        hold_in_optimizer(state.network, state.optimizer)
    else:
        state.optimizer.state.clear()


def put_back_best(state: TrainingState) -> int | None:
    """Give the network the weights of its best test accuracy, as the published code does; returns their epoch, None where none are kept."""
    if state.best is None:
        return None
    state.network.load_state_dict(state.best["network"])
    hold_pruned(state.network)
    return int(state.best["epoch"])


def _after_training(
    state: TrainingState, data: ImageData, plan: RunPlan, epoch: int, prune: Prune | None
) -> dict[str, Any]:
    """Prune if a round is due, and evaluate; returns these facts of the epoch."""
    facts: dict[str, Any] = {"phase": plan.phase(epoch)}
    pruning = plan.pruning
    if prune is not None and pruning and epoch in plan.pruning_epochs:
        facts |= prune(epoch)
        with _named(f"after round {_rounds_done(plan, epoch)} of {plan.rounds}, at epoch {epoch}"):
            settle_optimizer(state, pruning.carry_momentum)
    facts |= evaluate(state.network, data, precision=precision_on(data.device.type, plan.precision))
    if (
        pruning
        and pruning.flowandprune
        and facts["phase"] == "finetune"
        and (state.best is None or facts["test_acc"] > state.best["test_acc"])
    ):
        network = {name: value.clone() for name, value in state.network.state_dict().items()}
        state.best = {"epoch": epoch, "test_acc": facts["test_acc"], "network": network}
    return facts


@contextmanager
def _named(when: str) -> Iterator[None]:
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{when}: {error}") from error


def _rounds_done(plan: RunPlan, epoch: int) -> int:
    return sum(at <= epoch for at in plan.pruning_epochs)


def _diverged(
    network: nn.Module, data: ImageData, plan: RunPlan, epoch: int, loss: float, rate: float
) -> str:
    rounds = (
        f", after {_rounds_done(plan, epoch - 1)} of {plan.rounds} pruning rounds,"
        if plan.rounds
        else ""
    )
    images = normalise(data.train_images[:8])
    layer = first_nonfinite_layer(network, network.eval(), [images])
    where = f"; not finite first in layer {layer}" if layer else ""
    return f"the training loss of epoch {epoch}{rounds} is {loss}{where}; lower the learning rate (now {rate:g})"


def set_learning_rate(optimizer: torch.optim.Optimizer, plan: RunPlan, epoch: int) -> float:
    """Set and return the rate of an epoch (from 1): tenfold less after every epoch of `plan.lr_drops`."""
    rate = plan.lr * 0.1 ** sum(epoch > drop for drop in plan.lr_drops)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def train_epoch(
    state: TrainingState,
    step: AnyStep,
    batch_size: int,
    progress: Progress = ignore_progress,
    rest: Rest = no_rest,
) -> tuple[float, float]:
    """One pass over the training images; returns the mean loss (nats, at the training temperature) and the accuracy (fraction).

    `rest`, what is left to do of the epoch before, is done in between, when the first steps have been asked for.
    """
    reported = time.perf_counter()
    with step.running():
        batches = torch.randperm(
            step.images, generator=state.generator, device=state.generator.device
        ).split(batch_size)
        for number, chosen in enumerate(batches, start=1):
            step(chosen)
            if number == min(_STEPS_AHEAD, len(batches)):
                rest()
            if time.perf_counter() - reported > _SECONDS_BETWEEN_REPORTS:
                reported = time.perf_counter()
                progress(state.epoch + number / len(batches), "training")
        loss, hits = (step.totals.double() / step.images).tolist()
    return loss, hits


@torch.no_grad()
def evaluate(
    network: nn.Module, data: ImageData, batch_size: int | None = None, precision: str = "fp32"
) -> dict[str, float]:
    """Test loss (nats, at temperature 1) and test accuracy (fraction), in evaluation mode; the batches change no more than rounding."""
    network.eval()
    device = data.device
    size = batch_size or _EVALUATED_AT_ONCE.get(device.type, 500)
    totals = torch.zeros(2, device=device)
    with matrix_units(device, precision):
        for images, labels in zip(
            data.test_images.split(size), data.test_labels.split(size), strict=True
        ):
            output = output_of(network, normalise(images), precision)
            totals += torch.stack(
                [
                    F.cross_entropy(output, labels, reduction="sum"),
                    (output.argmax(1) == labels).sum().to(output.dtype),
                ]
            )
        loss, hits = (totals.double() / len(data.test_labels)).tolist()
    return {"test_loss": loss, "test_acc": hits}


def save_checkpoint(state: TrainingState, folder: Path) -> None:
    """Keep a state on disk, whole or not at all; `LogError` when the disk cannot be written to."""
    parts = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "epoch": state.epoch,
        "wall_seconds": state.wall_seconds,
        "best": state.best,
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
        expect_pruned(state.network, parts["network"])
        state.network.load_state_dict(parts["network"])
        hold_pruned(state.network)
        state.optimizer.load_state_dict(parts["optimizer"])
        state.generator.set_state(parts["generator"].cpu())
        state.epoch, state.wall_seconds, state.best = (
            parts["epoch"],
            parts["wall_seconds"],
            parts["best"],
        )
    except (
        Exception
    ) as error:  # of many kinds, and with pages of advice, such as to unpickle the file after all
        what = f"{file} is corrupt, or of another network ({type(error).__name__})"
        raise TrainingError(f"{what}; delete it to train this run from its start") from error
    return True
