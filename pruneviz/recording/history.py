"""Cheap columns of the last recorded epochs, from which changes and mask distances are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from pruneviz.analysis.masks import distance_between, mask_scores
from pruneviz.analysis.measures import AnyMeasure, Measure, names, resolve
from pruneviz.analysis.scores import columns_read
from pruneviz.errors import LogError, ScoreError
from pruneviz.log import schema
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.vocabulary import MASK_SCORES

_NULL = float("nan")
_KEYS = ("layer", "filter", "weight")


class History:
    """Cheap columns of all rows, from `lag` epochs ago to the last recorded epoch.

    Args:
        spec: Run spec: row kind, lag and mask ratio.
        mask_score: Pruning measure of the masks, from `checked_mask_score`.
        tables: {epoch: table} of the initially known epochs.
        last: The last recorded epoch, which `tables` may lack; None before the first.

    Attributes:
        values: Columns that the values of a network decide.
    """

    def __init__(
        self,
        spec: RunSpec,
        mask_score: Measure,
        tables: Mapping[int, pd.DataFrame],
        last: int | None,
    ) -> None:
        self._spec, self._mask_score, self.last = spec, mask_score, last
        keys = [name for name in mask_score.reads if name in _KEYS]
        self.values = ["kept", *schema.CHEAP_OF_UNIT[spec.unit]]
        self._columns = [*keys, *self.values]
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
        previous = mask_scores(self._tables[self.last], self._mask_score)
        current = mask_scores(table, self._mask_score)
        return distance_between(previous, current, self._spec.mask_ratio)

    def held(self) -> pd.DataFrame | None:
        """Cheap columns of the last recorded epoch; None if they are not known."""
        return None if self.last is None else self._tables.get(self.last)

    def remember(self, epoch: int, table: pd.DataFrame) -> None:
        """Store the cheap columns of a recorded epoch, and drop epochs no longer needed."""
        # Epoch `epoch - lag` stays, so that this epoch's changes can be computed again.
        earliest = epoch - self._spec.lag
        recent = {e: t for e, t in self._tables.items() if e >= earliest}
        self._tables = {**recent, epoch: table[self._columns]}
        self.last = epoch


def recorded_history(
    log: RunLog,
    spec: RunSpec,
    mask_score: Measure,
    now: Callable[[], pd.DataFrame],
    *,
    agrees: bool,
) -> History:
    """The history of a run that was recorded up to some epoch.

    Args:
        log: Open run directory.
        spec: Run spec.
        mask_score: Pruning measure of the masks.
        now: Reads the cheap columns of the current network.
        agrees: Whether the network is the one of the last epoch.
    """
    epochs = log.epochs
    if not epochs:
        return History(spec, mask_score, {}, None)
    last = epochs[-1]
    if spec.unit == "weight":
        return History(spec, mask_score, {last: now()} if agrees else {}, last)
    needed = [epoch for epoch in epochs if epoch >= last - spec.lag]
    tables = {e: log.rows_at("filters", e).reset_index(drop=True) for e in needed}
    return History(spec, mask_score, tables, last)


def checked_mask_score(mask_score: AnyMeasure | None, unit: str) -> Measure:
    """A pruning measure by which the masks of every epoch can be compared. Default: the row kind's.

    Raises:
        LogError: If there is no such measure, or it needs columns that are not written at every
            epoch, or does not say which.
    """
    try:
        measure = resolve(MASK_SCORES[unit] if mask_score is None else mask_score)
        needed = columns_read(measure)
    except ScoreError as error:
        raise LogError(f"mask_score: {error}") from error
    available = {*schema.CHEAP_OF_UNIT[unit], *_KEYS, "kept"}
    if not set(needed) <= available:
        known = map(resolve, names())
        cheap = [m.name for m in known if m.needs and set(m.reads) <= available]
        raise LogError(
            f"mask_score={measure.name!r} is not known at every epoch; "
            f"choose one of {', '.join(cheap)}, or derive it from the log afterwards "
            "with pruneviz.mask_distance"
        )
    return measure
