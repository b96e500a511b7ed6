"""A recorder that follows a trainer: it opens or continues the log, and writes epochs late.

Trainers evaluate after an epoch has ended, and save checkpoints after that. So an epoch is measured
when it ends, and written when its metrics are known, before the checkpoint.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from torch import nn

from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors, write_whole
from pruneviz.log.reopening import reopen
from pruneviz.log.run_lock import check_idle
from pruneviz.log.spec_file import SPEC_FILE
from pruneviz.log.spooled_runs import in_spool, prepare
from pruneviz.measuring.ranks import all_ranks
from pruneviz.recording.epoch_facts import checked_facts
from pruneviz.recording.kept_weights import load_tensors, save_tensors
from pruneviz.recording.ranks import rank
from pruneviz.recording.recorder import Recorder

_TENSORS = ".safetensors"  # ending of the file of tensors of a state
_logger = logging.getLogger("pruneviz")

Found = TypeVar("Found")


class Follower:
    """Record the training that a trainer runs.

    Under `torch.distributed` all ranks call every method; what rank 0 finds in the folder counts.
    With ranks="first" the methods do nothing on other ranks.

    Args:
        sample: Measurement sample, as for `pruneviz.Recorder`.
        out: Run directory.
        options: Further options of `pruneviz.Recorder`.
        continuing: How a person resumes this trainer, for error messages.
    """

    def __init__(
        self, sample: Any, out: str | Path, options: Mapping[str, Any], continuing: str
    ) -> None:
        if "resume" in options:
            raise LogError(
                f"resume is no option here; the run continues when the trainer does: {continuing}"
            )
        if options.get("ranks") == "each":
            raise LogError(
                "ranks='each' is no option here, as a trainer trains one network on all ranks; "
                "choose 'share' or 'first'"
            )
        self._sample, self._out, self._options = sample, in_spool(out).expanduser(), dict(options)
        self._continuing = continuing
        self._recorder: Recorder | None = None
        self._write: Callable[..., None] | None = None
        self._trial: TemporaryDirectory[str] | None = None

    @property
    def run(self) -> str:
        """Name of the run directory."""
        return self._out.name

    @property
    def last_epoch(self) -> int | None:
        """The last recorded epoch; None before the first and where nothing is recorded."""
        return self._recorder.last_epoch if self._recorder else None

    def start(self, model: nn.Module, *, again: bool = False) -> None:
        """Start a new run, and record the initialisation.

        Args:
            model: The network before training.
            again: Whether the trainer has started anew by itself; then its first try is dropped.

        Raises:
            LogError: If the folder is in use.
        """
        if self._is_idle:
            return
        if again and self._recorder:
            self._write = None
            self._recorder = self._opened(model, self._out, resume=True)
            self._recorder.rewind(-1)
        else:
            self._ask("the start of a training", self._check_unused)
            self._recorder = self._opened(model, self._out)
        self._recorder.after_epoch(0)

    def state(self, done: int) -> dict[str, Any] | None:
        """The recorder's state for a checkpoint that is saved now; None where nothing is recorded.

        Args:
            done: Number of complete epochs.
        """
        if self._recorder is None:
            return None
        last = self._recorder.last_epoch
        # on every rank, because the parts of a sharded network are gathered
        found = self._recorder.state_dict(done if last is None else max(done, last))
        return found if self._recorder.records else None

    def keep_state(self, folder: Path, done: int) -> None:
        """Write the recorder's state into a trainer's folder of a checkpoint, if that exists.

        Args:
            folder: The folder.
            done: Number of complete epochs.

        Raises:
            LogError: If the disk cannot be written to.
        """
        state = self.state(done)
        if state is not None and folder.is_dir():
            tensors = state.pop("before", None)
            if tensors:
                save_tensors(tensors, self._state_file(folder).with_suffix(_TENSORS))
            text = json.dumps(state)
            with disk_errors(folder):
                write_whole(self._state_file(folder), lambda file: file.write_text(text))

    def kept_state(self, folder: Path) -> Mapping[str, Any] | None:
        """The state that `keep_state` wrote; None without one.

        Raises:
            LogError: If the file is corrupt.
        """
        file = self._state_file(folder)
        if not file.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LogError(
                f"{file} is corrupt ({error}); resume from another checkpoint"
            ) from error
        tensors = file.with_suffix(_TENSORS)
        return {**found, "before": load_tensors(tensors)} if tensors.is_file() else found

    def go_on(
        self,
        model: nn.Module,
        done: int,
        *,
        inside: bool,
        lost: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Continue the run of a training that was resumed; a finished run is reopened.

        Epochs after the checkpoint are dropped. Without a run in the folder, a new one starts here.

        Args:
            model: The restored network.
            done: Number of complete epochs.
            inside: Whether the checkpoint was saved inside the next epoch.
            lost: Whether a run is expected in the folder.
            state: The recorder's state in the checkpoint. Default: the network is compared with the
                log where the log has it.

        Raises:
            LogError: If a run is expected and missing, epochs are missing in it, or the network is
                not the one that was recorded.
        """
        if self._is_idle:
            return

        def found() -> tuple[bool, Mapping[str, Any] | None]:
            prepare(self._out, resume=True)
            is_there = (self._out / SPEC_FILE).exists()
            if not is_there and lost:
                raise LogError(
                    f"the checkpoint continues the run {self.run}, which is not in {self._out}; "
                    "put the run directory back, or record into a folder of another name"
                )
            return is_there, state

        is_there, state = self._ask("the continuation of a training", found)
        if is_there:
            self._recorder = self._reopened(model, state)
            self._go_back(self._recorder, done, inside, state)
        else:
            self._recorder = self._opened(model, self._out)
            _logger.warning("%s starts at epoch %d, where training resumes", self._out, done)
        self._catch_up(self._recorder, done, inside)

    def rehearse(self, model: nn.Module) -> None:
        """Record a trial run into a temporary folder, which is deleted at its end."""
        if self._is_idle:
            return

        def made() -> str:
            self._trial = TemporaryDirectory(prefix="pruneviz-")
            return self._trial.name

        folder = self._ask("a trial of a training", made)
        self._options["measure_last"] = False  # a trial is no run to be told about
        self._options.pop("sinks", None)
        self._options.pop("figures_at", None)
        self._recorder = self._opened(model, Path(folder) / self.run)
        self._recorder.after_epoch(0)

    def observe(self, epoch: int, **facts: Any) -> None:
        """Measure the network after an epoch; `flush` writes it."""
        if self._recorder:
            self._write = self._recorder.observe(epoch, **facts)

    def flush(self, facts: Mapping[str, Any]) -> None:
        """Write the observed epoch, if there is one, with facts known by now."""
        write, self._write = self._write, None
        if write:
            write(**facts)

    def finish(self) -> None:
        """Seal the run."""
        if self._recorder:
            self._recorder.close()
        if self._trial:
            self._trial.cleanup()
        self._recorder = self._trial = None

    @property
    def _is_idle(self) -> bool:
        """Whether this rank does nothing."""
        return self._options.get("ranks") == "first" and rank() > 0

    def _ask(self, where: str, find: Callable[[], Found]) -> Found:
        """What rank 0 finds, on all ranks that record together."""
        if self._options.get("ranks") == "first":
            return find()
        ranks = all_ranks(where)
        try:
            return ranks.first(where, find)
        finally:
            ranks.close()

    def _check_unused(self) -> None:
        prepare(self._out, resume=True)
        if (self._out / SPEC_FILE).exists():
            check_idle(self._out)
            raise LogError(
                f"{self._out} already holds a run, and this training starts anew; to continue it, "
                f"{self._continuing}; otherwise choose another folder, or delete it"
            )

    def _state_file(self, folder: Path) -> Path:
        return folder / f"pruneviz-{self.run}.json"

    def _opened(
        self, model: nn.Module, out: Path, *, resume: bool | Literal["auto"] = False
    ) -> Recorder:
        return Recorder(model, self._sample, out, resume=resume, **self._options)

    def _reopened(self, model: nn.Module, state: Mapping[str, Any] | None) -> Recorder:
        """The recorder of the run in the folder; a finished run is compared, then reopened."""
        recorder = self._opened(model, self._out, resume="auto")
        if recorder.finished and state is not None:
            recorder.load_state_dict(state)  # raises before anything is changed
            recorder.close()
            self._ask("the reopening of a run", lambda: reopen(self._out))
            recorder = self._opened(model, self._out, resume=True)
        return recorder

    def _go_back(
        self, recorder: Recorder, done: int, inside: bool, state: Mapping[str, Any] | None
    ) -> None:
        """Drop what was recorded after the checkpoint."""
        if state is not None:
            try:
                recorder.load_state_dict(state)
            except LogError:
                if not recorder.is_ahead():
                    raise
            return
        last = recorder.last_epoch
        if last is not None and (inside or last < done):
            where = f"inside epoch {done + 1}" if inside else f"after epoch {done}"
            raise LogError(
                f"the checkpoint was saved {where} without the place of the recording, so nothing "
                f"tells whether its network is the one that {self._out} recorded up to epoch "
                f"{last}; resume from a checkpoint that was saved while this callback recorded, or "
                "record into another folder"
            )
        recorder.rewind(done if last is None else min(done, last))

    def _catch_up(self, recorder: Recorder, done: int, inside: bool) -> None:
        """Record the restored network if the log lacks it; refuse a log with a gap."""
        last = recorder.last_epoch
        if last == done or (last is None and inside):
            return
        if inside or (last is not None and last < done - 1):
            raise LogError(
                f"{self._out} ends after epoch {last}, and the checkpoint continues after epoch "
                f"{done}; resume from a checkpoint of this run, or record into another folder"
            )
        recorder.after_epoch(done)


def checked_metrics(
    metrics: Mapping[str, str] | None, usual: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    """Metric names by column of the epochs table.

    Args:
        metrics: Names by column; None for the usual ones.
        usual: Usual names by column, the first that was logged is taken.

    Raises:
        LogError: If a column is one that the recorder writes by itself.
    """
    if metrics is None:
        return usual
    checked_facts(dict.fromkeys(metrics, float("nan")))
    return {column: (name,) for column, name in metrics.items()}


def chosen_facts(
    logged: Mapping[str, Any], names: Mapping[str, tuple[str, ...]]
) -> dict[str, float]:
    """Facts of an epoch from logged metrics; metrics that were not logged are left out."""
    found = {}
    for column, candidates in names.items():
        first = next((name for name in candidates if name in logged), None)
        if first is not None:
            found[column] = float(logged[first])
    return found
