"""Cheap columns of the last recorded epochs, from which changes and mask distances are computed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pruneviz.analysis.masks import distance_between, mask_scores
from pruneviz.analysis.scores import NEEDS
from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.run_spec import RunSpec

_NULL = float("nan")


class History:
    """Cheap columns of all rows, from `lag` epochs ago to the last recorded epoch.

    Args:
        spec: Run spec: row kind, lag and mask options.
        tables: {epoch: table} of the initially known epochs.
        last: The last recorded epoch, which `tables` may lack; None before the first.
    """

    def __init__(self, spec: RunSpec, tables: Mapping[int, pd.DataFrame], last: int | None) -> None:
        self._spec, self.last = spec, last
        self._columns = ["kept", *schema.CHEAP_OF_UNIT[spec.unit]]
        self._tables = {epoch: table[self._columns] for epoch, table in tables.items()}

    def changes(self, epoch: int, table: pd.DataFrame) -> dict[str, pd.Series]:
        """Changes over `lag` epochs, `sigma_delta` and `theta_delta`; null if unknown."""
        before = self._tables.get(epoch - self._spec.lag)
        changing = [name for name in ("theta", "sigma") if name in self._columns]
        if before is None:
            null = pd.Series(_NULL, index=table.index, dtype="float32")
            return {f"{name}_delta": null for name in changing}
        return {f"{name}_delta": table[name] - before[name] for name in changing}

    def mask_distance(self, table: pd.DataFrame) -> float:
        """Distance between the table's mask and the last recorded one; NaN if unknown."""
        if self.last not in self._tables:
            return _NULL
        previous = mask_scores(self._tables[self.last], self._spec.mask_score)
        current = mask_scores(table, self._spec.mask_score)
        return distance_between(previous, current, self._spec.mask_ratio)

    def remember(self, epoch: int, table: pd.DataFrame) -> None:
        """Store the cheap columns of a recorded epoch, and drop epochs no longer needed."""
        # Epoch `epoch - lag` stays, so that this epoch's changes can be computed again.
        earliest = epoch - self._spec.lag
        recent = {e: t for e, t in self._tables.items() if e >= earliest}
        self._tables = {**recent, epoch: table[self._columns]}
        self.last = epoch


def check_mask_score(mask_score: str, unit: str) -> None:
    """Check that the masks of every epoch can be compared by a pruning measure.

    Raises:
        LogError: If it needs columns that are not written at every epoch.
    """
    available = set(schema.CHEAP_OF_UNIT[unit])
    cheap = [name for name, needed in NEEDS.items() if set(needed) <= available]
    if mask_score not in cheap:
        raise LogError(
            f"mask_score={mask_score!r} is not known at every epoch; "
            f"choose one of {', '.join(cheap)}, or derive it from the log afterwards "
            "with pruneviz.mask_distance"
        )
