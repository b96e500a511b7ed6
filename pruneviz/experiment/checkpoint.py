"""Checkpoints of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pruneviz.errors import TrainingError
from pruneviz.experiment.training import TrainingState
from pruneviz.log.files import disk_errors, write_whole
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks


def save_checkpoint(state: TrainingState, folder: Path) -> None:
    """Write a state to disk, whole or not at all.

    Raises:
        LogError: If the disk cannot be written to; an older checkpoint stays.
    """
    parts = {
        "network": state_with_masks(state.network),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "epoch": state.epoch,
        "wall_seconds": state.wall_seconds,
        "best": state.best,
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "state.pt", lambda file: _save(parts, file))


def load_network(network: nn.Module, folder: Path) -> int | None:
    """Load the weights of the last checkpoint in a folder; nothing else of it is used.

    Args:
        network: Network of the same architecture, changed in place.
        folder: Folder of checkpoints.

    Returns:
        Number of epochs trained; None if there is no checkpoint.

    Raises:
        TrainingError: If the file is corrupt, or belongs to another network.
    """
    file = folder / "state.pt"
    if not file.exists():
        return None
    try:
        parts = torch.load(file, map_location="cpu", weights_only=True)
        load_with_masks(network, parts["network"])
        return int(parts["epoch"])
    except Exception as error:  # as below
        raise TrainingError(
            f"{file} is corrupt or belongs to another network ({type(error).__name__}); "
            "repeat the command that recorded it, or measure a finished run"
        ) from error


def _save(parts: dict[str, Any], path: Path) -> None:
    # Given a path, torch's own writer reports a full or read-only disk as a RuntimeError.
    with path.open("wb") as file:
        try:
            torch.save(parts, file)
        except RuntimeError as error:
            raise OSError(f"the checkpoint could not be written ({error})") from error


def restore_checkpoint(state: TrainingState, folder: Path) -> bool:
    """Load the last checkpoint in a folder into a state. Only tensors and numbers are read.

    Returns:
        False if there is no checkpoint.

    Raises:
        TrainingError: If the file is corrupt, or belongs to another network.
    """
    file = folder / "state.pt"
    if not file.exists():
        return False
    device = next(state.network.parameters()).device
    # There are many error types, and torch's own messages advise to unpickle the file.
    try:
        parts = torch.load(file, map_location=device, weights_only=True)
        load_with_masks(state.network, parts["network"])
        state.optimizer.load_state_dict(parts["optimizer"])
        state.generator.set_state(parts["generator"].cpu())
        state.epoch, state.wall_seconds = parts["epoch"], parts["wall_seconds"]
        state.best = parts["best"]
    except Exception as error:
        raise TrainingError(
            f"{file} is corrupt or belongs to another network ({type(error).__name__}); "
            "delete it to train this run from the start"
        ) from error
    return True
