"""The part of a recorder that goes on where a recording was cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pruneviz.errors import LogError
from pruneviz.log.run_directory import RunLog
from pruneviz.log.uploads import Uploads
from pruneviz.recording.last_epoch import LastEpoch
from pruneviz.recording.opening import check_rewind
from pruneviz.recording.ranks import Roles
from pruneviz.recording.resuming import Place
from pruneviz.recording.run_so_far import RunSoFar
from pruneviz.recording.run_state import idle_epoch, idle_state
from pruneviz.recording.sending import Sending


class Resumable:
    """What a `Recorder` knows of the epochs recorded so far; idle where nothing is recorded.

    Attributes:
        records: Whether this process records.
        finished: Whether the run is finished.
    """

    records: bool
    finished: bool
    _path: Path
    _so_far: RunSoFar
    _last: LastEpoch
    _sinks: Sending
    _uploads: Uploads
    _idle_epoch: int | None
    _roles: Roles
    _closed: bool
    _unwritten: bool
    _model: nn.Module
    _measures_last: bool
    _is_measured: Callable[[int], bool]

    @property
    def log(self) -> RunLog:
        """The open run directory."""
        return self._so_far.log

    @property
    def last_epoch(self) -> int | None:
        """The last epoch on disk; None before the first."""
        return self._so_far.last if self.records else self._idle_epoch

    @property
    def place(self) -> Place:
        """Whether the network was seen to be that of the last epoch; for trainers."""
        return self._so_far.place

    def next_epoch(self) -> int:
        """The epoch at which a loop goes on: 0, or the one after `last_epoch`.

        Raises:
            LogError: If the network is not the one of `last_epoch`, before anything is trained.
        """
        if self._roles.is_idle or self.finished:
            return 0 if self.last_epoch is None else self.last_epoch + 1
        with self._roles.together("next_epoch"):
            return self._roles.ranks.first("the next epoch", self._next_epoch)

    def _next_epoch(self) -> int:
        self._check_written()
        was_settled = self.place.is_settled
        epoch = self._so_far.next_epoch()
        if not was_settled:
            self._recognise()
        return epoch

    def state_dict(self, epoch: int | None = None) -> dict[str, Any]:
        """Where the recording stands, for your own checkpoint: numbers and texts.

        For single weights and `update_size` also tensors, if the network has changed since the last
        epoch was recorded: the next epoch is compared with it as it was.

        Args:
            epoch: Number of complete epochs of the network. Default: `last_epoch`, or the next one
                if its parameters have changed since. Give it where the network was changed after it
                was recorded, such as pruned, or in the middle of an epoch.

        Raises:
            LogError: If the recording cannot go on with this network.
        """
        self._check_written()
        with self._roles.seeing("state_dict"):
            if not self.records:
                return idle_state(self._path.name, self._idle_epoch)
            return self._so_far.state(epoch).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at the place of a checkpoint, and drop later epochs.

        Call it once the network is restored. A finished run is only compared and left alone.

        Args:
            state: What `state_dict` returned when the checkpoint was saved.

        Raises:
            LogError: If the checkpoint is of another run, sample, network or way of measuring, or
                ahead of the log, or the log lacks its epoch; names the call to make.
        """
        if self._roles.is_idle:
            self._idle_epoch = idle_epoch(state, self._idle_epoch)
            return
        with self._roles.together("load_state_dict"):
            if self.records:
                self._check_written()
                self._so_far.load(state)
                self._recognise()
                self._uploads.changed()
            self._follow_first("the place of a checkpoint")

    def rewind(self, epoch: int) -> None:
        """Drop the epochs recorded after `epoch`, to continue from an earlier checkpoint.

        Opens a finished run again. Call it once the network of that epoch is restored.

        Raises:
            LogError: If the epoch is not recorded, or the network is another one; nothing is
                dropped.
        """
        check_rewind(epoch)
        if self._roles.is_idle:
            self._idle_epoch = None if self._idle_epoch is None else min(self._idle_epoch, epoch)
            self.finished = False
            return
        self._roles.open("rewind")
        with self._roles.together(f"rewind({epoch})"):
            if self.records:
                self._check_written()
                self._so_far.rewind(epoch)
                self.finished = False
                self._recognise()
                self._uploads.changed()
            self._follow_first("the place of a rewind")
            self._closed = False

    def is_ahead(self) -> bool:
        """Whether a checkpoint is ahead of the log, so that its epoch has to be recorded first."""
        self._follow_first("the place of a checkpoint")  # an error kept the other ranks from it
        return self._roles.ranks.first("a checkpoint", lambda: self.place.ahead is not None)

    def _follow_first(self, where: str) -> None:
        """Learn from rank 0 where the recording stands, on all ranks."""
        stands = self.last_epoch, self.finished
        self._idle_epoch, self.finished = self._roles.ranks.first(where, lambda: stands)

    def _recognise(self) -> None:
        """Remember the network as that of the last epoch, if all its bits say so."""
        self._last.forget()
        last = self.last_epoch
        late = self._measures_last and last is not None and not self._is_measured(last)
        if late and self._so_far.verified:
            self._last.note(self._model)

    def _check_written(self) -> None:
        if self._sinks.is_calling:
            raise LogError("a sink called its recorder; call it from the training loop")
        if self._unwritten:
            raise LogError(
                "the last observation is not written yet; "
                "first call the function that Recorder.observe returned"
            )
