"""Weights of a network at measured epochs, kept beside the log for remeasuring.

```
<run>/weights/00010.safetensors     parameters and buffers after 10 epochs
```

They are large and no figure needs them: the folder can be deleted at any time. The header of a file
says of which run, epoch and network it is, and has a digest of this and of its tensors, so that
damage and exchanged files are noticed. Files of earlier versions have less or nothing of this; what
was loaded is compared with the digest of the network in the log, if that has one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors, make_folder, write_whole
from pruneviz.log.kept_files import (
    DIGEST,
    as_header,
    check_recorded,
    facts_text,
    kept_facts,
    kept_file,
    kept_files,
    network_digests,
    of_another,
    stated_in,
)
from pruneviz.log.regular_files import check_regular, is_something
from pruneviz.log.spec_file import SPEC_FILE
from pruneviz.measuring.bits import differing_parts, network_digest
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks

_ERROR_NUMBER = re.compile(r"(?:os error|code:) (\d+)")


def keep_weights(network: nn.Module, run: str | Path, epoch: int) -> Path:
    """Write parameters and buffers, in their own precision, into a run directory.

    Returns:
        The file, written atomically.

    Raises:
        LogError: If the disk cannot be written to.
    """
    file = kept_file(run, epoch)
    facts = kept_facts(run, epoch, network_digest(network)())
    save_tensors(state_with_masks(network), file, facts)
    return file


def save_tensors(
    tensors: Mapping[str, Tensor], file: Path, facts: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, in their own precision, atomically.

    Args:
        tensors: The tensors.
        file: Where to write them.
        facts: What the header says of them.

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
        write_whole(file, partial(_save, state, facts or {}))


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote.

    Raises:
        LogError: If the file cannot be read, or its tensors are not those that were written.
    """
    return _read(file)[0]


def load_tensors_of(
    file: Path, run: str | Path, epoch: int, recorded: str | None
) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote of an epoch of a run.

    Args:
        file: The file.
        run: Run directory.
        epoch: The epoch.
        recorded: Digest of its network in the log, if there is one.

    Raises:
        LogError: As for `load_tensors`, or if the file is of another run, epoch or network.
    """
    tensors, stated = _read(file)
    fault = of_another(file, stated, run, epoch, recorded)
    if fault is not None:
        raise LogError(fault)
    return tensors


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, and what the header says."""
    try:
        check_regular(file)
        with safe_open(file, "pt") as opened:
            header = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        stated = stated_in(header or {})
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise LogError(f"{file} is corrupt ({type(error).__name__}: {error})") from error
    if header is not None and stated.get(DIGEST) != _digest(tensors, stated):
        raise LogError(f"{file} is corrupt: its tensors are not those that were written")
    return tensors, stated


def kept_epochs(run: str | Path) -> list[int]:
    """Epochs with kept weights in a run directory, ascending."""
    return list(kept_files(run))


def drop_kept_after(run: str | Path, epoch: int) -> None:
    """Delete the kept weights of later epochs, for a run that resumes from its checkpoint."""
    with disk_errors(Path(run)):
        for later, file in kept_files(run).items():
            if later > epoch:
                file.unlink(missing_ok=True)


def load_kept_weights(network: nn.Module, run: str | Path, epoch: int) -> None:
    """Load the weights of a run after an epoch, and hold pruned entries at zero.

    Args:
        network: Network of the same architecture, changed in place.
        run: Run directory.
        epoch: Number of epochs trained.

    Raises:
        LogError: If the weights of this epoch were not kept, or the file is corrupt or of another
            network, epoch or run.
    """
    file = kept_file(run, epoch)
    if not is_something(file):
        had = ", ".join(map(str, kept_epochs(run))) or "none"
        raise LogError(
            f"{run} holds no weights of epoch {epoch}; it holds epochs [{had}]; "
            "record it with `pruneviz record --keep-weights`"
        )
    recorded = _recorded_digest(run, epoch)
    tensors = load_tensors_of(file, run, epoch, recorded)
    try:
        load_with_masks(network, tensors)
    except (RuntimeError, ValueError) as error:
        raise LogError(
            f"{file} is of another network than {type(network).__name__} "
            f"({type(error).__name__}: {error})"
        ) from error
    _check_network(network, file, epoch, recorded)


def _recorded_digest(run: str | Path, epoch: int) -> str | None:
    """The digest of the network of an epoch in the log; None if there is none."""
    if not is_something(Path(run) / SPEC_FILE):
        return None
    check_recorded(run)
    return network_digests(run, epoch).get(epoch)


def _check_network(network: nn.Module, file: Path, epoch: int, recorded: str | None) -> None:
    """Check that a network is the recorded one, now that it has the weights of a file."""
    now = network_digest(network)()
    if recorded is None or now is None:
        return
    differing = differing_parts(recorded, now)
    if differing == ["modules"]:
        raise LogError(
            f"{type(network).__name__} has other modules, or other options of them, than the "
            f"network whose weights {file} holds; build it as it was, with the versions in the spec"
        )
    if differing:
        raise LogError(
            f"{file} holds other {' and '.join(differing)} than the log has at epoch {epoch}; give "
            "the files of the folder their names back, or restore it from a backup"
        )


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """SHA-256 of the names, types, shapes and bits of tensors, and of facts."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\n{value.dtype}\n{tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    digest.update(facts_text(facts))
    return digest.hexdigest()


def _save(state: dict[str, Tensor], facts: Mapping[str, str], path: Path) -> None:
    try:
        save_file(state, path, as_header(facts, _digest(state, facts)))
    except SafetensorError as error:  # how this library reports a full disk
        number = _ERROR_NUMBER.search(str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
