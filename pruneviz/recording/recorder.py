"""The recorder: measures a network during training and writes a run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.log.run_directory import last_epoch_of
from pruneviz.log.run_lock import released_on_error
from pruneviz.log.spec_file import is_sealed
from pruneviz.log.spooled_runs import in_spool, prepare
from pruneviz.log.uploads import Uploads
from pruneviz.log.vocabulary import MASK_RATIO
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import Snapshot
from pruneviz.model.filters import unwrap
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Sample, model_device
from pruneviz.recording import run_facts
from pruneviz.recording.bits import network_digest
from pruneviz.recording.epoch_facts import Fact, epoch_named
from pruneviz.recording.epoch_writer import EpochWriter
from pruneviz.recording.history import checked_mask_score
from pruneviz.recording.last_epoch import LastEpoch, failure_of, say_measured
from pruneviz.recording.measured_epochs import AtEpochs, Every, last_facts, measured_at
from pruneviz.recording.named_callables import callables_facts
from pruneviz.recording.opening import (
    Resume,
    check_resume,
    finished_error,
    open_log,
    say_coverage,
)
from pruneviz.recording.own_pruning import OwnPruning, check_rounds
from pruneviz.recording.ranks import check_one_rank, nothing_here, one_writer, rank
from pruneviz.recording.request_epochs import RequestAt, options_at, options_of_last, request_facts
from pruneviz.recording.resumable import Resumable
from pruneviz.recording.run_so_far import RunSoFar
from pruneviz.recording.sending import Sending
from pruneviz.recording.showing import Showing
from pruneviz.recording.sinks import Sinks
from pruneviz.recording.stored_rows import rows_to_store
from pruneviz.recording.subject import Subject


class Recorder(Resumable):
    """Record a run: cheap columns at every epoch, derivative columns at the epochs of `every`.

    Recording does not change training: parameters, gradients, buffers, modes and random generators
    are preserved. Use the recorder as a context manager, or call `close()` at the end. Epochs
    recorded before a crash stay on disk, and the run can be resumed.

    Under `torch.distributed` rank 0 records. On other ranks a recorder measures and writes nothing,
    so every rank runs the same loop.

    Args:
        model: Network to record, as for `pruneviz.measure`. It may be wrapped (DataParallel, DDP).
        sample: Fixed measurement sample: inputs [N, ...] and targets [N], or a list of such
            batches.
        out: Run directory; must be empty or missing. Its name is the run name, unless `spec` has
            one. A URL such as "s3://bucket/run" is recorded into a folder of the spool, and
            uploaded in the background.
        every: Measure derivatives at epochs 0, `every`, 2 `every`, ..., or where this function of
            the epoch is true.
        spec: Run facts (`seed`, `network`, `dataset` and any others), stored in `spec.json`.
        lag: Epochs between the two values of `sigma_delta` and `theta_delta`.
        mask_score: Pruning measure of cheap columns (as for `pruneviz.score`) for the logged mask
            distance. Default: `bn_scale` for filters, else `magnitude`.
        mask_ratio: Fraction that these masks prune.
        resume: Continue the unfinished run in `out`. "auto" takes the folder as it is: it starts a
            new run, continues an unfinished one, or leaves a finished one alone and says so.
            Sample, loss and options have to be those of before, and the network the one of
            `last_epoch`, see `load_state_dict`.
        measure_last: Whether `close()` measures derivatives at the last epoch too, if `every`
            leaves it out. It does so only while the network is still the one of that epoch.
            Default: if `every` is a number.
        rows: Number of weights stored with unit "weight"; masks and correlations are of all.
        rows_seed: Seed that selects these weights.
        request_at: Epochs at which columns on request are measured, `delta_loss` (`oracle=200`)
            among them: a list, an int or a function as for `every`. Default: those of `every`.
        every_rank: Record on every rank, each into an `out` of its own, such as networks that are
            trained independently.
        sinks: Where aggregates of every recorded epoch go too, such as `pruneviz.sinks.TensorBoard`
            or a function of (run, epoch, aggregates). One that fails is named in a warning; none
            stops or changes training.
        figures_at: Epochs at which sinks get a scatter plot of the filters: a list, an int or a
            function as for `every`. Default: none.
        gap: Whether epochs may be left out between two recorded ones. Otherwise an epoch that does
            not follow the last one is an error.
        upload_checkpoints: With a URL as `out`, whether checkpoints in the run directory, as
            `pruneviz record` writes them, go into the store too.
        **measuring: Any option of `pruneviz.measure`, such as `bn`; `columns` chooses derivative
            columns. samples=2 measures two halves of the sample too, at twice the cost.

    Attributes:
        spec: Run facts (`RunSpec`).
        coverage: Which parameters are measured, and why the others are not (`Coverage`).
        records: Whether this process records; otherwise there is no `spec` and no `log`.
        finished: Whether the run is finished, by `close()` or as it was found with resume="auto".

    Raises:
        LogError: If the folder holds another run, the disk cannot be written to, or a recording
            option is invalid. Nothing is written.
        DataError: If two passes over the sample differ (shuffled or augmented), or it is empty.
            Nothing is written.
        MeasureError: If the model gives different results when evaluated twice (dropout, noise),
            has no filters, or a measuring option is invalid. Nothing is written.

    Example:
        >>> with pv.Recorder(model, (images, labels), "data/mine/run0", every=10) as recorder:
        ...     recorder.after_epoch(0)
        ...     for epoch in range(1, 161):
        ...         train_one_epoch(model)
        ...         recorder.after_epoch(epoch, test_acc=accuracy(model))
    """

    def __init__(
        self,
        model: AnyNetwork,
        sample: Sample,
        out: str | Path,
        every: Every = 10,
        spec: Mapping[str, Any] | None = None,
        *,
        lag: int = 1,
        mask_score: AnyMeasure | None = None,
        mask_ratio: float = MASK_RATIO,
        resume: Resume = False,
        measure_last: bool | None = None,
        rows: int = 2000,
        rows_seed: int = 0,
        request_at: RequestAt = None,
        every_rank: bool = False,
        sinks: Sinks = (),
        figures_at: AtEpochs | None = None,
        gap: bool = False,
        upload_checkpoints: bool = False,
        **measuring: Any,
    ) -> None:
        self._model = unwrap(model)
        device = partial(model_device, self._model)
        self._sinks = Sending(sinks, figures_at, device)
        self._options = Options.of(**measuring).with_fixed_theta(self._model)
        check_one_rank(self._model, self._options.bn)
        self.records = every_rank or rank() == 0
        check_resume(resume, measure_last)
        self.finished, self._closed, self._unwritten = False, False, False
        # the same folder, also after a change of the working one
        out = in_spool(out).expanduser().absolute()
        self._path, self._shown = out, Showing(out, device)
        if not self.records:
            self._idle_epoch = last_epoch_of(out) if resume else None
            self.finished = resume == "auto" and is_sealed(out)
            return
        unit, self._gap = self._options.row_kind, gap
        self._is_measured, self._every = measured_at(every), every
        self._options_at = options_at(self._options, every, request_at)
        self._options_of_last = options_of_last(self._options, request_at)
        self._measures_last = not callable(every) if measure_last is None else measure_last
        self._mask_score = checked_mask_score(mask_score, unit)
        self._subject = Subject(self._model, sample, self._options)
        self.coverage, self._cheap = self._subject.coverage, self._subject.cheap
        layers = self._subject.layers
        stored, row_facts = rows_to_store(self._model, layers, unit, rows, rows_seed)
        self._writer, self._last = EpochWriter(unit, stored), LastEpoch()
        self._pruning = OwnPruning()
        measured = {"lag": lag, "mask_score": self._mask_score.name, "mask_ratio": mask_ratio}
        measured |= run_facts.measured_facts(self._model, self._options, every) | row_facts
        measured |= self._subject.sampling | callables_facts(self._options, self._mask_score)
        measured |= last_facts(every, measure_last)
        own = self._model, self.coverage, layers, self._options
        found = run_facts.found_facts(*own, measuring) | request_facts(self._options, request_at)
        self.spec = run_facts.spec_of(self._path.name, measured, found, spec or {})
        with one_writer():
            prepare(out, resume=bool(resume))
            log, how = open_log(out, self.spec, resume)
        self.finished = how == "finished"
        of_run = self.spec, self._subject, self._mask_score, stored, tuple(measured)
        with released_on_error(log.release):
            self._uploads = Uploads(out, checkpoints=upload_checkpoints)
            self._uploads.begin()
            self._so_far = RunSoFar(log, how, *of_run)
            self._recognise()
            self._sinks.continues(self.last_epoch)
        say_coverage(self.coverage, how)

    def after_epoch(self, epoch: int, *, rounds: pd.DataFrame | None = None, **facts: Fact) -> None:
        """Record the current network.

        Args:
            epoch: Number of epochs trained; 0 for the initialisation.
            rounds: Layers after a pruning round at this epoch, one row per layer:
                `pruner.counts().assign(round=1)`.
            **facts: Columns for the epochs table: `phase`, `lr`, `train_loss`, `train_acc`,
                `test_loss`, `test_acc`, `seconds`, `kept_fraction` if it is not the fraction of
                kept rows, and numbers and text by any other name, such as `val_acc=0.7` or
                `**{"loss/aux": 0.1}`; null at epochs without it. Names that end in acc or accuracy
                are fractions.

        Raises:
            LogError: If the epoch is not the one after the last; if the run was continued with
                another network; if a fact has the name of a measured column or run fact, is no
                fraction, negative though a time, or text and was a number before; if the run is
                finished, or the disk cannot be written to.
            MeasureError: If a loss or derivative is not finite; names the epoch. The epoch is not
                written, earlier ones stay.
        """
        self.observe(epoch, rounds=rounds, **facts)()

    def observe(
        self, epoch: int, *, rounds: pd.DataFrame | None = None, **facts: Fact
    ) -> Callable[..., None]:
        """Measure the current network, and return a function that writes the measurement.

        The returned function does not need the network, so a GPU can already train the next epoch.
        Call it once, before any other method of the recorder. It takes facts that were not known
        before, such as `test_acc`.

        Args:
            epoch, rounds, **facts: As for `after_epoch`.

        Raises:
            LogError, MeasureError: As for `after_epoch`; disk errors by the returned function.
        """
        self._check_open(epoch)
        if not self.records:
            self._idle_epoch = epoch
            return lambda **late: None
        self._so_far.check(epoch, gap=self._gap)
        epoch = int(epoch)  # of NumPy, say
        given = self._so_far.facts.checked(facts, self.log.facts)
        check_rounds(rounds)
        with epoch_named(epoch):
            seen = self._cheap.read(epoch)
        options = self._options_at(epoch)
        snapshot = self._subject.measured(epoch, options) if options else Snapshot(pd.DataFrame())
        digest = network_digest(self._model)
        self._cheap.changes.remember(epoch)
        self._last.forget()
        if self._measures_last and not self._is_measured(epoch):
            self._last.note(self._model)
        self._unwritten = True

        def write(**late: Fact) -> None:
            known = given | self._so_far.facts.checked(late, self.log.facts)
            self._unwritten = False
            cheap = self._with_changes(epoch, self._cheap.table(seen))
            of_network = digest()
            row = {
                "phase": "train" if epoch else "init",
                "kept_fraction": cheap["kept"].mean(),
                **self._so_far.facts.marked(epoch, known),
                "epoch": epoch,
                "mask_distance": self._so_far.history.mask_distance(cheap),
                "network_digest": of_network,
            }
            self.log.take()
            self._cheap.changes.write(self.log.checkpoint, epoch, of_network)
            self._writer.append(self.log, epoch, cheap, snapshot, row, rounds)
            self._so_far.remember(epoch, cheap, known, of_network)
            self._pruning.see(self.log, epoch, row, rounds)
            self._uploads.changed()
            self._sinks.send(self.log, epoch)
            self._shown.refresh()

        return write

    def table(
        self,
        epoch: int,
        columns: str | Sequence[str] = (),
        temperatures: float | Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Measure the filters table of the current network for ranking; nothing is written.

        Args:
            epoch: Number of epochs trained.
            columns: Derivative columns to measure. Default: none.
            temperatures: Logit temperatures. Default: the recorder's.

        Returns:
            One row per filter, weight or unit: run, epoch, keys, `kept`, the cheap columns and
            their changes, and `columns`; null as in the log.

        Raises:
            MeasureError: If a column cannot be measured, or a value is not finite.
        """
        if not self.records:
            raise nothing_here("table")
        self._check_written()
        with epoch_named(epoch):
            seen = self._cheap.read(epoch)
        cheap = self._with_changes(epoch, self._cheap.table(seen))
        table = self._subject.ranking_table(epoch, cheap, columns, temperatures)
        return table.assign(run=self.log.spec.run)

    def show(self) -> Any:
        """Show where the run stands: in a notebook, refreshed after each epoch.

        A scatter plot of the last measured epoch, correlation and mask distance so far, and an
        accuracy or loss. Elsewhere than in a notebook nothing can be refreshed.

        Returns:
            Outside of a notebook the picture, a matplotlib figure, to save it or to show it.
        """
        return self._shown.show() if self.records else None

    def note(self, **facts: Any) -> None:
        """Add late facts to the spec, such as a size after pruning.

        They are written to `spec.json` when the run is closed.

        Raises:
            LogError: If the spec has a fact already, or pruneviz states what has its name; if
                JSON cannot store it; if the recorder is closed.
        """
        run_facts.check_given(facts)
        if self.records:
            self._so_far.facts.check_note(facts)
            self.log.note(facts)

    def close(self) -> None:
        """Seal the run: one file per table, marked finished. A second call is a no-op.

        First measures the last epoch, unless it is measured or `measure_last` is false. If tensors
        or modules (not hooks) have changed since, no epoch was recorded after a resume, or memory
        runs out, a warning says so, and the run is sealed without.
        """
        if self.records and not self.finished:
            self._check_written()
            if self._measures_last and self.last_epoch is not None:
                self._measure_last(self.last_epoch)
            self._pruning.note(self.log)
            self.log.seal()
            self.finished = self._closed = True
            self._shown.refresh()
            self._sinks.close(self.log)
        if self.records:
            self._uploads.finish()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:  # after an error the run stays open, so that it can be resumed
            self.close()
        elif self.records and not self.finished:
            self._sinks.close(self.log)
            self.log.release()
            self._uploads.leave()

    def _check_open(self, epoch: int) -> None:
        if self.finished:
            raise finished_error(self._path, epoch, self.last_epoch, closed=self._closed)
        self._check_written()

    def _measure_last(self, epoch: int) -> None:
        """Measure the last epoch if it was recorded without derivatives, and say so."""
        wanted = self._options_of_last.wanted()
        if self._is_measured(epoch) or self._writer.is_complete(self.log, epoch, wanted):
            return

        def measure() -> None:
            cheap = self._with_changes(epoch, self._cheap.now())
            snapshot = self._subject.measured(epoch, self._options_of_last)
            self._writer.add(self.log, epoch, cheap, snapshot)
            self._sinks.send(self.log, epoch, again=True)

        reason = self._last.reason_against(self._model) or failure_of(measure)
        say_measured(epoch, self._path, self._every, reason)

    def _with_changes(self, epoch: int, cheap: pd.DataFrame) -> pd.DataFrame:
        return cheap.assign(epoch=epoch, **self._so_far.history.changes(epoch, cheap))
