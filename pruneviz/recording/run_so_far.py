"""The epochs that a recorder has recorded so far, and how it goes on or back from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import Measure
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import is_sealed
from pruneviz.measuring.bits import network_digest
from pruneviz.recording.before_change import BeforeChange
from pruneviz.recording.epoch_facts import EpochFacts
from pruneviz.recording.history import History, recorded_history
from pruneviz.recording.opening import How, check_next, reopened
from pruneviz.recording.recorded_epochs import RecordedEpochs
from pruneviz.recording.resuming import (
    Place,
    ahead_error,
    check_loss,
    difference,
    kept_by_rewind,
    loss_apart,
    mismatch_error,
    other_network_error,
    other_parts,
)
from pruneviz.recording.run_state import RunState, epoch_of, options_text
from pruneviz.recording.subject import Subject

_logger = logging.getLogger("pruneviz")


class RunSoFar:
    """The recorded epochs of a run, up to the place where it goes on.

    Args:
        log: Run directory.
        how: How it was found.
        spec: Facts of the run, as they are now.
        subject: Network and sample.
        mask_score: Pruning measure of the masks.
        stored: Which rows the log stores.
        measured: Names of the facts of how the run is measured.

    Attributes:
        log: Run directory, open unless the run is finished.
        history: Cheap columns of the last epochs.
        facts: Checks the facts of an epoch.
        place: Whether the network was seen to be that of the last epoch.
        verified: Whether all its bits were, when these epochs were read.
    """

    def __init__(
        self,
        log: RunLog,
        how: How,
        spec: RunSpec,
        subject: Subject,
        mask_score: Measure,
        stored: np.ndarray | slice,
        measured: Sequence[str],
    ) -> None:
        self.log, self._resumed = log, how != "new"
        self._spec, self._subject, self._mask_score = spec, subject, mask_score
        self._stored, self._measured = stored, measured
        self.place = Place(log.path)
        self._loss_due = how != "new"  # until the loss of the last epoch is compared
        self._digest: str | None = None  # of the last epoch
        self.verified = False
        self.history: History
        self.facts: EpochFacts
        recorded = RecordedEpochs(log)
        what = None
        if recorded.epochs and not self.finished:
            what = self._difference(recorded, recorded.epochs[-1])
            if what is not None:
                like = recorded.like(network_digest(subject.model)())
                self.place.wait_for(recorded.epochs[-1], what, like)
        self._take_up(recorded, same=what is None)
        if what is None:
            self._check_due_loss()

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return is_sealed(self.log.path)

    @property
    def last(self) -> int | None:
        """The last recorded epoch; None before the first."""
        return self.history.last

    def check(self, epoch: int, *, gap: bool) -> None:
        """Check that an epoch can be recorded now.

        Args:
            epoch: Its number.
            gap: Whether epochs may be left out.

        Raises:
            LogError: If it is not the next one, or the network was never that of the last one, or
                has another loss than then.
        """
        check_next(epoch, self.last, self.log.path, resumed=self._resumed, gap=gap)
        self.place.check()
        self.place.check_ahead(epoch, lambda: network_digest(self._subject.model)())
        self._check_due_loss()

    def remember(
        self, epoch: int, cheap: pd.DataFrame, facts: Mapping[str, Any], digest: str | None
    ) -> None:
        """Take in an epoch that was written.

        Args:
            epoch: Its number.
            cheap: Its cheap columns.
            facts: Facts that were given.
            digest: Digest of its network.
        """
        self.history.remember(epoch, cheap)
        self.facts.remember(facts)
        self._digest = digest
        self._loss_due = False
        self.place.settle()

    def next_epoch(self) -> int:
        """The epoch at which the recording goes on; compares the network with the one before it."""
        if not self.place.is_settled and self.last is not None:
            recorded = RecordedEpochs(self.log)
            if self._difference(recorded, self.last) is not None:
                self.place.check()
            self._check_loss(recorded, self.last)
            self._take_up(recorded, same=True)
        self._check_due_loss()
        return 0 if self.last is None else self.last + 1

    def rewind(self, epoch: int) -> None:
        """Drop later epochs, and open the run again if it is finished.

        Raises:
            LogError: If the epoch is not recorded, or the network is another one; nothing is
                dropped.
        """
        recorded = RecordedEpochs(self.log)
        kept = kept_by_rewind(self.log.path, recorded, epoch)
        if kept is not None:
            what = self._difference(recorded, kept)
            if what is not None:
                raise mismatch_error(self.log.path, kept, what)
            self._check_loss(recorded, kept)
        if self.finished:
            self.log = reopened(self.log)
            self._resumed = True
        self._drop_after(epoch)

    def state(self, epoch: int | None = None) -> RunState:
        """Where the recording stands, for a checkpoint of the network as it is now.

        Args:
            epoch: Number of epochs that the network was trained. Default: seen from its weights.

        Raises:
            LogError: If the network is not the one at which the recording goes on.
        """
        self.place.check()
        now = self._state_now()
        spec = self.log.spec
        trained = epoch_of(epoch, self.last, self._digest, now.network)
        changed = None in (now.network, self._digest) or now.network != self._digest
        before = self._before.tensors() if changed and self._before.is_needed else None
        return replace(
            now,
            created=spec.created,
            last_epoch=self.last,
            epoch=trained,
            recorded=self._digest,
            before=before,
        )

    @property
    def _before(self) -> BeforeChange:
        return BeforeChange(self.history, self._subject.cheap, self._spec.unit)

    def load(self, given: object) -> None:
        """Go on at the place of a state, whose network was restored.

        Raises:
            LogError: If the state is of another run, sample, network or way of measuring, or the
                log lacks its epoch; names the call to make. Nothing is dropped then, unless the
                network is ahead of the log.
        """
        state, now, path = RunState.of(given), self._state_now(), self.log.path
        recorded = RecordedEpochs(self.log)
        state.check_run(path, now)
        state.check_recorded(path, recorded, self.log.spec.created)
        last = kept = state.last_epoch
        what = None
        if state.network is not None and now.network is not None:
            what = other_parts(state.network, now.network)
        elif last is not None:
            what = self._difference(recorded, last)
        if what is not None:
            raise other_network_error(path, last, what)
        if self.finished:
            return
        if state.is_ahead or last is None:
            # it may have been recorded after the checkpoint was saved
            found = recorded.like(now.network, after=-1 if last is None else last)
            kept = last if found is None else found
        if kept is not None and recorded.like(now.network, after=kept - 1) == kept:
            self._check_loss(recorded, kept)
        same = self._drop_after(-1 if kept is None else kept)
        if kept == last and not same:
            self._before.restore(path, state.before or {})
        if state.is_ahead and kept == last:
            assert state.epoch is not None, "a state that is ahead has an epoch"
            self.place.ahead = state.epoch, now.network
            raise ahead_error(path, state.epoch)

    def _drop_after(self, epoch: int) -> bool:
        """Drop later epochs; whether the network is the one of the last that is left."""
        self.log.drop_after(epoch)
        recorded = RecordedEpochs(self.log)
        last = recorded.epochs[-1] if recorded.epochs else None
        same = last is None or self._difference(recorded, last) is None
        self._take_up(recorded, same=same)
        self.place.settle()
        self._loss_due = False
        return same

    def _take_up(self, recorded: RecordedEpochs, *, same: bool) -> None:
        """Read what is needed of the recorded epochs.

        Args:
            recorded: These epochs.
            same: Whether the network is the one of the last of them.
        """
        last = recorded.epochs[-1] if recorded.epochs else None
        self.facts = EpochFacts(self._spec.to_dict(), recorded.table)
        self._digest = None if last is None else recorded.digest(last)
        self.verified = same and self._digest is not None and not self.finished
        if self.finished:
            self.history = History(self._spec, self._mask_score, {}, last)
            return
        if same:
            self.place.settle()
        cheap = self._subject.cheap
        spec = self._spec
        if last is not None and spec.unit == "weight" and spec.lag > 1:
            _logger.warning(
                "%s stores some weights alone, so changes of single weights over %s epochs are "
                "null before epoch %s",
                *(self.log.path, spec.lag, last + spec.lag),
            )
        how = spec, self._mask_score, cheap.now
        self.history = recorded_history(self.log, *how, agrees=same)
        cheap.changes.restart(self.log.checkpoint, last, same)

    def _difference(self, recorded: RecordedEpochs, epoch: int) -> str | None:
        digest = network_digest(self._subject.model)()
        device = self._subject.device().type
        return difference(recorded, epoch, self.log.spec, digest, self._stored_now, device)

    def _stored_now(self) -> pd.DataFrame:
        return self._subject.cheap.now().iloc[self._stored]

    def _check_due_loss(self) -> None:
        """Check the loss of the last epoch once, while the network is the one of it."""
        if not self._loss_due or self.finished or self.last is None:
            return
        recorded = RecordedEpochs(self.log)
        if recorded.loss(self.last) is None or self._difference(recorded, self.last) is None:
            self._check_loss(recorded, self.last)
        self._loss_due = False

    def _check_loss(self, recorded: RecordedEpochs, epoch: int) -> None:
        subject, before, path = self._subject, recorded.loss(epoch), self.log.path
        apart = loss_apart(self.log.spec.device, subject.device().type)
        check_loss(path, epoch, before, lambda: subject.loss(epoch), apart)
        self._loss_due = False

    def _state_now(self) -> RunState:
        facts = self._spec.to_dict()
        options = options_text(self._spec, self._measured)
        digest = network_digest(self._subject.model)()
        sample = facts.get("sample_digest")
        return RunState(self.log.spec.run, None, None, None, sample, options, digest)
