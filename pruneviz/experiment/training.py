"""The reference training loop, with hooks between epochs, and evaluation.

Images stay on the device as uint8; shuffling, cropping and flipping happen there, in batches, with
one seeded generator. Within an epoch the loop never waits for the device: losses and hits are
summed there and read once, at the end. Work of the host between two epochs, such as writing the
log, is done while the device computes the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruneviz.errors import TrainingError
from pruneviz.experiment.begun import Begun
from pruneviz.experiment.data_parallel import SharedStep, make_equal, share_of
from pruneviz.experiment.images import ImageData, normalise
from pruneviz.experiment.step import AnyStep, Step, best_of, lay_out, matrix_units, output_of
from pruneviz.experiment.workers import Report
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.model.finite import first_nonfinite_layer
from pruneviz.plans.run_plan import RunPlan, precision_on
from pruneviz.pruning.held_entries import hold_pruned

Rest = Callable[[], object]  # deferred work of an epoch that no longer needs the network

_SECONDS_BETWEEN_REPORTS = 1.0
# Steps; benchmarking kernels takes up to 25 seconds on a GPU and saves up to 2 ms per step.
_LONG_RUN = 10_000
# Steps queued on a GPU, some 100 ms of work, before the host turns to the rest of the last epoch.
_STEPS_AHEAD = 32
# Images; few fit the caches of a CPU, many need fewer calls on a GPU.
_EVALUATED_AT_ONCE = {"cpu": 500, "cuda": 2000}


class Hooks(Protocol):
    """Callbacks of the training loop; implemented by `ExperimentRun`."""

    def stepped(self, begun: Begun) -> None:
        """Called after every training step; an error that it raises ends the training."""

    def prune(self, epoch: int) -> None:
        """Prune at the round after `epoch` epochs."""

    def record(self, epoch: int, **facts: Any) -> Rest | None:
        """Record the network after `epoch` epochs, with columns for the epochs table.

        Returns:
            Deferred work that does not need the network, or None.
        """

    def report(self, epochs_done: float, note: str) -> None:
        """Report the progress, with the fraction of the current epoch."""


def no_report(epochs_done: float, note: str) -> None:
    """No-op, for runs without progress reports."""


def no_stepped(begun: Begun) -> None:
    """No-op, for steps that nobody follows."""


def no_rest() -> None:
    """No-op, for epochs that leave no work for later."""


@dataclass(repr=False)
class TrainingState:
    """State of a training run between two epochs, or two steps.

    Args:
        network: The network.
        optimizer: Its optimiser.
        generator: Generator for shuffling and augmentation, on the device of the network.
        epoch: Number of epochs done.
        wall_seconds: Wall-clock time of these epochs, with recording and evaluation.
        best: Best network by test accuracy since the last round, for plans that imitate the
            published code: epoch, test_acc and network (a state dict).
        hooked: Whether the optimiser has hooks, which must run at every step.
        begun: The epoch after `epoch`, if it is under way.
        within: Where a checkpoint stands in that epoch, as it was read; see `held_state`.
        ranks: The processes that train together. Default: this one alone.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    epoch: int = 0
    wall_seconds: float = 0.0
    best: dict[str, Any] | None = None
    hooked: bool = False
    begun: Begun | None = None
    within: dict[str, Any] | None = None
    ranks: Ranks = ALONE


def start(network: nn.Module, plan: RunPlan, ranks: Ranks = ALONE) -> TrainingState:
    """The state before the first epoch: SGD over all parameters, and a generator with the seed.

    On a GPU the network is laid out channels last.
    """
    lay_out(network)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
    )
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(plan.seed)
    return TrainingState(network, optimizer, generator, ranks=ranks)


def train(state: TrainingState, data: ImageData, plan: RunPlan, hooks: Hooks) -> None:
    """Train from the state's epoch to the last epoch of the plan.

    Args:
        state: State to continue from; changed in place.
        data: Images to train and test on.
        plan: Training protocol.
        hooks: `record` is called before the first epoch and after each, with columns of the epochs
            table: phase, lr, train_loss (nats, at the training temperature), train_acc and test_acc
            (fractions), test_loss (nats, at temperature 1) and seconds. Deferred work that it
            returns is done at once on a CPU, and during the next epoch on a GPU. `prune` is called
            at the rounds of the plan, between training and evaluation; afterwards the momentum
            restarts, or is carried over if the plan says so. `stepped` is called after every step,
            `report` after every epoch, and every second within slow ones.

    Raises:
        TrainingError: If the training loss is not finite (names the epoch and the layer), or the
            optimiser holds other parameters than the network after a round.

    References:
        Lubana and Dick, ICLR 2021, and the protocol of its published code.
    """
    step = first_step(state, data, plan)
    rest: Rest = no_rest
    if state.epoch == 0 and state.begun is None:
        facts = _after_training(state, data, plan, 0, hooks)
        rest = _now_or_later(step, hooks.record(0, **facts))
    for epoch in range(state.epoch + 1, plan.epochs + 1):
        begun = state.begun = state.begun or Begun()
        rate = set_learning_rate(state.optimizer, plan, epoch)
        how = plan.batch_size, hooks.report, rest, hooks.stepped
        loss, accuracy = train_epoch(state, step, *how)
        if not math.isfinite(loss):
            raise TrainingError(_diverged(state.network, data, plan, epoch, loss, rate))
        make_equal(state.network, state.generator, state.ranks, epoch)
        state.epoch = epoch
        facts = {
            "lr": rate,
            "train_loss": loss,
            "train_acc": accuracy,
            "seconds": begun.seconds,
        }
        facts |= _after_training(state, data, plan, epoch, hooks)
        rest = _now_or_later(step, hooks.record(epoch, **facts))
        hooks.report(epoch, f"test accuracy {facts['test_acc']:.1%}")
    rest()


def _now_or_later(step: AnyStep, rest: Rest | None) -> Rest:
    """Do deferred work now, unless steps run ahead of the host; returns the remaining work."""
    if rest is None:
        return no_rest
    if step.runs_ahead:
        return rest
    rest()
    return no_rest


def first_step(state: TrainingState, data: ImageData, plan: RunPlan) -> AnyStep:
    """Build the training step for all epochs of a state.

    Raises:
        PresetError: If the device does not support the precision of the plan.
    """
    steps = plan.epochs * math.ceil(len(data.train_labels) / plan.batch_size)
    options: dict[str, Any] = {
        "network": state.network,
        "optimizer": state.optimizer,
        "generator": state.generator,
        "data": data,
        "temperature": plan.train_temperature,
        "augments": plan.augment,
        "precision": precision_on(data.device.type, plan.precision),
        "tries_kernels": steps >= _LONG_RUN,
    }
    if (
        not state.ranks.is_alone
    ):  # without graphs: a failing rank would leave the others in a replay
        return SharedStep(**options, ranks=state.ranks)
    step = Step(**options)
    return step if state.hooked else best_of(step)  # a replayed graph calls no hooks


def settle_optimizer(state: TrainingState, carry_momentum: bool) -> None:
    """Restart the momentum after a round, or keep it except for pruned entries.

    Raises:
        TrainingError: If the optimiser does not hold exactly the parameters of the network.
    """
    named = {id(parameter): name for name, parameter in state.network.named_parameters()}
    groups = state.optimizer.param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    lacking = [name for parameter, name in named.items() if parameter not in held]
    repeated = len(held) - len(set(held))
    foreign = len(set(held) - set(named)) + repeated
    if lacking or foreign:
        raise TrainingError(
            "the optimiser must hold exactly the network's parameters, but it lacks "
            f"{len(lacking)} ({', '.join(lacking[:3])}) and holds {foreign} that are repeated or "
            "not the network's; create it from network.parameters()"
        )
    if carry_momentum:
        # Masks do this after the next step only; a checkpoint may be written before it.
        hold_pruned(state.network, state.optimizer)
    else:
        state.optimizer.state.clear()


def put_back_best(state: TrainingState) -> int | None:
    """Load the weights of the best test accuracy, as the published code does.

    Returns:
        Their epoch; None if none were kept.
    """
    if state.best is None:
        return None
    state.network.load_state_dict(state.best["network"])
    return int(state.best["epoch"])


def _after_training(
    state: TrainingState, data: ImageData, plan: RunPlan, epoch: int, hooks: Hooks
) -> dict[str, Any]:
    """Prune if a round is due, and evaluate; returns the facts for the epoch."""
    if plan.pruning and epoch in plan.pruning_epochs:
        hooks.prune(epoch)
        with _named(f"after round {_rounds_done(plan, epoch)} of {plan.rounds}, at epoch {epoch}"):
            settle_optimizer(state, plan.pruning.carry_momentum)
    precision = precision_on(data.device.type, plan.precision)
    tested = evaluate(state.network, data, precision=precision, ranks=state.ranks)
    phase = plan.phase(epoch)
    if plan.pruning and plan.pruning.flowandprune and phase == "finetune":
        _keep_best(state, epoch, tested["test_acc"])
    return {"phase": phase, **tested}


def _keep_best(state: TrainingState, epoch: int, accuracy: float) -> None:
    """Keep a copy of the network if its test accuracy is the best so far."""
    if state.best is None or accuracy > state.best["test_acc"]:
        network = {name: value.clone() for name, value in state.network.state_dict().items()}
        state.best = {"epoch": epoch, "test_acc": accuracy, "network": network}


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
    done = _rounds_done(plan, epoch - 1)
    rounds = f", after {done} of {plan.rounds} pruning rounds," if plan.rounds else ""
    images = normalise(data.train_images[:8])
    layer = first_nonfinite_layer(network, network.eval(), [images])
    where = f"; layer {layer} is the first with values that are not finite" if layer else ""
    return (
        f"the training loss of epoch {epoch}{rounds} is {loss}{where}; "
        f"lower the learning rate (now {rate:g})"
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, plan: RunPlan, epoch: int) -> float:
    """Set and return the learning rate of an epoch, counted from 1.

    It falls tenfold after every epoch of `plan.lr_drops`.
    """
    rate = plan.lr * 0.1 ** sum(epoch > drop for drop in plan.lr_drops)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def train_epoch(
    state: TrainingState,
    step: AnyStep,
    batch_size: int,
    report: Report = no_report,
    rest: Rest = no_rest,
    stepped: Callable[[Begun], None] = no_stepped,
) -> tuple[float, float]:
    """Train on all training images once, in random order; an epoch that is begun is ended.

    Args:
        state: State to train.
        step: Step made by `first_step`.
        batch_size: Images per step; the last batch may be smaller.
        report: Called every second with the progress.
        rest: Deferred work of the previous epoch; done once the first steps are queued.
        stepped: Called after every step.

    Returns:
        Mean loss (nats, at the training temperature) and accuracy (fraction).
    """
    reported = time.perf_counter()
    begun = state.begun or Begun()
    with step.running():
        batches = begun.order(step.images, state.generator).split(batch_size)
        if begun.totals is not None:
            step.totals.copy_(begun.totals)
        begun.totals, begun.of = step.totals, len(batches)
        for chosen in batches[begun.steps :]:
            step(chosen)
            begun.steps += 1
            if begun.steps == min(_STEPS_AHEAD, begun.of):
                rest()
            if time.perf_counter() - reported > _SECONDS_BETWEEN_REPORTS:
                reported = time.perf_counter()
                report(state.epoch + begun.steps / begun.of, "training")
            stepped(begun)
        loss, accuracy = (step.totals.double() / step.images).tolist()
    state.begun = None
    return loss, accuracy


@torch.no_grad()
def evaluate(
    network: nn.Module,
    data: ImageData,
    batch_size: int | None = None,
    precision: str = "fp32",
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Test a network in evaluation mode.

    Args:
        network: Network to test.
        data: Its test images are used.
        batch_size: Images per forward pass; affects only rounding. Halved if memory runs out.
            Default: by device.
        precision: Arithmetic precision, see `PRECISIONS`.
        ranks: Processes that hold the same network, of which each tests a share of the images.

    Returns:
        test_loss (nats, at temperature 1) and test_acc (fraction).

    Raises:
        MeasureError: If memory runs out with one image.
    """
    network.eval()
    device = data.device
    size = batch_size or _EVALUATED_AT_ONCE.get(device.type, 500)
    with matrix_units(device, precision):
        test = partial(_tested, network, data, precision, share_of(len(data.test_labels), ranks))
        totals, _ = halved_on_out_of_memory(test, size, network)
        totals = totals.double()
        ranks.total("the test images", [totals])
        mean_loss, accuracy = (totals / len(data.test_labels)).tolist()
    return {"test_loss": mean_loss, "test_acc": accuracy}


def _tested(network: nn.Module, data: ImageData, precision: str, own: slice, size: int) -> Tensor:
    """The sum of the losses and the number of hits over some of the test images."""
    totals = torch.zeros(2, device=data.device)
    held = data.test_images[own].split(size), data.test_labels[own].split(size)
    for images, labels in zip(*held, strict=True):
        if not len(labels):  # of a rank without images
            break
        output = output_of(network, normalise(images), precision)
        loss = F.cross_entropy(output, labels, reduction="sum")
        hits = (output.argmax(1) == labels).sum().to(output.dtype)
        totals += torch.stack([loss, hits])
    return totals
