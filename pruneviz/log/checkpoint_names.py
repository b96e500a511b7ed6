"""The folder of checkpoints of a run, and the names of its files; torch is not needed."""

from __future__ import annotations

import re
from typing import NamedTuple

CHECKPOINTS = "checkpoint"  # folder in a run directory
INITIAL = "initial.safetensors"  # in it: weights of epoch 0
NOTED = "noted.txt"  # facts that were noted: a digest on a line, then JSON
OLDER = "state.pt"  # in it, of versions that kept one checkpoint
_NAMED = re.compile(r"epoch-([0-9]{5,10})-([0-9a-f]{64})\.pt")


class Named(NamedTuple):
    """What the name of a checkpoint says.

    Attributes:
        epoch: Number of epochs trained.
        sha256: Of its content.
    """

    epoch: int
    sha256: str


def named(name: str) -> Named | None:
    """What the name of a file says; None if it is not that of a checkpoint, or of an older one."""
    found = _NAMED.fullmatch(name)
    return Named(int(found[1]), found[2]) if found else None


def name_of(checkpoint: Named) -> str:
    """The name of a checkpoint."""
    return f"epoch-{checkpoint.epoch:05d}-{checkpoint.sha256}.pt"


def is_of_recording(name: str) -> bool:
    """Whether a file of the folder is one that pruneviz wrote there, of any version."""
    return name in (OLDER, INITIAL, NOTED) or named(name) is not None
