"""The network of the last recorded epoch, where it was changed since, in a person's checkpoint.

Changes of weights and of masks are against the network as it was recorded. The log holds it, but
for `update_size` and single weights, of which it holds too little.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pruneviz.errors import LogError
from pruneviz.recording.cheap_tables import CheapTables
from pruneviz.recording.history import History

_WEIGHTS, _ROWS = "weights/", "rows/"


class BeforeChange:
    """Takes what the next epoch is compared with from a recorder, and gives it to another one.

    Args:
        history: Cheap columns of the last epochs.
        cheap: Cheap columns of the network.
        unit: Row kind.
    """

    def __init__(self, history: History, cheap: CheapTables, unit: str) -> None:
        self._history, self._cheap = history, cheap
        self._holds_rows = unit == "weight"

    @property
    def is_needed(self) -> bool:
        """Whether the log holds too little of the network for the next epoch."""
        return self._holds_rows or self._cheap.changes.compares_epochs

    def tensors(self) -> dict[str, Tensor]:
        """What is known of the network of the last epoch, by name."""
        last, found = self._history.last, dict[str, Tensor]()
        if last is None:
            return found
        for name, weight in self._cheap.changes.held(last).items():
            found[_WEIGHTS + name] = weight.detach().cpu()
        rows = self._history.held() if self._holds_rows else None
        if rows is None:
            return found
        for name in self._history.values:
            found[_ROWS + name] = torch.tensor(rows[name].to_numpy())
        return found

    def restore(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Take `tensors` of an earlier process for the network of the last epoch.

        Args:
            path: Run directory.
            tensors: What `tensors` returned.

        Raises:
            LogError: If they are missing, or of another network.
        """
        last = self._history.last
        if last is None or not self.is_needed:
            return
        weights = _named(tensors, _WEIGHTS)
        rows = _named(tensors, _ROWS)
        now = self._cheap.now()
        columns = self._history.values if self._holds_rows else []
        fits = self._cheap.changes.fits(weights) and rows.keys() == set(columns)
        if not fits or any(len(values) != len(now) for values in rows.values()):
            raise LogError(
                f"the checkpoint lacks the network of epoch {last} of {path}, which was changed "
                "after it was recorded and which the next epoch is compared with; resume from a "
                f"checkpoint that was saved right after recorder.after_epoch({last}), or record "
                "into another folder"
            )
        self._cheap.changes.hold(last, weights)
        if self._holds_rows:
            held = {name: values.cpu().numpy() for name, values in rows.items()}
            self._history.remember(last, now.assign(**held))


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
