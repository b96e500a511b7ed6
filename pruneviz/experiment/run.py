"""One run of the reference experiment: train, prune and record a network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.console.stop_signals import Stopped
from pruneviz.console.words import counted
from pruneviz.errors import PrunevizError, PruningError
from pruneviz.experiment import same_run
from pruneviz.experiment.begun import Begun
from pruneviz.experiment.checkpoint import restore_checkpoint
from pruneviz.experiment.data_parallel import check_batch
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.flow_of_plan import flow_meter
from pruneviz.experiment.held_state import HeldState, enter_epoch
from pruneviz.experiment.images import ImageData, augment, balanced_sample, subset
from pruneviz.experiment.networks.registry import build_network
from pruneviz.experiment.parallel import resumed_spec
from pruneviz.experiment.removal_facts import removal_facts
from pruneviz.experiment.setting import (
    Setting,
    check_measure,
    own_measure_facts,
    planned_facts,
    request_of,
)
from pruneviz.experiment.stop import Stop
from pruneviz.experiment.training import TrainingState, put_back_best, start, train
from pruneviz.experiment.workers import Report
from pruneviz.log.checkpoint_names import CHECKPOINTS
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.measuring.ranks import ALONE, Ranks
from pruneviz.plans.run_plan import RunPlan, precision_on
from pruneviz.pruning.pruner import Pruner, needed_columns, ranking_temperatures
from pruneviz.pruning.rounds import flowandprune_after, pruned_after
from pruneviz.recording.flow_meter import FlowMeter
from pruneviz.recording.kept_weights import drop_kept_after, keep_weights
from pruneviz.recording.recorder import Recorder
from pruneviz.recording.sinks import named_sink

_TIMED_IMAGES = 32  # at most, in the forward passes timed before and after removal
# Writing a checkpoint takes as long as an epoch of a small network, so short epochs share one. On a
# GPU one between two measured epochs also waits for the device, so those are written less often.
_SECONDS_BETWEEN_CHECKPOINTS = 2.0
_SECONDS_WITHOUT_CHECKPOINT = 10.0
_SHARED_OUT = 0.9  # fraction of a GPU's memory; each process needs some besides its tensors


class ExperimentRun:
    """An active run; implements the training loop's `Hooks`.

    Args:
        state: Network, optimiser and generator; an already pruned network continues with the next
            round.
        data: Training and test images.
        example: A few normalised inputs [N, C, H, W].
        plan: What to train, prune and record.
        recorder: Open recorder of the network.
        report: Called with the epochs done and a note.
        weights_into: Run directory in which to keep the weights of measured epochs. Default: keep
            none.
        meter: Follows the steps of the first epoch and of measured ones. Default: none does.
        stop: Says when to stop. Default: nothing does.
    """

    def __init__(
        self,
        state: TrainingState,
        data: ImageData,
        example: Tensor,
        plan: RunPlan,
        recorder: Recorder,
        report: Report,
        weights_into: Path | None = None,
        meter: FlowMeter | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._meter, self._metering, self._stop = meter, False, stop or Stop()
        state.hooked = meter is not None
        self.state, self.data, self.plan, self.recorder = state, data, plan, recorder
        self._example, self._report, self._weights_into = example, report, weights_into
        self._began = time.monotonic() - state.wall_seconds
        self._saved = time.monotonic()
        folder = recorder.log.checkpoint if recorder.records else None
        self._held = HeldState(state, folder, self._seconds)
        self._rest: Callable[[], None] | None = None  # writes the last epoch, later
        self._rounds_table: pd.DataFrame | None = None  # of a round since the last record
        self._pruner: Pruner | None = None
        self._kept_fraction: float | None = None
        if plan.pruning:
            self._pruner = _pruner(state.network, example[:1], plan.pruning)
            self._gone_after = _gone_after(self._pruner, plan.pruning)
            # Remembered between rounds, as counting makes the host wait for a GPU.
            self._kept_fraction = self._pruner.kept_fraction

    def finish(self) -> None:
        """Train to the last epoch of the plan, then note late facts in the spec.

        Raises:
            PrunevizError: If a loss, a round or a measurement fails; names the epoch. Earlier
                epochs stay recorded.
            Stopped: If a signal asked to stop; the checkpoint is written.
        """
        self._stop.keep(self._held.write)
        enter_epoch(self.state)
        self._follow_from(self.state.epoch)
        train(self.state, self.data, self.plan, self)
        if self._pruner:
            self.report(self.plan.epochs, "removing")
            selected = put_back_best(self.state)
            if self.recorder.records:
                self.recorder.note(**removal_facts(self.state.network, self._example))
            if selected is not None:
                self.recorder.note(selected_epoch=selected)
        self.recorder.note(wall_seconds=round(self._seconds(), 3))
        self._stop.keep(_nothing)  # sealing needs no checkpoint, and deletes it

    def stepped(self, begun: Begun) -> None:
        """Stop after a training step if that is asked for, and the epoch can be gone on with.

        Raises:
            Stopped: If a signal asks to stop; the checkpoint is written.
        """
        if self._metering:  # only whole epochs can be metered
            return
        if begun.steps == begun.of:
            self._held.trained(begun)
        asked = self._stop.agreed()
        if asked is not None:
            self._write_rest()
            if begun.steps < begun.of:
                self._held.at_step(begun)
            step = f"step {begun.steps} of {begun.of}"
            self._leave(asked, f"after {step} of epoch {self.state.epoch + 1}")

    def report(self, epochs_done: float, note: str) -> None:
        """Report the progress, with the fraction of the current epoch."""
        self._report(epochs_done, note)

    def prune(self, epoch: int) -> None:
        """Prune at the round after `epoch` epochs.

        Raises:
            PrunevizError: If the target is out of reach, a layer would vanish, or a score cannot
                be measured; names the round and the epoch. Nothing is pruned.
        """
        self.report(epoch, "pruning")
        options, pruner = self.plan.pruning, self._pruner
        if options is None or pruner is None:
            raise PruningError(f"{self.plan.run} has no pruning rounds; prune only runs that do")
        number = self.plan.pruning_epochs.index(epoch) + 1
        try:
            temperatures = ranking_temperatures(options.measure, self.plan.train_temperature)
            columns = needed_columns(options.measure)
            table = self.recorder.table(epoch, columns, temperatures)
            pruner.prune(table, options.measure, self._gone_after[number - 1], number)
        except PrunevizError as error:
            what = str(error).removeprefix(f"round {number}: ")
            where = f"pruning round {number} of {options.rounds}, at epoch {epoch}"
            raise type(error)(f"{where}: {what}") from error
        self._kept_fraction = pruner.kept_fraction
        self._rounds_table = pruner.counts().assign(round=number, epoch=epoch)

    def record(self, epoch: int, **facts: Any) -> Callable[[], None] | None:
        """Record the network after `epoch` epochs.

        Args:
            epoch: Number of epochs trained.
            **facts: Columns for the epochs table.

        Returns:
            Deferred work that writes the measurement and does not need the network. None if
            everything is done.

        Raises:
            Stopped: If a signal asks to stop; the checkpoint is written.
        """
        asked = self._stop.agreed()
        if asked is not None and not self._metering:
            self._leave(asked, f"after epoch {epoch}, before it was measured")
        self.report(epoch, "measuring")
        if self._kept_fraction is not None:
            facts["kept_fraction"] = self._kept_fraction
        write = self.recorder.observe(epoch, rounds=self._rounds_table, **facts)
        pruned, self._rounds_table = self._rounds_table is not None, None
        if self._meter:
            self._meter.take(epoch)
            self._follow_from(epoch)

        def rest() -> None:
            write()  # first, because no checkpoint may be ahead of the log
            self._held.recorded(epoch, pruned=pruned)

        self._rest = rest
        measured = epoch % self.plan.every == 0
        often = measured or pruned
        between = _SECONDS_BETWEEN_CHECKPOINTS if often else _SECONDS_WITHOUT_CHECKPOINT
        due = time.monotonic() - self._saved >= between
        asked = self._stop.agreed()
        if not (often or due or asked is not None or self._meter):
            return self._write_rest
        if (
            measured and self._weights_into and self.recorder.records
        ):  # first, because no checkpoint may be ahead of them
            keep_weights(self.state.network, self._weights_into, epoch)
        self._write_rest()
        if asked is not None:
            self._leave(asked, f"after epoch {epoch}")
        if due:
            self._save()
        return None

    def _write_rest(self) -> None:
        """Write the last epoch, if it is not written yet."""
        rest, self._rest = self._rest, None
        if rest:
            rest()

    def _leave(self, asked: int, where: str) -> None:
        """Write the checkpoint and stop."""
        self._held.write()
        self.state.ranks.meet("the checkpoint of a stop")  # none ends before it is written
        raise Stopped(asked, f"stopped {where}")

    def _follow_from(self, epoch: int) -> None:
        """Follow the steps of the epoch after `epoch` if it is the first or measured."""
        if self._meter is None:
            return
        if epoch < self.plan.epochs and (epoch == 0 or (epoch + 1) % self.plan.every == 0):
            self._meter.start()
            self._metering = True
        else:
            self._meter.stop()
            self._metering = False

    def _save(self) -> None:
        self._held.write()
        self._saved = time.monotonic()

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _nothing() -> None:
    """No-op."""


def record_run(
    plan: RunPlan,
    setting: Setting,
    report: Report,
    stop: Stop | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Record the run of a plan into `setting.out / plan.run`; an unfinished run is resumed.

    Args:
        plan: What to train, prune and record.
        setting: Where and how to record it.
        report: Called with the epochs done and a note.
        stop: Says when to stop. Default: nothing does.
        ranks: The processes that train the run together; each makes this call.

    Raises:
        PrunevizError: If something is missing, damaged or cannot be computed. Earlier epochs stay
            recorded and the run unfinished.
        Stopped: If a signal asked to stop; the checkpoint is written.
    """
    check_measure(plan)
    path = setting.out / plan.run
    before = resumed_spec(path, setting.threads)
    if before:
        same_run.check_flags(path, before, setting.flags, sealed=False)
        same_run.check_ranks(path, before, ranks.count)
    check_batch(plan.batch_size, ranks)
    asked = plan.precision or (before.precision if before else None)
    plan = replace(plan, precision=precision_on(setting.device, asked))
    if setting.device == "cuda" and setting.sharing > 1:
        torch.cuda.set_per_process_memory_fraction(_SHARED_OUT / setting.sharing)
    data = _read_data(plan, setting)
    if before:
        same_run.check_images(path, before, data)
    sample = measurement_sample(data, plan)
    torch.manual_seed(plan.seed)
    network = build_network(plan.network, num_classes=data.num_classes, width=plan.width)
    state = start(network.to(setting.device), plan, ranks)
    options: dict[str, Any] = {
        "every": plan.every,
        "spec": _spec_facts(plan, data, setting) | own_measure_facts(plan),
        "unit": plan.unit,
        "samples": plan.samples,
        "resume": before is not None,
        "measure_last": False,  # the plan says which epochs are measured
        "sinks": [named_sink(text) for text in setting.sinks if ranks.is_first],
        "figures_at": plan.every if setting.sinks and ranks.is_first else None,
        "upload_checkpoints": setting.upload_checkpoints,
        **request_of(plan, setting).of_unit(plan.unit),
    }
    with Recorder(state.network, sample, path, **options) as recorder:
        _restore(state, recorder, plan, path)
        # Without a checkpoint the loop records the initialisation again.
        last = state.epoch if state.epoch or state.within else -1
        recorder.rewind(last)
        if recorder.records:
            drop_kept_after(path, last)
        if last >= 0:
            report(state.epoch, f"continuing after {_place(state)}")
        weights_into = path if setting.keep_weights else None
        example = sample[0][:_TIMED_IMAGES]
        meter = flow_meter(state, sample, plan, recorder) if setting.flow else None
        run = ExperimentRun(state, data, example, plan, recorder, report, weights_into, meter, stop)
        run.finish()


def _restore(state: TrainingState, recorder: Recorder, plan: RunPlan, path: Path) -> None:
    """Load the last whole checkpoint, on rank 0 first, which deletes damaged ones."""
    logged = -1 if recorder.last_epoch is None else recorder.last_epoch

    def on_the_first() -> str | None:
        recorder.log.planned = range(plan.epochs + 1)
        restore_checkpoint(state, recorder.log.checkpoint, logged, recorder.log.lost)
        return recorder.log.lost

    lost = state.ranks.first("the checkpoint to go on from", on_the_first)
    if not recorder.records:
        restore_checkpoint(state, path / CHECKPOINTS, logged, lost)
    state.ranks.meet("the start of a training", {"the checkpoint that is read": _place(state)})


def _place(state: TrainingState) -> str:
    """Where a checkpoint stands, in words."""
    steps = state.within["steps"] if state.within else 0
    done = f"epoch {state.epoch}"
    return f"{done} and {counted(steps, 'step')} of the next" if steps else done


def measurement_sample(data: ImageData, plan: RunPlan) -> tuple[Tensor, Tensor]:
    """The measurement sample of a plan: images [N, C, H, W] and labels [N].

    Plans that imitate the published code and train on augmented images measure on images that are
    augmented once.
    """
    if plan.augment and plan.pruning and plan.pruning.flowandprune:
        generator = torch.Generator(data.device).manual_seed(plan.seed)
        data = replace(data, train_images=augment(data.train_images, generator))
    return balanced_sample(data, plan.sample_per_class, seed=plan.sample_seed)


def _pruner(network: nn.Module, example: Tensor, options: PruningOptions) -> Pruner:
    return Pruner(
        network,
        example,
        keep_at_least=options.keep_at_least,
        flowandprune=options.flowandprune,
    )


def _gone_after(pruner: Pruner, options: PruningOptions) -> list[int]:
    """Number of groups pruned after each round."""
    target, rounds = options.target, options.rounds
    assert target is not None, "plans have a target"
    if options.flowandprune:
        return flowandprune_after(pruner.groups, target, rounds, residual=pruner.residual)
    return pruned_after(pruner.groups, target, rounds, options.schedule)


def _read_data(plan: RunPlan, setting: Setting) -> ImageData:
    data = load_dataset(
        plan.dataset,
        root=setting.images,
        device=setting.device,
        download=setting.download,
        image_size=plan.image_size,
    )
    return subset(data, plan.train_per_class, plan.test_per_class, seed=0)


def _spec_facts(plan: RunPlan, data: ImageData, setting: Setting) -> dict[str, Any]:
    return {
        **planned_facts(plan),
        "num_classes": data.num_classes,
        "train_images": len(data.train_labels),
        **same_run.images_facts(data),
        same_run.OPTIONS: setting.flags,
        **({same_run.RANKS: setting.ranks} if setting.ranks > 1 else {}),
        "command": setting.command,
    }
