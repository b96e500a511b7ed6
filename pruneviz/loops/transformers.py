"""Callback for the `Trainer` of Hugging Face Transformers."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pruneviz.errors import LogError, MissingExtraError, names_extra

with names_extra("pruneviz.loops.transformers", "transformers"):
    from pruneviz.loops.follower import Follower, checked_metrics, chosen_facts

METRICS: Mapping[str, tuple[str, ...]] = {
    "test_loss": ("eval_loss",),
    "test_acc": ("eval_accuracy", "eval_acc"),
}
_CONTINUING = "pass resume_from_checkpoint to trainer.train"
_ROUNDING = 1e-6  # the trainer counts epochs in fractions


def _callback() -> Any:
    """The base class of callbacks."""
    try:
        return importlib.import_module("transformers").TrainerCallback
    except ImportError as error:
        raise MissingExtraError(
            "pruneviz.loops.transformers needs Transformers and Accelerate, which are not "
            "installed: pip install 'pruneviz[transformers]'"
        ) from error


_Callback: Any = _callback()


class PruningDynamics(_Callback):
    """Record the initialisation and every epoch of `trainer.train`, or every so many steps.

    Training is not changed, whatever its precision, and with gradient checkpointing. A training
    that resumes with `resume_from_checkpoint` continues the same log, which then equals that of an
    uninterrupted one. On several devices all ranks measure.

    The learning rate is always recorded. `train_loss` is the mean of the losses that the trainer
    logs within the epoch, as with `logging_strategy="epoch"` or a `logging_steps` that divides the
    steps of an epoch; otherwise it is null.

    Args:
        sample: Fixed measurement sample, as for `pruneviz.Recorder`.
        out: Run directory.
        steps: Record after this many optimiser steps instead of after every epoch. The column
            `epoch` then counts these intervals, and the spec has a fact `steps`.
        metrics: Names of evaluated metrics by column of the epochs table, such as
            `{"test_acc": "eval_f1"}`, with columns of your own too; accuracies are fractions.
            Default: `eval_loss` as `test_loss` and `eval_accuracy` as `test_acc`; without an
            evaluation they are null.
        **options: Further options of `pruneviz.Recorder`, such as `every`, `spec`, `unit` and
            `sinks`.

    Raises:
        LogError: If `steps` is invalid; at the start of training, if `out` is in use and training
            is not resumed, or the checkpoint does not fit the log.

    Example:
        >>> from pruneviz.loops.transformers import PruningDynamics
        >>> callback = PruningDynamics(batches, "data/mine/run0", unit="head")
        >>> Trainer(model, arguments, train_dataset=tokens, callbacks=[callback]).train()
        >>> runs = pv.load("data/mine")
    """

    def __init__(
        self,
        sample: Any,
        out: str | Path,
        *,
        steps: int | None = None,
        metrics: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise LogError(f"steps={steps!r}; give a whole number of optimiser steps from 1")
        if steps is not None:
            options["spec"] = {"steps": steps, **options.get("spec", {})}
        self._follower = Follower(sample, out, options, _CONTINUING)
        self._steps = steps
        self._metrics = checked_metrics(metrics, METRICS)
        self._rate: float | None = None
        self._resumed = 0  # step at which training started or resumed
        self._span = (0, 0)  # steps of the observed epoch

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Open the log, and record the initialisation of a training that starts."""
        self._resumed = state.global_step
        if self._resumed == 0:
            # After running out of memory it tries again with smaller batches.
            self._follower.start(model, again=args.auto_find_batch_size)
            return
        trained, done = self._trained(state)
        kept = self._follower.kept_state(_folder(args, state))
        self._follower.go_on(model, done, inside=trained > done + _ROUNDING, state=kept)

    def on_step_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Write the epoch before, and note the learning rate of the step."""
        self._flush(state)
        if optimizer is not None:
            self._rate = optimizer.param_groups[0]["lr"]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the network after a number of steps."""
        if self._steps and state.global_step % self._steps == 0:
            self._observe(state.global_step // self._steps, state.global_step, self._steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the network after an epoch."""
        if not self._steps:
            epoch = math.ceil(state.epoch - _ROUNDING)
            earlier = round(state.global_step / state.epoch * (epoch - 1))
            self._observe(epoch, state.global_step, state.global_step - earlier)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what belongs to a checkpoint, and the recorder's place beside it."""
        self._flush(state)
        self._follower.keep_state(_folder(args, state), self._trained(state)[1])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the last epoch, and seal the run."""
        self._flush(state)
        self._follower.finish()

    def _trained(self, state: Any) -> tuple[float, int]:
        """Epochs or intervals trained so far, and the complete ones among them."""
        trained = state.global_step / self._steps if self._steps else state.epoch
        return trained, math.floor(trained + _ROUNDING)

    def _observe(self, epoch: int, step: int, length: int) -> None:
        self._span = (step - length, step)
        self._follower.observe(epoch, lr=self._rate)

    def _flush(self, state: Any) -> None:
        """Write the observed epoch with what was logged after its last step."""
        history: Sequence[Mapping[str, Any]] = state.log_history
        logged = {
            name: value
            for entry in history
            if entry["step"] == self._span[1]
            for name, value in entry.items()
        }
        facts = chosen_facts(logged, self._metrics)
        loss = mean_loss(history, *self._span, self._resumed)
        self._follower.flush(facts if loss is None else {"train_loss": loss, **facts})


def _folder(args: Any, state: Any) -> Path:
    """The trainer's folder of the checkpoint of a step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def mean_loss(
    history: Sequence[Mapping[str, Any]], start: int, end: int, resumed: int = 0
) -> float | None:
    """Mean training loss over some steps, from means that a trainer logged.

    Args:
        history: Entries with `step` and `loss`, the mean over the steps since the entry before.
        start: Step before the first one.
        end: The last step.
        resumed: Step at which training resumed; what was not logged before is forgotten.

    Returns:
        The mean; None if the logged intervals do not cover exactly these steps.
    """
    total, covered, before = 0.0, 0, 0
    for entry in history:
        if "loss" not in entry:
            continue
        step = entry["step"]
        since = max(before, resumed) if step > resumed else before
        before = step
        if step <= start or since >= end:
            continue
        if since < start or step > end:
            return None
        total += (step - since) * float(entry["loss"])
        covered += step - since
    return total / covered if covered == end - start > 0 else None
