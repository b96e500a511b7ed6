"""What a run directory holds of its epochs, finished or not, to compare a network with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.log import schema
from pruneviz.log.parquet import TablePart, joined, read_file
from pruneviz.log.run_directory import RunLog
from pruneviz.log.spec_file import is_sealed
from pruneviz.measuring.bits import differing_parts

_DIGEST = "network_digest"
_RELATIVE = 1e-5  # of sums over filters on another kind of device


class RecordedEpochs:
    """The epochs of a run, with what tells their networks apart.

    Args:
        log: Run directory, finished or not.
    """

    def __init__(self, log: RunLog) -> None:
        self._log = log
        rows = _rows(log, "epochs").sort_values("epoch")
        self.table = rows
        known = rows.get(_DIGEST, pd.Series(None, index=rows.index, dtype="object"))
        self._digests = {
            int(epoch): str(digest) if isinstance(digest, str) else None
            for epoch, digest in zip(rows["epoch"], known, strict=True)
        }

    @property
    def epochs(self) -> list[int]:
        """The recorded epochs, ascending."""
        return list(self._digests)

    def digest(self, epoch: int) -> str | None:
        """The digest of the network at an epoch; None if the log has none."""
        return self._digests.get(epoch)

    def like(self, digest: str | None, after: int = -1) -> int | None:
        """The first epoch whose network has a digest; None if there is none.

        Args:
            digest: Digest of a network.
            after: Look at later epochs than this one alone.
        """
        if digest is None:
            return None
        later = ((e, known) for e, known in self._digests.items() if known and e > after)
        return next((e for e, known in later if not differing_parts(known, digest)), None)

    def loss(self, epoch: int) -> float | None:
        """The loss on the sample at an epoch; None if it was not measured."""
        of_epoch = self.table.loc[self.table["epoch"] == epoch, "sample_loss"]
        return float(of_epoch.iloc[0]) if of_epoch.notna().any() else None

    def rows(self, epoch: int) -> pd.DataFrame:
        """The filters table of an epoch."""
        return _rows(self._log, "filters", epoch)


def agrees(stored: pd.DataFrame, now: pd.DataFrame, unit: str, *, exactly: bool = True) -> bool:
    """Whether the cheap columns of a network are the stored ones.

    Args:
        stored: Rows of the log at an epoch.
        now: The same rows of the network.
        unit: Row kind.
        exactly: Whether they were computed on the same kind of device, else they may differ by
            rounding.
    """
    if len(stored) != len(now):
        return False

    def same(one: Any, other: Any) -> bool:
        if exactly:
            return np.array_equal(one, other, equal_nan=True)
        return np.allclose(one, other, rtol=_RELATIVE, atol=0, equal_nan=True)

    if not np.array_equal(stored["kept"], now["kept"]):
        return False
    return all(same(stored[name], now[name]) for name in schema.CHEAP_OF_UNIT[unit])


def _rows(log: RunLog, table: str, epoch: int | None = None) -> pd.DataFrame:
    if not is_sealed(log.path):
        return log.read(table) if epoch is None else log.rows_at(table, epoch)
    part = TablePart() if epoch is None else TablePart(epochs=(epoch,))
    return joined([read_file(Path(log.path) / f"{table}.parquet", table, part)], table)
