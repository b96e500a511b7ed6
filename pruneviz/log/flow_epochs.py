"""Which epochs and layers of a run have flow while it is recorded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pruneviz.errors import LogError

_logger = logging.getLogger("pruneviz")


def check_free(
    path: Path, epoch: int, layers: Iterable[str], held: Mapping[int, Collection[str]]
) -> None:
    """Check that no layer has flow at an epoch yet.

    Args:
        path: Run directory, for the message.
        epoch: The epoch to add.
        layers: Its layers.
        held: Layers by epoch, so far.

    Raises:
        LogError: If one has.
    """
    twice = sorted(set(held.get(epoch, ())) & set(layers))
    if twice:
        raise LogError(
            f"{path} already holds the flow of {', '.join(twice[:3])} at epoch {epoch}; take an "
            "epoch once, and with several meters give each its own layers"
        )


def warn_of_left_out(path: Path, epochs: Collection[int]) -> None:
    """Say which epochs with flow are not in the run."""
    if epochs:
        _logger.warning(
            "the flow of epoch %s is left out of %s, which has no such epoch; call after_epoch for "
            "every epoch that is taken",
            ", ".join(map(str, sorted(epochs))),
            path,
        )
