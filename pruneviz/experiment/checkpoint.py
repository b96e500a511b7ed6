"""Checkpoints of a training run.

```
<run>/checkpoint/epoch-00012-<SHA-256 of the file>.pt     after 12 epochs
```

The last two are kept, so that a damaged one loses a few epochs and not the run. Only a file that
its name fits is read. Earlier versions wrote one file, `state.pt`, which holds no digest: it is
read as it is.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import nn

from pruneviz.errors import LogError, TrainingError
from pruneviz.experiment.training import TrainingState
from pruneviz.log.checkpoint_names import OLDER, Named, name_of, named
from pruneviz.log.files import disk_errors, make_folder, write_named
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks

_RECORD_AGAIN = "repeat the command that recorded it, or measure a finished run"
_FROM_START = "delete {it} to train this run from the start"

_logger = logging.getLogger("pruneviz")


def parts_of(state: TrainingState) -> dict[str, Any]:
    """What a checkpoint of a state between two epochs holds; tensors are those of the state."""
    return {
        "network": state_with_masks(state.network),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "epoch": state.epoch,
        "wall_seconds": state.wall_seconds,
        "best": state.best,
        "within": None,
    }


def write_checkpoint(parts: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint to disk, whole or not at all, and keep the one before.

    Args:
        parts: From `parts_of`; `within` says how far the next epoch is, see `held_state`.
        folder: Folder of checkpoints.

    Raises:
        LogError: If the disk cannot be written to; older checkpoints stay.
    """
    epoch = int(parts["epoch"])
    with disk_errors(folder):
        make_folder(folder)
        before = _files(folder)
        written = write_named(folder, "epoch", lambda file: _save(parts, file))
        # A later one is of a training that did not go on from there.
        earlier = [file for file in before if _epoch(file) <= epoch and file != written]
        for file in {*before} - {written, *earlier[:1]}:
            file.unlink(missing_ok=True)


def load_network(network: nn.Module, folder: Path) -> int | None:
    """Load the weights of the last whole checkpoint in a folder; nothing else of it is used.

    Args:
        network: Network of the same architecture, changed in place.
        folder: Folder of checkpoints.

    Returns:
        Number of epochs trained; None if there is no checkpoint.

    Raises:
        LogError: If a file cannot be read.
        TrainingError: If all files are damaged, or the last whole one is of another network.
    """
    found = _last_whole(folder, torch.device("cpu"), _RECORD_AGAIN)
    if found.file is None:
        return None
    with _refused(found.file, _RECORD_AGAIN):
        load_with_masks(network, found.parts["network"])
        return int(found.parts["epoch"])


def restore_checkpoint(
    state: TrainingState, folder: Path, logged: int | None = None, lost: str | None = None
) -> bool:
    """Load the last whole checkpoint in a folder into a state. Only tensors and numbers are read.

    The state is that of the last recorded epoch; `enter_epoch` then goes on to where the checkpoint
    stands in the next one. Later checkpoints, which are damaged, are deleted; a warning names them.

    Args:
        state: State to continue; changed in place.
        folder: Folder of checkpoints.
        logged: The last recorded epoch, -1 for none. Default: any checkpoint will do.
        lost: What the log lost after that epoch, in words. Default: nothing is known to be lost.

    Returns:
        False if there is no checkpoint.

    Raises:
        LogError: If a file cannot be read, or the disk cannot be written to.
        TrainingError: If all files are damaged, the last whole one is of another network, or it
            goes beyond the log, which is written first and so has lost a part. Nothing is deleted.
    """
    device = next(state.network.parameters()).device
    found = _last_whole(folder, device, _FROM_START)
    if found.file is not None:
        parts = found.parts
        with _refused(found.file, _FROM_START):
            epoch = int(parts["epoch"])
        if logged is not None and epoch > logged:
            raise _lost_log(found.file, epoch, logged, lost)
        with _refused(found.file, _FROM_START):
            load_with_masks(state.network, parts["network"])
            state.optimizer.load_state_dict(parts["optimizer"])
            state.generator.set_state(parts["generator"].cpu())
            state.epoch, state.wall_seconds = parts["epoch"], parts["wall_seconds"]
            state.best, state.within = parts["best"], parts.get("within")
    with disk_errors(folder):
        for file in found.damaged:
            _logger.warning(
                "%s is damaged; training goes on from the checkpoint of epoch %s", file, state.epoch
            )
            file.unlink(missing_ok=True)
    return found.file is not None


@dataclass
class _Found:
    """The last whole checkpoint, if any.

    Attributes:
        damaged: Later ones.
    """

    file: Path | None = None
    parts: dict[str, Any] = field(default_factory=dict)
    damaged: list[Path] = field(default_factory=list)


def _last_whole(folder: Path, device: torch.device, advice: str) -> _Found:
    found = _Found()
    for file in _files(folder):
        content = _content(file)
        if content is None:
            found.damaged.append(file)
            continue
        with _refused(file, advice):
            found.parts = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        found.file = file
        return found
    if found.damaged:
        are, it = ("is", "it") if len(found.damaged) == 1 else ("are", "them")
        raise TrainingError(
            f"{' and '.join(map(str, found.damaged))} {are} damaged, and there is no other "
            f"checkpoint; {advice.format(it=it)}"
        )
    return found


def _lost_log(file: Path, epoch: int, logged: int, lost: str | None) -> TrainingError:
    """What to do about a checkpoint that goes beyond the log."""
    ends = "holds no epoch" if logged < 0 else f"ends at epoch {logged}"
    it = "it" if lost else "them"
    lost = lost or f"the parts of epoch {epoch} are missing"
    return TrainingError(
        f"{lost}, so the log {ends}, and {file} is of epoch {epoch}; restore {it} from a backup, "
        "or delete the run and record it again"
    )


def _content(file: Path) -> bytes | None:
    """The content of a checkpoint; None if it is not the one that was written."""
    try:
        content = file.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:  # a bad place of the disk
            return None
        raise LogError(
            f"cannot read {file}: {error.strerror or error}; make it readable, or delete it to go "
            "on from the checkpoint before"
        ) from error
    name = named(file.name)
    digest = hashlib.sha256(content).hexdigest()
    return content if name is None or name.sha256 == digest else None


@contextmanager
def _refused(file: Path, advice: str) -> Iterator[None]:
    # There are many error types, and torch's own messages advise to unpickle the file.
    try:
        yield
    except Exception as error:
        raise TrainingError(
            f"{file} is corrupt or belongs to another network ({type(error).__name__}); "
            f"{advice.format(it='it')}"
        ) from error


def _files(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the last one first."""
    found = [file for file in folder.glob("*.pt") if named(file.name)]
    dated = [((_epoch(file), file.stat().st_mtime_ns), file) for file in found if file.is_file()]
    older = [folder / OLDER] if (folder / OLDER).is_file() else []
    return [file for _, file in sorted(dated, reverse=True)] + older


def _epoch(file: Path) -> int:
    """The epoch that a name says; one without counts as the earliest."""
    name = named(file.name)
    return name.epoch if name else -1


class _Digesting(io.RawIOBase):
    """A file for `torch.save`, which reports no failure of the disk as such and may end on one.

    Attributes:
        failure: The first failure; what comes after it is not written.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, unless a write has failed."""
        if self.failure is None:
            try:
                self._digest.update(data)
                self._file.write(data)
            except OSError as error:
                self.failure = error
        return len(data)

    def hexdigest(self) -> str:
        """SHA-256 of all that was written."""
        return self._digest.hexdigest()


def _save(parts: dict[str, Any], path: Path) -> str:
    """Write a checkpoint; returns its file name."""
    with path.open("wb") as file:
        digesting = _Digesting(file)
        torch.save(parts, cast(IO[bytes], digesting))
        if digesting.failure is not None:
            raise digesting.failure
    return name_of(Named(int(parts["epoch"]), digesting.hexdigest()))
