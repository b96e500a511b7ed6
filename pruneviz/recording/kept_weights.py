"""The weights of a network at the measured epochs of a run, kept beside the log so that more can be measured of them later.

```
<run>/weights/00010.safetensors     parameters and buffers after 10 epochs
```

A run's figures never need them, and they are large: delete the folder whenever you like.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors
from pruneviz.pruning.held_entries import expect_pruned, hold_pruned

_FOLDER, _SUFFIX = "weights", ".safetensors"


def keep_weights(network: nn.Module, run: str | Path, epoch: int) -> Path:
    """Write a network's parameters and buffers, in their own precision, into a run directory; returns the file.

    Errors: `LogError` when the disk cannot be written to.
    """
    file = _file(run, epoch)
    temporary = file.with_name(f".{file.name}.tmp")
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {
                name: value.detach().cpu().contiguous()
                for name, value in network.state_dict().items()
            },
            temporary,
        )
        temporary.replace(file)
    return file


def kept_epochs(run: str | Path) -> list[int]:
    """The epochs whose weights a run directory holds, ascending."""
    return sorted(int(file.stem) for file in (Path(run) / _FOLDER).glob(f"*{_SUFFIX}"))


def load_kept_weights(network: nn.Module, run: str | Path, epoch: int) -> None:
    """Give a network of the same architecture the weights that a run had after `epoch` epochs; pruned entries are held at zero again.

    Errors: `LogError` for an epoch whose weights were not kept, a corrupt file, and weights of another network.
    """
    file = _file(run, epoch)
    if not file.exists():
        had = ", ".join(map(str, kept_epochs(run))) or "none"
        raise LogError(
            f"{run} holds no weights of epoch {epoch}; it has those of [{had}]; record it with --keep-weights"
        )
    try:
        state = load_file(file)
        expect_pruned(network, state)
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise LogError(
            f"{file} is corrupt, or of another network than {type(network).__name__} ({type(error).__name__}: {error})"
        ) from error
    hold_pruned(network)


def _file(run: str | Path, epoch: int) -> Path:
    return Path(run) / _FOLDER / f"{epoch:05d}{_SUFFIX}"
