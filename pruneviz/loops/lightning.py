"""Lightning callback: record a run that `trainer.fit` trains."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruneviz.errors import LogError, MissingExtraError, names_extra

with names_extra("pruneviz.loops.lightning", "lightning"):
    from torch import nn

    from pruneviz.loops.follower import Follower, checked_metrics, chosen_facts

METRICS: Mapping[str, tuple[str, ...]] = {
    "train_loss": ("train_loss", "train/loss"),
    "train_acc": ("train_acc", "train/acc", "train_accuracy", "train/accuracy"),
    "test_loss": ("val_loss", "val/loss", "test_loss", "test/loss"),
    "test_acc": ("val_acc", "val/acc", "val_accuracy", "val/accuracy", "test_acc", "test/acc"),
}
_HOMES = ("lightning.pytorch", "pytorch_lightning")
_CONTINUING = "pass ckpt_path to trainer.fit"


def _callbacks() -> tuple[Any, ...]:
    """The base classes of callbacks of the packages in use; a trainer takes its own package's."""
    in_use = [name for name in _HOMES if name in sys.modules]
    for homes in (in_use, *([name] for name in _HOMES)):
        try:
            found = tuple(importlib.import_module(name).Callback for name in homes)
        except ModuleNotFoundError as error:
            missing = error
        else:
            if found:
                return found
    raise MissingExtraError(
        "pruneviz.loops.lightning needs Lightning, which is not installed: "
        "pip install 'pruneviz[lightning]'"
    ) from missing


_Callback: Any = type("_Callback", _callbacks(), {})


class PruningDynamics(_Callback):
    """Record the initialisation and every training epoch of `trainer.fit`.

    Sanity checks, validation and testing do not count as epochs. Training is not changed, whatever
    its precision. The recorder's place is kept in Lightning's checkpoints: a training that resumes
    with `ckpt_path` continues the same log, which then equals that of an uninterrupted one, also if
    the log was finished and training is made longer (the epoch at which it was finished keeps its
    derivatives). With several devices all ranks measure and rank 0 writes. A `fast_dev_run` records
    into a temporary folder.

    Args:
        sample: Fixed measurement sample, as for `pruneviz.Recorder`.
        out: Run directory.
        network: Name of the submodule to record, such as "model". Default: the LightningModule.
        metrics: Names of logged metrics by column of the epochs table, such as
            `{"test_acc": "valid/top1"}`, with columns of your own too; accuracies are fractions.
            Default: usual names of losses and accuracies (`train_loss`, `val_acc`, ...); a metric
            that was not logged in an epoch is null. The learning rate is always recorded.
        **options: Further options of `pruneviz.Recorder`, such as `every`, `spec`, `unit` and
            `sinks`.

    Raises:
        LogError: At the start of training, if `out` is in use and training is not resumed, or the
            checkpoint does not fit the log.

    Example:
        >>> from pruneviz.loops.lightning import PruningDynamics
        >>> callback = PruningDynamics((images, labels), "data/mine/run0", every=10)
        >>> Trainer(max_epochs=160, callbacks=[callback]).fit(module, loader)
        >>> runs = pv.load("data/mine")
    """

    def __init__(
        self,
        sample: Any,
        out: str | Path,
        *,
        network: str | None = None,
        metrics: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._follower = Follower(sample, out, options, _CONTINUING)
        self._network = network
        self._metrics = checked_metrics(metrics, METRICS)
        self._before: dict[str, Any] = {}  # metrics at the start of the epoch
        self._restored: dict[str, Any] = {}
        self._rate: float | None = None
        self._trainer: Any = None

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint: one per run directory."""
        return f"PruningDynamics[{self._follower.run}]"

    def state_dict(self) -> dict[str, Any]:
        """The recorder's place, for a checkpoint; the log is written up to here."""
        self._flush()
        found: dict[str, Any] = {"run": self._follower.run, "last_epoch": self._follower.last_epoch}
        if self._trainer is not None:
            found["recorder"] = self._follower.state(_place(self._trainer)[0])
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember that the checkpoint belongs to a recorded training."""
        self._restored = dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the log, and record the initialisation of a training that starts."""
        self._trainer, self._before = trainer, dict(trainer.callback_metrics)
        model = self._recorded(pl_module)
        if trainer.fast_dev_run:
            self._follower.rehearse(model)
        elif trainer.global_step == 0 and not self._restored:
            self._follower.start(model)
        else:
            done, inside = _place(trainer)
            state = self._restored.get("recorder")
            how = {"inside": inside, "lost": bool(self._restored)}
            self._follower.go_on(model, done, **how, state=state)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Write the epoch before, and mark which metrics belong to it."""
        self._flush()
        self._before = dict(trainer.callback_metrics)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate; a scheduler has changed it when the epoch ends."""
        if trainer.optimizers:
            self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure the network after an epoch."""
        epoch, last = trainer.fit_loop.epoch_progress.current.processed, self._follower.last_epoch
        if last is None or epoch > last:  # else resumed at the very end of a recorded epoch
            self._follower.observe(epoch, lr=self._rate)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the last epoch."""
        self._flush()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Write the last complete epoch, so that the run can be resumed."""
        self._flush()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Seal the run."""
        self._follower.finish()
        self._trainer = None

    def _flush(self) -> None:
        if self._trainer is None:
            return
        # On every rank, because reading may reduce a metric over the ranks.
        logged = dict(self._trainer.callback_metrics)
        # A metric keeps its tensor until it is logged again, such as by the next validation.
        new = {name: v for name, v in logged.items() if v is not self._before.get(name)}
        self._follower.flush(chosen_facts(new, self._metrics))

    def _recorded(self, module: nn.Module) -> nn.Module:
        """The network to record.

        Raises:
            LogError: If there is no such submodule, or the LightningModule has no `forward`.
        """
        if self._network is not None:
            try:
                return module.get_submodule(self._network)
            except AttributeError as error:
                children = ", ".join(name for name, _ in module.named_children())
                raise LogError(
                    f"{type(module).__name__} has no submodule {self._network!r}; it has {children}"
                ) from error
        home = str(type(module).forward.__module__)
        if home.startswith(tuple(f"{library}." for library in _HOMES)):
            raise LogError(
                f"{type(module).__name__} has no forward(inputs) that could be measured; define "
                "it, or name the submodule to record, such as network='model'"
            )
        return module


def _place(trainer: Any) -> tuple[int, bool]:
    """The number of complete epochs, and whether a further one is partly trained."""
    epochs = trainer.fit_loop.epoch_progress
    batches = trainer.fit_loop.epoch_loop.batch_progress
    inside = epochs.total.started > epochs.total.processed
    # A checkpoint of the validation at the end of an epoch; its batches are all done.
    at_end = inside and batches.is_last_batch
    return epochs.current.processed + at_end, inside and not at_end
