"""The recorder: measures a network while it trains, epoch by epoch, and writes what it sees to a run directory."""

from __future__ import annotations

import numbers
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import torch
from torch import nn

from pruneviz import schema
from pruneviz.derivatives import Loss
from pruneviz.errors import LogError, MeasureError, PrunevizError
from pruneviz.filters import find_layers, unwrap
from pruneviz.isolation import generators_preserved
from pruneviz.masks import distance_between, mask_scores
from pruneviz.repeatability import check_repeatable, fixed_batches
from pruneviz.runlog import RunLog
from pruneviz.sample import Sample, model_device, model_dtype
from pruneviz.schema import RunSpec
from pruneviz.scores import NEEDS
from pruneviz.snapshot import Options, Snapshot, cheap_table, take_snapshot

Schedule = int | Callable[[int], bool]

_NULL = float("nan")


class Recorder:
    """Records a run: cheap columns at every epoch, derivative columns at the epochs that `every` names.

    Use it as a context manager, or call `close()` at the end; what was recorded before a crash stays and can be resumed.

    Args:
        model, sample, temperatures, bn, columns, chunk, loss, dtype, classifier: as for `pruneviz.measure`; `columns` chooses among
            the derivative columns, the cheap ones are always written.
        out: the run directory; must not exist, or be empty. Its name is the run's name unless `spec` gives one.
        every: measure derivatives at multiples of this many epochs (0 included), or at epochs for which a function says so.
        spec: facts of the run (`seed`, `network`, `dataset`, ...; any others too), stored in `spec.json`.
        lag: epochs between the two scales of `sigma_delta`.
        mask_score, mask_ratio: the measure and pruned fraction of the masks whose distance between consecutive epochs is logged;
            the measure must need cheap columns only.
        resume: go on with the unfinished run in `out`.

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
        mask_score: str = "bn_scale",
        mask_ratio: float = 0.2,
        resume: bool = False,
    ) -> None:
        self._model, self._sample = unwrap(model), sample
        self._options = Options(tuple(temperatures), bn, None if columns is None else tuple(columns), chunk, loss, dtype, classifier)
        self._due = _due_epochs(every)
        _check_cheap(mask_score)
        batches = fixed_batches(self._model, sample, self._options)
        with generators_preserved(batches, model_device(model)):
            self._layers = find_layers(self._model, batches[0][0], classifier=classifier)
        measured = {"lag": lag, "mask_score": mask_score, "mask_ratio": mask_ratio, **_measured_facts(self._model, self._options, every)}
        measured["sample_size"] = check_repeatable(self._model, batches, self._options)
        self.spec = _spec_of(Path(out).name, measured, {**_machine_facts(self._model), **(spec or {})})
        self.log = RunLog.resume(out, self.spec) if resume else RunLog.create(out, self.spec)
        self._closed = False
        self._cheap = self._recorded_cheap_columns()

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that is on disk; None before the first."""
        return max(self._cheap, default=None)

    def after_epoch(self, epoch: int, **facts: float | str) -> None:
        """Record the network as it is now, after `epoch` epochs of training (0: the initialisation).

        Args: `facts` of the epoch, any columns of the epochs table: `phase`, `lr`, `train_loss`, `train_acc`, `test_loss`, `test_acc`,
        `seconds`. Errors: `LogError` for an epoch that is not later than the last, an unknown fact, a closed recorder or a disk
        that cannot be written to; `MeasureError` naming the epoch when a loss or derivative is not finite. Then the epoch is
        not written, and those before it stay.
        """
        self._check_call(epoch, facts)
        cheap = self._cheap_columns(epoch)
        whole = self._measured(epoch) if self._due(epoch) else Snapshot(pd.DataFrame())
        derived = whole.filters.drop(columns=[c for c in cheap.columns if c in whole.filters])
        filters = pd.concat([cheap, derived], axis=1).assign(epoch=epoch, sigma_delta=self._sigma_delta(epoch, cheap))
        row = {"phase": "train" if epoch else "init", **_plain(facts), "epoch": epoch, "kept_fraction": cheap["kept"].mean()}
        row |= {"mask_distance": self._mask_distance(cheap), "sample_loss": whole.sample_loss, "g_norm2": whole.g_norm2, "ghg": whole.ghg}
        self.log.append(epoch, filters=filters, epochs=pd.DataFrame([row]))
        self._remember(epoch, cheap)

    def close(self) -> None:
        """Seal the run: one file a table, marked finished. Closing twice does nothing."""
        if not self._closed:
            self.log.seal()
            self._closed = True

    def rewind(self, epoch: int) -> None:
        """Forget what was recorded after `epoch`, for a training loop that goes on from an earlier checkpoint."""
        self.log.drop_after(epoch)
        self._cheap = self._recorded_cheap_columns()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:  # after an error the run stays open, so that it can be resumed
            self.close()

    def _check_call(self, epoch: int, facts: Mapping[str, object]) -> None:
        if self._closed:
            raise LogError(f"the recorder of {self.log.path} is closed; make a new one in another folder")
        own = {"run", "epoch", "kept_fraction", "mask_distance", "sample_loss", "g_norm2", "ghg"}
        unknown = sorted(set(facts) - (set(schema.EPOCHS) - own))
        if unknown:
            raise LogError(
                f"after_epoch takes no fact {', '.join(unknown)}; it takes {', '.join(c for c in schema.EPOCHS if c not in own)}"
            )
        if not isinstance(epoch, numbers.Integral):
            raise LogError(f"epoch={epoch!r}; give the number of epochs trained so far, a whole number from 0")
        if epoch < 0 or (self.last_epoch is not None and epoch <= self.last_epoch):
            raise LogError(f"epoch {epoch} comes after epoch {self.last_epoch}; epochs count up from 0, the initialisation")

    def _cheap_columns(self, epoch: int) -> pd.DataFrame:
        """The cheap columns, rounded as the log keeps them; weights that are NaN it would keep as null, and as pruned."""
        broken = next((f"parameter {name} is not finite" for name, p in self._model.named_parameters() if not p.isfinite().all()), None)
        cheap = cheap_table(self._model, self._layers)
        large = cheap.loc[cheap["theta_norm2"] > torch.finfo(torch.float32).max, "layer"]
        if broken or len(large):
            what = broken or f"norm of the weights of layer {large.iloc[0]} is beyond float32"
            raise MeasureError(f"at epoch {epoch}: the {what}; the training diverged, lower its learning rate")
        return cheap.astype(dict.fromkeys(schema.CHEAP_COLUMNS, "float32"))

    def _measured(self, epoch: int) -> Snapshot:
        try:
            return take_snapshot(self._model, self._sample, self._options, self._layers)
        except PrunevizError as error:
            raise type(error)(f"at epoch {epoch}: {error}") from error

    def _sigma_delta(self, epoch: int, cheap: pd.DataFrame) -> pd.Series:
        before = self._cheap.get(epoch - self.spec.lag)
        return pd.Series(_NULL, index=cheap.index) if before is None else cheap["sigma"] - before["sigma"]

    def _mask_distance(self, cheap: pd.DataFrame) -> float:
        if self.last_epoch is None:
            return _NULL
        previous, current = (mask_scores(table, self.spec.mask_score) for table in (self._cheap[self.last_epoch], cheap))
        return distance_between(previous, current, self.spec.mask_ratio)

    def _remember(self, epoch: int, cheap: pd.DataFrame) -> None:
        self._cheap = {e: t for e, t in self._cheap.items() if e > epoch - self.spec.lag} | {epoch: cheap}

    def _recorded_cheap_columns(self) -> dict[int, pd.DataFrame]:
        filters = self.log.read("filters")
        wanted = filters[filters["epoch"] > filters["epoch"].max() - self.spec.lag]
        return {int(epoch): table.reset_index(drop=True) for epoch, table in wanted.groupby("epoch")}


def _due_epochs(every: Schedule) -> Callable[[int], bool]:
    if callable(every):
        return every
    if not isinstance(every, numbers.Integral) or isinstance(every, bool) or every < 1:
        raise LogError(f"every={every!r}; give the distance of measured epochs, 1 or more, or a function epoch -> bool")
    return lambda epoch: epoch % every == 0


def _check_cheap(mask_score: str) -> None:
    cheap = [name for name, needed in NEEDS.items() if set(needed) <= set(schema.CHEAP_COLUMNS)]
    if mask_score not in cheap:
        raise LogError(
            f"mask_score={mask_score!r} is not known at every epoch; choose one of {', '.join(cheap)}, "
            "or derive it from the log afterwards with pruneviz.mask_distance"
        )


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with tensors and NumPy numbers as plain ones."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in facts.items()}


def _spec_of(run: str, measured: Mapping[str, Any], given: Mapping[str, Any]) -> RunSpec:
    """The spec of a run from how it is measured, and what a person says of it; the one may not belie the other."""
    spec = RunSpec.from_dict({"run": run, **measured, **given})
    true = RunSpec.from_dict({"run": run, **measured})
    for name in measured:
        if getattr(spec, name) != getattr(true, name):
            raise LogError(
                f"spec says {name}={getattr(spec, name)!r}, but the recorder measures with {getattr(true, name)!r}; "
                f"leave {name} out of spec, and pass it to the recorder instead"
            )
    return spec


def _measured_facts(model: nn.Module, options: Options, every: Schedule) -> dict[str, Any]:
    dtype = options.dtype or model_dtype(model)
    return {
        "bn": options.bn,
        "temperatures": options.temperatures,
        "columns": options.wanted(),
        "every": getattr(every, "__qualname__", repr(every)) if callable(every) else str(every),
        "dtype": str(dtype).removeprefix("torch."),
        "device": model_device(model).type,
    }


def _machine_facts(model: nn.Module) -> dict[str, Any]:
    device = model_device(model)
    return {
        "network": type(model).__name__,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or "none"}
    for package in ("pruneviz", "torch", "torchvision", "numpy", "pandas", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
