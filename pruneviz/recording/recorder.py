"""The recorder: measures a network while it trains, epoch by epoch, and writes what it sees to a run directory."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from pruneviz.analysis.scores import NEEDS
from pruneviz.analysis.weight_correlations import weight_correlations
from pruneviz.errors import LogError, MeasureError, PrunevizError
from pruneviz.log import schema
from pruneviz.log.run_directory import RunLog
from pruneviz.measuring.cheap_columns import CheapColumns, CheapValues
from pruneviz.measuring.objective import Loss
from pruneviz.measuring.repeatability import check_repeatable, fixed_batches
from pruneviz.measuring.snapshot import Options, Snapshot, take_snapshot
from pruneviz.model.filters import find_layers, unwrap
from pruneviz.model.isolation import generators_preserved, tried_kernels
from pruneviz.model.sample import Sample, model_device
from pruneviz.recording.history import History
from pruneviz.recording.run_facts import Schedule, machine_facts, measured_facts, spec_of
from pruneviz.recording.stored_rows import stored_rows

_MASK_SCORES: Mapping[str, str] = {"filter": "bn_scale", "weight": "magnitude"}
_OWN_FACTS = frozenset({"run", "epoch", "mask_distance", "sample_loss", "g_norm2", "ghg"})


class Recorder:
    """Records a run: cheap columns at every epoch, derivative columns at the epochs that `every` names.

    Use it as a context manager, or call `close()` at the end; what was recorded before a crash stays and can be resumed.

    Args:
        model, sample, temperatures, bn, columns, chunk, loss, dtype, classifier: as for `pruneviz.measure`; `columns` chooses among
            the derivative columns, the cheap ones are always written.
        out: the run directory; must not exist, or be empty. Its name is the run's name unless `spec` gives one.
        every: measure derivatives at multiples of this many epochs (0 included), or at epochs for which a function says so.
        spec: facts of the run (`seed`, `network`, `dataset`, ...; any others too), stored in `spec.json`.
        lag: epochs between the two values of `sigma_delta` and `theta_delta`.
        mask_score, mask_ratio: the measure and pruned fraction of the masks whose distance between consecutive epochs is logged;
            the measure must need cheap columns only. None: `bn_scale` of filters, `magnitude` of single weights.
        resume: go on with the unfinished run in `out`.
        unit: what a row is about, a "filter" or a single "weight". Of all weights a fixed subset of `rows`, drawn with the seed
            `rows_seed`, is stored; mask distances and, at measured epochs, the correlations table are of all weights.

    Errors: `LogError` for a folder that holds another run, or a disk that cannot be written to; `DataError` and `MeasureError` for a
    sample or model that answers differently twice, or cannot be measured. Then nothing is written.
    """

    def __init__(
        self,
        model: nn.Module,
        sample: Sample,
        out: str | Path,
        every: Schedule = 10,
        spec: Mapping[str, Any] | None = None,
        *,
        temperatures: tuple[float, ...] = (1.0, 200.0),
        bn: str = "eval",
        columns: Sequence[str] | None = None,
        chunk: int | None = None,
        loss: Loss | None = None,
        dtype: torch.dtype | None = None,
        classifier: bool = False,
        lag: int = 1,
        mask_score: str | None = None,
        mask_ratio: float = 0.2,
        resume: bool = False,
        unit: str = "filter",
        rows: int = 2000,
        rows_seed: int = 0,
    ) -> None:
        self._model, self._sample = unwrap(model), sample
        chosen = None if columns is None else tuple(columns)
        self._options = Options(
            tuple(temperatures), bn, chosen, chunk, loss, dtype, classifier, unit
        )
        self._due = _due_epochs(every)
        mask_score = _MASK_SCORES[unit] if mask_score is None else mask_score
        _check_cheap(mask_score, unit)
        batches = fixed_batches(self._model, sample, self._options)
        with generators_preserved(batches, model_device(model)):
            self._layers = find_layers(self._model, batches[0][0], classifier=classifier)
        self._cheap = CheapColumns(self._model, self._layers, unit)
        measured = {
            "lag": lag,
            "mask_score": mask_score,
            "mask_ratio": mask_ratio,
            **measured_facts(self._model, self._options, every),
        }
        measured["sample_size"] = check_repeatable(self._model, batches, self._options)
        measured |= self._choose_rows(rows, rows_seed)
        self.spec = spec_of(
            Path(out).name, measured, {**machine_facts(self._model), **(spec or {})}
        )
        self.log = RunLog.resume(out, self.spec) if resume else RunLog.create(out, self.spec)
        self._closed, self._unwritten = False, False
        self._history = self._recorded_history()

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that is on disk; None before the first."""
        return self._history.last

    def after_epoch(
        self, epoch: int, rounds: pd.DataFrame | None = None, **facts: float | str
    ) -> None:
        """Record the network as it is now, after `epoch` epochs of training (0: the initialisation).

        Args: `rounds`, where this epoch pruned: one row per layer with the columns of the rounds table, but run and epoch. `facts` of
        the epoch, any columns of the epochs table: `phase`, `lr`, `train_loss`, `train_acc`, `test_loss`, `test_acc`, `seconds`, and
        `kept_fraction`, if it is another than the plain fraction of rows with a weight.
        Errors: `LogError` for an epoch that is not later than the last, an unknown fact, a closed recorder or a disk
        that cannot be written to; `MeasureError` naming the epoch when a loss or derivative is not finite. Then the epoch is
        not written, and those before it stay.
        """
        self.observe(epoch, rounds, **facts)()

    def observe(
        self, epoch: int, rounds: pd.DataFrame | None = None, **facts: float | str
    ) -> Callable[[], None]:
        """The first half of `after_epoch`: look at the network as it is now; returns the second half, which writes what was seen.

        The second half needs the network no more, and has to be called, once, before anything else is asked of the recorder. A GPU can
        train on meanwhile: call it when the next epoch is under way. Args and errors: as `after_epoch`, those of the disk when it writes.
        """
        self._check_call(epoch, facts)
        seen = self._seen(epoch)
        due, plain = self._due(epoch), _plain(facts)
        whole = self._measured(epoch, self._options) if due else Snapshot(pd.DataFrame())
        self._unwritten = True

        def write() -> None:
            self._unwritten = False
            cheap = self._cheap_table(epoch, seen)
            row = {
                "phase": "train" if epoch else "init",
                "kept_fraction": cheap["kept"].mean(),
                **plain,
                "epoch": epoch,
            }
            self._write(epoch, cheap, whole, row, rounds)

        return write

    def table(
        self, epoch: int, columns: Sequence[str] = (), temperatures: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """The filters table of the network as it is now, such as pruning ranks by; writes nothing.

        Args: `epoch`, the epochs trained so far; `columns`, the derivative columns to measure (none: no derivative is computed);
        `temperatures` in the place of the recorder's own. Returns: one row per filter or weight: run, epoch, keys, `kept`, the cheap
        columns and those asked for, null as in the log. Errors: `MeasureError` for a column that cannot be measured, and as `after_epoch`.
        """
        self._check_written()
        cheap = self._cheap_table(epoch, self._seen(epoch))
        asked = tuple(name for name in columns if name not in cheap)
        options = replace(
            self._options,
            columns=asked,
            temperatures=tuple(temperatures or self._options.temperatures),
        )
        return _beside(
            cheap, self._measured(epoch, options).filters if asked else pd.DataFrame()
        ).assign(run=self.spec.run)

    def note(self, **facts: Any) -> None:
        """Add facts of the run that are known late, such as its size after pruning; they become part of `spec.json` when it is sealed.

        Errors: `LogError` for a fact that the spec holds already or that JSON cannot hold, and for a closed recorder.
        """
        self.log.note(facts)

    def close(self) -> None:
        """Seal the run: one file a table, marked finished. Closing twice does nothing."""
        if not self._closed:
            self._check_written()
            self.log.seal()
            self._closed = True

    def rewind(self, epoch: int) -> None:
        """Forget what was recorded after `epoch`, for a training loop that goes on from an earlier checkpoint.

        Call it when the network is that of the checkpoint: of single weights the log holds a few only, so the changes and the mask
        distance of the next epoch are made from the network. If it is another one they are null.
        """
        self._check_written()
        self.log.drop_after(epoch)
        self._history = self._recorded_history()

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

    def _choose_rows(self, rows: int, seed: int) -> dict[str, Any]:
        """Fix which rows are stored; returns the facts about them."""
        self._rows: np.ndarray | slice = slice(None)
        if self._options.unit == "filter":
            return {}
        weights = sum(self._model.get_parameter(layer.weight).numel() for layer in self._layers)
        self._rows = stored_rows(weights, rows, seed)
        return {"weight_rows": int(rows), "weight_rows_seed": int(seed), "weights": weights}

    def _check_call(self, epoch: int, facts: Mapping[str, object]) -> None:
        if self._closed:
            raise LogError(
                f"the recorder of {self.log.path} is closed; make a new one in another folder"
            )
        self._check_written()
        taken = [name for name in schema.EPOCHS if name not in _OWN_FACTS]
        unknown = sorted(set(facts) - set(taken))
        if unknown:
            raise LogError(
                f"after_epoch takes no fact {', '.join(unknown)}; it takes {', '.join(taken)}"
            )
        if not isinstance(epoch, numbers.Integral):
            raise LogError(
                f"epoch={epoch!r}; give the number of epochs trained so far, a whole number from 0"
            )
        if epoch < 0 or (self.last_epoch is not None and epoch <= self.last_epoch):
            raise LogError(
                f"epoch {epoch} comes after epoch {self.last_epoch}; epochs count up from 0, the initialisation"
            )

    def _check_written(self) -> None:
        if self._unwritten:
            raise LogError(
                "what was observed last is not written yet; first call what Recorder.observe returned"
            )

    def _write(
        self,
        epoch: int,
        cheap: pd.DataFrame,
        whole: Snapshot,
        row: dict[str, Any],
        rounds: pd.DataFrame | None,
    ) -> None:
        table = _beside(cheap, whole.filters)
        row |= {"mask_distance": self._history.mask_distance(cheap)}
        row |= {"sample_loss": whole.sample_loss, "g_norm2": whole.g_norm2, "ghg": whole.ghg}
        correlated = self._options.unit == "weight" and not whole.filters.empty
        self.log.append(
            epoch,
            filters=table.iloc[self._rows],
            epochs=pd.DataFrame([row]),
            rounds=None if rounds is None else rounds.assign(epoch=epoch),
            correlations=weight_correlations(table).assign(epoch=epoch) if correlated else None,
        )
        self._history.remember(epoch, cheap)

    def _seen(self, epoch: int) -> CheapValues:
        """What the cheap columns are made of; weights that are NaN the log would keep as null, and as pruned."""
        seen = self._cheap.read()
        parameters = [] if seen.bounded else self._model.named_parameters()
        broken = next(
            (f"parameter {name} is not finite" for name, p in parameters if not p.isfinite().all()),
            None,
        )
        if broken or not (seen.terms["theta_norm2"] <= torch.finfo(torch.float32).max).all():
            what = broken or f"norm of the weights of layer {self._largest(seen)} is beyond float32"
            raise MeasureError(
                f"at epoch {epoch}: the {what}; the training diverged, lower its learning rate"
            )
        return seen

    def _largest(self, seen: CheapValues) -> str:
        exact = self._cheap.table(seen)
        return str(
            exact.loc[exact["theta_norm2"] > torch.finfo(torch.float32).max, "layer"].iloc[0]
        )

    def _cheap_table(self, epoch: int, seen: CheapValues) -> pd.DataFrame:
        """The cheap columns and their changes."""
        cheap = self._rounded(self._cheap.table(seen))
        return cheap.assign(epoch=epoch, **self._history.changes(epoch, cheap))

    def _rounded(self, cheap: pd.DataFrame) -> pd.DataFrame:
        """Cheap columns as the log keeps them."""
        return cheap.astype(dict.fromkeys(schema.CHEAP_OF_UNIT[self._options.unit], "float32"))

    def _measured(self, epoch: int, options: Options) -> Snapshot:
        try:
            with tried_kernels(
                model_device(self._model)
            ):  # every snapshot has the shapes of the first
                return take_snapshot(self._model, self._sample, options, self._layers)
        except PrunevizError as error:
            raise type(error)(f"at epoch {epoch}: {error}") from error

    def _recorded_history(self) -> History:
        last = max(self.log.epochs, default=None)
        if last is None:
            return History(self.spec, {}, None)
        filters = self.log.read("filters")
        if self._options.unit == "weight":
            return History(
                self.spec, self._weights_of(filters[filters["epoch"] == last], last), last
            )
        known = [epoch for epoch in self.log.epochs if epoch >= last - self.spec.lag]
        return History(
            self.spec,
            {epoch: filters[filters["epoch"] == epoch].reset_index(drop=True) for epoch in known},
            last,
        )

    def _weights_of(self, stored: pd.DataFrame, epoch: int) -> dict[int, pd.DataFrame]:
        """All weights at the last recorded epoch, if the network is the one whose weights the log stored then."""
        now = self._rounded(self._cheap.table(self._cheap.read()))
        same = all(
            np.array_equal(stored[name], now[name].iloc[self._rows], equal_nan=True)
            for name in ("theta", "sigma")
        )
        return {epoch: now} if same else {}


def _beside(cheap: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The cheap columns of an epoch, and beside them those that were measured."""
    return pd.concat(
        [cheap, measured.drop(columns=[name for name in cheap.columns if name in measured])], axis=1
    )


def _due_epochs(every: Schedule) -> Callable[[int], bool]:
    if callable(every):
        return every
    if not isinstance(every, numbers.Integral) or isinstance(every, bool) or every < 1:
        raise LogError(
            f"every={every!r}; give the distance of measured epochs, 1 or more, or a function epoch -> bool"
        )
    return lambda epoch: epoch % every == 0


def _check_cheap(mask_score: str, unit: str) -> None:
    cheap = [
        name for name, needed in NEEDS.items() if set(needed) <= set(schema.CHEAP_OF_UNIT[unit])
    ]
    if mask_score not in cheap:
        raise LogError(
            f"mask_score={mask_score!r} is not known at every epoch; choose one of {', '.join(cheap)}, "
            "or derive it from the log afterwards with pruneviz.mask_distance"
        )


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with tensors and NumPy numbers as plain ones."""
    return {
        name: value.item() if hasattr(value, "item") else value for name, value in facts.items()
    }
