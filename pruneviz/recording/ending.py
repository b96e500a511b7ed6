"""The part of a recorder that ends a recording: the last epoch measured, the log sealed."""

from __future__ import annotations

from types import TracebackType

import pandas as pd

from pruneviz.measuring.options import Options
from pruneviz.recording.cheap_tables import CheapTables
from pruneviz.recording.epoch_facts import epoch_named
from pruneviz.recording.epoch_writer import EpochWriter
from pruneviz.recording.last_epoch import failure_of, say_measured
from pruneviz.recording.measured_epochs import Every
from pruneviz.recording.own_pruning import OwnPruning
from pruneviz.recording.resumable import Resumable
from pruneviz.recording.showing import Showing
from pruneviz.recording.subject import Subject


class Ending(Resumable):
    """What a `Recorder` does when a training ends, and the tables that this needs."""

    _subject: Subject
    _cheap: CheapTables
    _writer: EpochWriter
    _pruning: OwnPruning
    _shown: Showing
    _every: Every
    _options_of_last: Options

    def close(self) -> None:
        """Seal the run: one file per table, marked finished. A second call is a no-op.

        First measures the last epoch, unless it is measured or `measure_last` is false. If tensors
        or modules (not hooks) have changed since, no epoch was recorded after a resume, or memory
        runs out, a warning says so, and the run is sealed without.
        """
        if self._roles.is_idle:
            return
        if not self.finished:
            self._seal()
        self._roles.close()
        if self.records:
            self._uploads.finish()

    def _seal(self) -> None:
        with self._roles.together("close"):
            if self.records:
                self._check_written()
            if self._measures_last and self.last_epoch is not None:
                self._measure_last(self.last_epoch)
            if self.records:
                self._pruning.note(self.log)
                self.log.seal()
        self.finished = self._closed = True
        if self.records:
            self._shown.refresh()
            self._sinks.close(self.log)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:  # after an error the run stays open, so that it can be resumed
            self.close()
        elif not self.finished:
            self._roles.close()  # the other ranks need not wait for this one
            if self.records:
                self._sinks.close(self.log)
                self.log.release()
                self._uploads.leave()

    def _measure_last(self, epoch: int) -> None:
        """Measure the last epoch if it was recorded without derivatives, and say so."""
        ranks, options = self._roles.ranks, self._options_of_last

        def found() -> tuple[bool, str | None]:
            if self._is_measured(epoch) or self._writer.is_complete(
                self.log, epoch, options.wanted()
            ):
                return False, None
            return True, self._last.reason_against(self._model)

        def measure() -> None:
            with ranks.together("the measurement of the last epoch"):
                snapshot = self._subject.measured(epoch, options, ranks)
            if self.records:
                cheap = self._with_changes(epoch, self._cheap.now())
                self._writer.add(self.log, epoch, cheap, snapshot)
                self._sinks.send(self.log, epoch, again=True)

        is_due, reason = ranks.first("the last epoch", found)
        if is_due:
            reason = reason or failure_of(measure)
            if self.records:
                say_measured(epoch, self._path, self._every, reason)

    def _cheap_now(self, epoch: int) -> pd.DataFrame:
        self._check_written()
        with epoch_named(epoch):
            seen = self._cheap.read(epoch)
        return self._with_changes(epoch, self._cheap.table(seen))

    def _with_changes(self, epoch: int, cheap: pd.DataFrame) -> pd.DataFrame:
        return cheap.assign(epoch=epoch, **self._so_far.history.changes(epoch, cheap))
