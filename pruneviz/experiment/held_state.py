"""What a checkpoint of a run would hold at any moment, also within an epoch.

A checkpoint is the state after the last recorded epoch, and `within` it the state some steps later:

    {network, optimizer, generator, epoch, best, wall_seconds, within: {steps, ...}}

Both are needed: the recorder goes on from the network of the last epoch, training from the later
one. Epochs whose steps are not all seen by one process, as by a flow meter, have no `within`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pruneviz.experiment.begun import Begun
from pruneviz.experiment.checkpoint import parts_of, write_checkpoint
from pruneviz.experiment.training import TrainingState
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks

_MOVED_BY_STEPS = ("network", "optimizer", "generator")


class HeldState:
    """Copies of the state of a run, which can be written while the run goes on.

    Args:
        state: State after the last recorded epoch, or before the first one.
        folder: Folder of checkpoints; None for a process that writes none, and holds nothing.
        seconds: Gives the wall-clock time of the run so far.
    """

    def __init__(
        self, state: TrainingState, folder: Path | None, seconds: Callable[[], float]
    ) -> None:
        self._state, self._folder, self._seconds = state, folder, seconds
        self._lock = threading.Lock()
        self._after_epoch: dict[str, Any] = {}
        self._newest: dict[str, Any] | None = None
        if folder is not None:
            self._after_epoch = _copied(parts_of(state))
            begun = state.epoch > 0 or state.within is not None
            self._newest = self._after_epoch | {"within": state.within} if begun else None
        self._written = self._newest

    def at_step(self, begun: Begun) -> None:
        """Hold the state between two steps, without a copy: no step may follow."""
        if self._folder is None:
            return
        self._newest = self._after_epoch | {"within": _within(self._state, begun)}

    def trained(self, begun: Begun) -> None:
        """Hold a copy of the state after the last step of an epoch, before it is recorded."""
        if self._folder is None:
            return
        self._newest = self._after_epoch | {"within": _copied(_within(self._state, begun))}

    def recorded(self, epoch: int, *, pruned: bool) -> None:
        """Hold the state after an epoch that was written into the log.

        Args:
            epoch: The epoch.
            pruned: Whether a round was in it. Without one, the state is that of `trained`, although
                a GPU may have gone on since.
        """
        if self._folder is None:
            return
        within = (self._newest or {}).get("within") or {}
        if pruned or "network" not in within:
            self._after_epoch = _copied(parts_of(self._state))
        else:
            moved = {name: within[name] for name in _MOVED_BY_STEPS}
            self._after_epoch = {**self._after_epoch, **moved, "best": self._state.best}
        self._after_epoch["epoch"] = epoch
        # that nothing of epoch 1 is done says that epoch 0 is recorded
        self._newest = self._after_epoch | {"within": None if epoch else {"steps": 0}}

    def write(self) -> None:
        """Write what is held as a checkpoint, unless it was written already.

        Raises:
            LogError: If the disk cannot be written to; an older checkpoint stays.
        """
        with self._lock:
            parts = self._newest
            if parts is None or parts is self._written or self._folder is None:
                return
            if self._state.generator.device.type == "cuda":
                torch.cuda.synchronize(self._state.generator.device)
            write_checkpoint(parts | {"wall_seconds": self._seconds()}, self._folder)
            self._written = parts


def enter_epoch(state: TrainingState) -> None:
    """Go on to where a checkpoint stands in the epoch after the last recorded one.

    Args:
        state: State from `restore_checkpoint`; changed in place.
    """
    within, state.within = state.within, None
    if within is None:
        return
    state.begun = Begun()
    if within["steps"]:
        before_epoch = state.generator.get_state()
        load_with_masks(state.network, within["network"])
        state.optimizer.load_state_dict(_copied(within["optimizer"]))
        state.generator.set_state(within["generator"].cpu())
        totals, steps, seconds = within["totals"], within["steps"], within["seconds"]
        state.begun = Begun(steps, seconds, before_epoch, totals.clone())


def _within(state: TrainingState, begun: Begun) -> dict[str, Any]:
    return {
        "network": state_with_masks(state.network),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "steps": begun.steps,
        "totals": begun.totals,
        "seconds": begun.seconds,
    }


def _copied(value: Any) -> Any:
    """A copy of tensors in dicts and lists."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
