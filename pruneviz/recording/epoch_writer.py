"""Rows of an epoch, written into a run directory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.weight_correlations import weight_correlations
from pruneviz.log import schema
from pruneviz.log.run_directory import RunLog
from pruneviz.measuring.snapshot import Snapshot

_CHEAP = frozenset(("theta", *schema.CHEAP_COLUMNS, *schema.CHANGE_COLUMNS))


@dataclass(frozen=True, repr=False)
class EpochWriter:
    """Writes measurements of epochs.

    Attributes:
        kind: Row kind.
        stored: Which rows of a table are stored.
    """

    kind: str
    stored: np.ndarray | slice = field(repr=False)

    def append(
        self,
        log: RunLog,
        epoch: int,
        cheap: pd.DataFrame,
        snapshot: Snapshot,
        row: Mapping[str, Any],
        rounds: pd.DataFrame | None,
    ) -> None:
        """Write an epoch.

        Args:
            log: Open run directory.
            epoch: Number of epochs trained.
            cheap: Cheap columns of all rows, and their changes.
            snapshot: What was measured; empty at other epochs.
            row: Further columns of the epochs table.
            rounds: Layers after a pruning round at this epoch.
        """
        table = joined(cheap, snapshot.filters)
        log.append(
            epoch,
            filters=table.iloc[self.stored],
            epochs=pd.DataFrame([{**row, **_of_network(snapshot)}]),
            rounds=None if rounds is None else rounds.assign(epoch=epoch),
            correlations=self._correlations(table, epoch, snapshot),
            halves=self._halves(cheap, epoch, snapshot),
        )

    def is_complete(self, log: RunLog, epoch: int, wanted: Collection[str]) -> bool:
        """Whether an epoch on disk has the derivatives that are wanted, or none is.

        Args:
            log, epoch: As for `append`.
            wanted: Columns to measure.
        """
        rows = log.rows_at("filters", epoch)
        derived = [name for name in wanted if name in rows and name not in _CHEAP]
        if not derived:
            return True
        # a process that was killed in between has written the filters alone
        whole = log.rows_at("epochs", epoch)["sample_loss"].notna().all()
        return bool(whole and rows[derived].notna().any(axis=None))

    def add(self, log: RunLog, epoch: int, cheap: pd.DataFrame, snapshot: Snapshot) -> None:
        """Add a measurement to an epoch that was written without one; other columns stay.

        Args:
            log, epoch, cheap, snapshot: As for `append`.
        """
        filters, row = log.rows_at("filters", epoch), log.rows_at("epochs", epoch)
        measured = snapshot.filters.iloc[self.stored].items()
        log.replace(
            epoch,
            filters=filters.assign(**{str(name): column.array for name, column in measured}),
            epochs=row.assign(**_of_network(snapshot)),
            correlations=self._correlations(joined(cheap, snapshot.filters), epoch, snapshot),
            halves=self._halves(cheap, epoch, snapshot),
        )

    def _halves(self, cheap: pd.DataFrame, epoch: int, snapshot: Snapshot) -> pd.DataFrame | None:
        """The stored rows on either half of the sample, one half after the other."""
        if not snapshot.halves:
            return None
        keys = cheap[[name for name in ("layer", "filter", "weight") if name in cheap]]
        parts = [
            joined(keys, measured).iloc[self.stored].assign(half=half)
            for half, measured in snapshot.halves.items()
        ]
        return pd.concat(parts, ignore_index=True).assign(epoch=epoch)

    def _correlations(
        self, table: pd.DataFrame, epoch: int, snapshot: Snapshot
    ) -> pd.DataFrame | None:
        if self.kind != "weight" or not len(snapshot.filters):
            return None
        return weight_correlations(table).assign(epoch=epoch)


def joined(cheap: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Join the cheap and the measured columns of an epoch."""
    return pd.concat([cheap, measured], axis=1)


def _of_network(snapshot: Snapshot) -> dict[str, float]:
    facts = ("sample_loss", "g_norm2", "ghg", "hg_norm2")
    return {name: getattr(snapshot, name) for name in facts}
