"""The state of a recorder in a person's checkpoint: which run, which place, which network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from pruneviz.errors import LogError
from pruneviz.log.arguments import is_whole
from pruneviz.log.run_spec import RunSpec
from pruneviz.measuring.bits import differing_parts
from pruneviz.recording.recorded_epochs import RecordedEpochs

_BEFORE = "before"
_DIGEST = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{16}){1,2}")
_OTHER = "restore a checkpoint of this run, or record into another folder"


@dataclass(frozen=True)
class RunState:
    """Where a recorder stood when a checkpoint was saved; plain numbers and texts.

    Attributes:
        run: Name of the run.
        created: When its recording was begun.
        last_epoch: The last recorded epoch; None before the first.
        epoch: Number of epochs that the network was trained: later than the last recorded one if it
            was saved before it was recorded. None before the first.
        sample: Digest of the measurement sample.
        options: How the run is measured, as JSON.
        network: Digest of the network.
        recorded: Digest of the network as it was recorded at the last epoch.
        before: Tensors of `BeforeChange`, where that was another one and they are needed.
    """

    run: str
    created: str | None
    last_epoch: int | None
    epoch: int | None
    sample: str | None
    options: str | None
    network: str | None
    recorded: str | None = None
    before: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, state: object) -> RunState:
        """Read a state that `to_dict` returned.

        Raises:
            LogError: If it is none.
        """
        names = [field.name for field in fields(cls) if field.name != _BEFORE]
        given = dict(state) if isinstance(state, Mapping) else {}
        if not set(names) <= given.keys():
            raise LogError(
                f"load_state_dict got {type(state).__name__}, which is no state of a recorder; "
                "give what recorder.state_dict() returned when the checkpoint was saved"
            )
        found = cls(**{name: given[name] for name in names}, before=given.get(_BEFORE))
        numbers = [found.last_epoch, found.epoch]
        texts = [getattr(found, name) for name in names if name not in ("last_epoch", "epoch")]
        whole = all(value is None or is_whole(value) for value in numbers)
        before = found.before or {}
        if (
            not whole
            or not isinstance(before, Mapping)
            or not all(isinstance(value, Tensor) for value in before.values())
            or found.run is None
            or not all(value is None or isinstance(value, str) for value in texts)
        ):
            raise _damaged_error()
        return found

    def to_dict(self) -> dict[str, Any]:
        """The state for `torch.save`; for JSON and the like too, if it holds no tensors."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if name != _BEFORE or value}

    def check_run(self, path: Path, now: RunState) -> None:
        """Check that a recorder records the run of this state, as before.

        Args:
            path: Run directory of the recorder.
            now: State of the recorder.

        Raises:
            LogError: If it is another run, sample or way of measuring.
        """
        if self.sample is None and self.options is None:
            raise LogError(
                "the checkpoint was saved by a process that records nothing; save it on rank 0"
            )
        # nothing may be missing that the recorder itself has: no check is switched off
        held = [(self.sample, now.sample), (self.options, now.options), (self.network, now.network)]
        if any(was is None and given is not None for was, given in held):
            raise _damaged_error()
        was, given = (_options_of(state.options) for state in (self, now))
        for digest in (self.network, self.recorded):
            if digest is not None and not _DIGEST.fullmatch(digest):
                raise _damaged_error()
        if given and not was:
            raise _damaged_error()
        if self.run != now.run:
            raise LogError(
                f"the checkpoint is of run {self.run}, and {path} holds run {now.run}; {_OTHER}"
            )
        if None not in (self.sample, now.sample) and self.sample != now.sample:
            raise LogError(
                f"the checkpoint was recorded on another sample than {path} is now; give the "
                "inputs and targets as they were, in the same order and batches, or record into "
                "another folder"
            )
        differing = [
            f"{name} was {was[name]!r}, now {given[name]!r}"
            for name in was
            if name in given and was[name] != given[name]
        ]
        if differing:
            raise LogError(
                f"the checkpoint was recorded with other options: {'; '.join(differing)}; use the "
                "old ones, or another folder"
            )

    def check_recorded(self, path: Path, recorded: RecordedEpochs, created: str | None) -> None:
        """Check that the log holds the last epoch of this state.

        Args:
            path: Run directory.
            recorded: Its epochs.
            created: When its recording was begun.

        Raises:
            LogError: If it does not, or was begun anew since; names the call that makes it
                possible.
        """
        last = self.last_epoch
        if last is None:
            return
        if last not in recorded.epochs:
            held = max((e for e in recorded.epochs if e < last), default=None)
            if held is None:
                raise LogError(
                    f"the checkpoint continues after epoch {last}, and {path} holds no epoch up to "
                    "it; put the recording back, or leave recorder.load_state_dict out to begin a "
                    f"recording with recorder.after_epoch({last + 1})"
                )
            raise LogError(
                f"the checkpoint continues after epoch {last}, which {path} lacks: it ends after "
                f"epoch {held}; restore the network and optimizer of epoch {held}, and call "
                f"recorder.rewind({held}), or put the recording back"
            )
        if self.created != created:
            raise LogError(
                f"the checkpoint is of a recording of {self.run} that was begun at {self.created}, "
                f"and {path} was begun at {created}; {_OTHER}"
            )
        held_now = recorded.digest(last)
        if self.recorded is None and held_now is not None:
            raise _damaged_error()
        if held_now is not None and differing_parts(str(self.recorded), held_now):
            raise LogError(
                f"epoch {last} of {path} was recorded anew after the checkpoint was saved, with "
                "another network; resume from a checkpoint of that later training, or from one of "
                "an epoch before the two part, or record into another folder"
            )

    @property
    def is_ahead(self) -> bool:
        """Whether the network was trained beyond the last epoch that was recorded then."""
        last = -1 if self.last_epoch is None else self.last_epoch
        return self.epoch is not None and self.epoch > last


def _options_of(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads("{}" if text is None else text)
    except ValueError as error:
        raise _damaged_error() from error
    if not isinstance(found, dict):
        raise _damaged_error()
    return found


def _damaged_error() -> LogError:
    return LogError(
        "the recorder's state in this checkpoint is damaged; restore another checkpoint, or call "
        "recorder.rewind with the number of epochs of the network instead of load_state_dict"
    )


def epoch_of(
    given: int | None, last: int | None, recorded: str | None, network: str | None
) -> int | None:
    """The number of epochs that a network was trained, for a state.

    If nobody says so, its parameters tell whether it is the one of the last epoch: buffers also
    move in an evaluation.

    Args:
        given: The number, if it is said.
        last: The last recorded epoch; None before the first.
        recorded: Digest of its network.
        network: Digest of the network now.

    Raises:
        LogError: If an earlier epoch than the last one is given.
    """
    if given is not None:
        if not is_whole(given) or given < (0 if last is None else last):
            raise LogError(
                f"state_dict(epoch={given!r}): give the number of epochs that the network was "
                f"trained, the last recorded one ({last}) or a later one"
            )
        return int(given)
    if last is None or recorded is None or network is None:
        return last
    return last if recorded.split("-")[0] == network.split("-")[0] else last + 1


def idle_state(run: str, last: int | None) -> dict[str, Any]:
    """The state of a recorder that records nothing, which cannot be loaded where one does."""
    return RunState(run, None, last, last, None, None, None).to_dict()


def idle_epoch(state: object, held: int | None) -> int | None:
    """The epoch after which a recorder goes on that records nothing.

    Args:
        state: State of the recorder on the first rank.
        held: The last epoch that the log held when the recorder was made.
    """
    found = RunState.of(state)
    if found.is_ahead and found.epoch == held:
        return held
    return found.last_epoch


def options_text(spec: RunSpec, names: Sequence[str]) -> str:
    """Facts of how a run is measured, as JSON.

    Args:
        spec: Facts of the run.
        names: Names of these facts.
    """
    facts = spec.to_dict()
    chosen = {name: facts[name] for name in sorted(names) if name in facts}
    return json.dumps(chosen, default=str, sort_keys=True)
