"""Weights of a network at measured epochs, kept beside the log for remeasuring.

```
<run>/weights/00010.safetensors     parameters and buffers after 10 epochs
```

They are large and no figure needs them: the folder can be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors, write_whole
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks

_FOLDER, _ENDING = "weights", ".safetensors"


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
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda temporary: _save(state, temporary))


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote.

    Raises:
        LogError: If the file is corrupt.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise LogError(f"{file} is corrupt ({type(error).__name__}: {error})") from error


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
    try:
        load_with_masks(network, load_file(file))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise LogError(
            f"{file} is corrupt, or of another network than {type(network).__name__} "
            f"({type(error).__name__}: {error})"
        ) from error


def _save(state: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(state, path)
    except SafetensorError as error:  # how this library reports a full disk
        raise OSError(str(error)) from error


def _file(run: str | Path, epoch: int) -> Path:
    return Path(run) / _FOLDER / f"{epoch:05d}{_ENDING}"
