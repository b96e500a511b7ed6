"""What a recorder remembers of the epochs before: the cheap columns, from which changes and mask distances are made."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pruneviz.analysis.masks import distance_between, mask_scores
from pruneviz.log import schema
from pruneviz.log.schema import RunSpec

_NULL = float("nan")


class History:
    """The cheap columns of all filters or weights of a network at the last epochs, those of `lag` epochs ago the earliest.

    Args: `spec`, for the unit, the lag and the mask whose distance is asked for; `tables`, what is known at the start: epoch ->
    table; `last`, the last recorded epoch, which `tables` may lack.
    """

    def __init__(self, spec: RunSpec, tables: Mapping[int, pd.DataFrame], last: int | None) -> None:
        self._spec, self.last = spec, last
        self._columns = ["kept", *schema.CHEAP_OF_UNIT[spec.unit]]
        self._tables = {epoch: table[self._columns] for epoch, table in tables.items()}

    def changes(self, epoch: int, table: pd.DataFrame) -> dict[str, pd.Series]:
        """`sigma_delta`, and of weights `theta_delta`: the table's values minus those of `lag` epochs ago; null where these are unknown."""
        before = self._tables.get(epoch - self._spec.lag)
        changing = [name for name in ("theta", "sigma") if name in self._columns]
        null = pd.Series(_NULL, index=table.index, dtype="float32")
        return {
            f"{name}_delta": null if before is None else table[name] - before[name]
            for name in changing
        }

    def mask_distance(self, table: pd.DataFrame) -> float:
        """Distance of the table's mask from that of the last recorded epoch; NaN where that is not known."""
        if self.last not in self._tables:
            return _NULL
        previous, current = (
            mask_scores(rows, self._spec.mask_score) for rows in (self._tables[self.last], table)
        )
        return distance_between(previous, current, self._spec.mask_ratio)

    def remember(self, epoch: int, table: pd.DataFrame) -> None:
        """Keep the cheap columns of an epoch that was recorded, and forget what no later epoch needs."""
        earliest = (
            epoch - self._spec.lag
        )  # as late as this, so that the changes of this epoch can be asked for once more
        self._tables = {e: t for e, t in self._tables.items() if e >= earliest} | {
            epoch: table[self._columns]
        }
        self.last = epoch
