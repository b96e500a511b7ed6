"""The recorder: measures a network during training and writes a run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.log.arguments import as_tuple
from pruneviz.log.run_directory import last_epoch_of
from pruneviz.log.run_lock import released_on_error
from pruneviz.log.spec_file import is_sealed
from pruneviz.log.spooled_runs import in_spool, prepare
from pruneviz.log.uploads import Uploads
from pruneviz.log.vocabulary import MASK_RATIO
from pruneviz.measuring.bits import network_digest
from pruneviz.measuring.named_callables import callables_facts
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import Snapshot
from pruneviz.model.filters import unwrap
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Sample, model_device
from pruneviz.recording import run_facts
from pruneviz.recording.ending import Ending
from pruneviz.recording.epoch_facts import Fact, epoch_named
from pruneviz.recording.epoch_writer import EpochWriter
from pruneviz.recording.history import checked_mask_score
from pruneviz.recording.last_epoch import LastEpoch
from pruneviz.recording.measured_epochs import AtEpochs, Every, last_facts, measured_at
from pruneviz.recording.opening import (
    Resume,
    check_resume,
    finished_error,
    open_log,
    say_coverage,
)
from pruneviz.recording.own_pruning import OwnPruning, check_rounds
from pruneviz.recording.ranks import RanksWord, Roles, nothing_here, one_writer
from pruneviz.recording.request_epochs import RequestAt, options_at, options_of_last, request_facts
from pruneviz.recording.run_so_far import RunSoFar
from pruneviz.recording.sending import Sending
from pruneviz.recording.showing import Showing
from pruneviz.recording.sinks import Sinks
from pruneviz.recording.stored_rows import rows_to_store
from pruneviz.recording.subject import Subject, ranking_table


class Recorder(Ending):
    """Record a run: cheap columns at every epoch, derivative columns at the epochs of `every`.

    Recording does not change training: parameters, gradients, buffers, modes and random generators
    are preserved. Use the recorder as a context manager, or call `close()` at the end. Epochs
    recorded before a crash stay on disk, and the run can be resumed.

    Under `torch.distributed` every rank makes the recorder and all its calls, with the same
    arguments: each measures its share of the sample, and rank 0 writes.

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
        ranks: Under `torch.distributed`, "share" measures on all ranks, "first" on rank 0 alone,
            while the others wait at their next step. "each" records every rank by itself, into an
            `out` of its own, such as networks that are trained independently.
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
        records: Whether this process writes; otherwise there is no `log`.
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
        ranks: RanksWord = "share",
        sinks: Sinks = (),
        figures_at: AtEpochs | None = None,
        gap: bool = False,
        upload_checkpoints: bool = False,
        **measuring: Any,
    ) -> None:
        self._roles = Roles(ranks, unwrap(model), measuring.get("bn", "eval"))
        self._model, self.records = self._roles.network, self._roles.records
        device = partial(model_device, self._model)
        self.finished, self._closed, self._unwritten = False, False, False
        # the same folder, also after a change of the working one
        where, out = str(out), in_spool(out).expanduser().absolute()
        self._path, self._shown = out, Showing(out, device)
        self._uploads = Uploads(out, checkpoints=upload_checkpoints)
        self._idle_epoch: int | None = None
        with released_on_error(self._roles.close), self._roles.together("pv.Recorder"):
            self._sinks = Sending(sinks, figures_at, device)
            self._options = Options.of(**measuring).with_fixed_theta(self._model)
            check_resume(resume, measure_last)
            if self._roles.is_idle:
                self._idle_epoch = last_epoch_of(out) if resume else None
                self.finished = resume == "auto" and is_sealed(out)
                return
            self._mask_score = checked_mask_score(mask_score, self._options.row_kind)
            measured = {"lag": lag, "mask_score": self._mask_score.name, "mask_ratio": mask_ratio}
            self._is_measured, self._every, self._gap = measured_at(every), every, gap
            self._options_at = options_at(self._options, every, request_at)
            self._options_of_last = options_of_last(self._options, request_at)
            self._measures_last = not callable(every) if measure_last is None else measure_last
            measured |= last_facts(every, measure_last)
            self._subject = Subject(self._model, sample, self._options, self._roles.ranks)
            self.coverage, self._cheap = self._subject.coverage, self._subject.cheap
            stored, of_rows = rows_to_store(
                self._model, self._subject.layers, self._options.row_kind, rows, rows_seed
            )
            measured |= run_facts.measured_facts(self._model, self._options, every) | of_rows
            measured |= self._subject.sampling | callables_facts(self._options, self._mask_score)
            found = run_facts.found_facts(
                self._model, self.coverage, self._subject.layers, self._options, measuring
            )
            found |= request_facts(self._options, request_at)
            self.spec = run_facts.spec_of(self._path.name, measured, found, spec or {})
            given = {"out": where, "resume": resume, "gap": gap, "request_at": request_at}
            self._roles.compare(measured, given, spec)
            self._open(tuple(measured), resume, stored)

    def _open(self, measured: tuple[str, ...], resume: Resume, stored: np.ndarray | slice) -> None:
        """Open the log on the rank that writes; the others learn where it goes on."""
        if self.records:
            self._writer, self._last = EpochWriter(self._options.row_kind, stored), LastEpoch()
            self._pruning = OwnPruning()
            with one_writer():
                prepare(self._path, resume=bool(resume))
                log, how = open_log(self._path, self.spec, resume)
            self.finished = how == "finished"
            of_run = self.spec, self._subject, self._mask_score, stored, measured
            with released_on_error(log.release):
                self._uploads.begin()
                self._so_far = RunSoFar(log, how, *of_run)
                self._recognise()
                self._sinks.continues(self.last_epoch)
                self._follow_first("the opening of the log")
            say_coverage(self.coverage, how)
        else:
            self._follow_first("the opening of the log")

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
        if self._roles.is_idle:
            self._check_open(epoch)
            self._idle_epoch = epoch
            return lambda **late: None
        with self._roles.together(f"after_epoch({epoch})"):
            self._check_open(epoch)
            if self.records:
                self._so_far.check(epoch, gap=self._gap)
            epoch = int(epoch)  # of NumPy, say
            given = self._so_far.facts.checked(facts, self.log.facts) if self.records else {}
            check_rounds(rounds)
            with epoch_named(epoch):
                seen = self._cheap.read(epoch) if self.records else None
            options, ranks = self._options_at(epoch), self._roles.ranks
            snapshot = Snapshot(pd.DataFrame())
            if options:
                snapshot = self._subject.measured(epoch, options, ranks)
        if seen is None:
            self._idle_epoch = epoch
            return lambda **late: None
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
        if self._roles.is_idle:
            raise nothing_here("table")
        ranks = self._roles.ranks
        with self._roles.together(f"table({epoch})"):
            cheap = self._cheap_now(epoch) if self.records else pd.DataFrame()
            asked = ranks.first(
                "the columns of table", lambda: [n for n in as_tuple(columns) if n not in cheap]
            )
            taken = self._subject.for_ranking(epoch, asked, temperatures, ranks)
            return ranks.first(
                "the rows of table",
                lambda: ranking_table(cheap, taken).assign(run=self.log.spec.run),
            )

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

    def __enter__(self) -> Recorder:
        return self

    def _check_open(self, epoch: int) -> None:
        if self.finished:
            raise finished_error(self._path, epoch, self.last_epoch, closed=self._closed)
        self._check_written()
