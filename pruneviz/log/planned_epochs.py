"""Whether a run that is finished has the epochs that were planned."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from pruneviz.errors import LogError

_logger = logging.getLogger("pruneviz")


def check_planned(
    path: Path, held: Collection[int], planned: Collection[int] | None, last: int | None
) -> None:
    """Check that no planned epoch is missing in a run.

    Args:
        path: Run directory.
        held: Its epochs.
        planned: All that it must have; None where a loop of one's own decides.
        last: The number of epochs to train, as the spec has it; with fewer a warning says so.

    Raises:
        LogError: If one is missing.
    """
    missing = sorted(set(planned or ()) - set(held))
    if missing:
        names = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise LogError(
            f"{path} cannot be finished: epoch {names} is missing, of {len(planned or ())} that "
            "were planned; delete the run and record it again"
        )
    end = max(held, default=-1)
    if planned is None and last is not None and end < last:
        _logger.warning(
            "%s ends at epoch %s, and its spec says epochs=%s; a run that ends early is finished "
            "all the same",
            *(path, end if end >= 0 else None, last),
        )
