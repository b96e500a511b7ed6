"""Weights of a network at measured epochs, kept beside the log for remeasuring.

```
<run>/weights/00010.safetensors     parameters and buffers after 10 epochs
```

They are large and no figure needs them: the folder can be deleted at any time. The header of a file
has a digest of its tensors, so that damage is noticed; files of earlier versions have none and are
read as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors, make_folder, write_whole
from pruneviz.log.regular_files import check_regular
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks

_FOLDER, _ENDING = "weights", ".safetensors"
_DIGEST = "sha256"  # in the metadata of a file
_ERROR_NUMBER = re.compile(r"(?:os error|code:) (\d+)")


def keep_weights(network: nn.Module, run: str | Path, epoch: int) -> Path:
    """Write parameters and buffers, in their own precision, into a run directory.

    Returns:
        The file, written atomically.

    Raises:
        LogError: If the disk cannot be written to.
    """
    file = _file(run, epoch)
    save_tensors(state_with_masks(network), file)
    return file


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors by name, in their own precision, atomically.

    Raises:
        LogError: If the disk cannot be written to.
    """
    # Copies, because tied weights share memory, which this format refuses.
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with disk_errors(file):
        make_folder(file.parent)
        write_whole(file, lambda temporary: _save(state, temporary))


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote.

    Raises:
        LogError: If the file cannot be read, or its tensors are not those that were written.
    """
    try:
        check_regular(file)
        with safe_open(file, "pt") as opened:
            stated = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LogError(f"{file} is corrupt ({type(error).__name__}: {error})") from error
    if stated is not None and stated.get(_DIGEST) != _digest(tensors):
        raise LogError(f"{file} is corrupt: its tensors are not those that were written")
    return tensors


def kept_epochs(run: str | Path) -> list[int]:
    """Epochs with kept weights in a run directory, ascending."""
    return sorted(int(file.stem) for file in (Path(run) / _FOLDER).glob(f"*{_ENDING}"))


def drop_kept_after(run: str | Path, epoch: int) -> None:
    """Delete the kept weights of later epochs, for a run that resumes from its checkpoint."""
    with disk_errors(Path(run)):
        for later in kept_epochs(run):
            if later > epoch:
                _file(run, later).unlink(missing_ok=True)


def load_kept_weights(network: nn.Module, run: str | Path, epoch: int) -> None:
    """Load the weights of a run after an epoch, and hold pruned entries at zero.

    Args:
        network: Network of the same architecture, changed in place.
        run: Run directory.
        epoch: Number of epochs trained.

    Raises:
        LogError: If the weights of this epoch were not kept, or the file is corrupt or of another
            network.
    """
    file = _file(run, epoch)
    if not file.exists():
        had = ", ".join(map(str, kept_epochs(run))) or "none"
        raise LogError(
            f"{run} holds no weights of epoch {epoch}; it holds epochs [{had}]; "
            "record it with `pruneviz record --keep-weights`"
        )
    tensors = load_tensors(file)
    try:
        load_with_masks(network, tensors)
    except (RuntimeError, ValueError) as error:
        raise LogError(
            f"{file} is of another network than {type(network).__name__} "
            f"({type(error).__name__}: {error})"
        ) from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, types, shapes and bits of tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\n{value.dtype}\n{tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _save(state: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(state, path, {_DIGEST: _digest(state)})
    except SafetensorError as error:  # how this library reports a full disk
        number = _ERROR_NUMBER.search(str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _file(run: str | Path, epoch: int) -> Path:
    return Path(run) / _FOLDER / f"{epoch:05d}{_ENDING}"
