"""How far weights moved since the last epoch and since epoch 0, on request."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pruneviz.errors import LogError
from pruneviz.log.checkpoint_names import INITIAL
from pruneviz.log.epoch_parts import part_file
from pruneviz.log.kept_files import kept_facts, network_digests
from pruneviz.log.parquet import columns_with_values
from pruneviz.log.schema import CHANGE_COLUMNS
from pruneviz.measuring.rows import AnyLayer, parameters_of, reduced, rows_per_filter
from pruneviz.recording.kept_weights import load_tensors_of, save_tensors

_UPDATE, _DISTANCE = CHANGE_COLUMNS

_logger = logging.getLogger("pruneviz")


class WeightChanges:
    """Columns of the norms of weight changes, `update_size` and `distance_from_init`.

    The weights of the last two epochs and of epoch 0 are held in memory, and those of epoch 0 also
    on disk until the run is finished. After a resume the weights of the last epoch are those of the
    network, if it agrees with the log.

    Args:
        model: The network.
        layers: The layers of the rows.
        unit: Row kind.
        columns: Columns that the recording has; other ones are ignored.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[AnyLayer], unit: str, columns: Collection[str]
    ) -> None:
        self._model, self._layers, self._unit = model, layers, unit
        self.columns = tuple(name for name in CHANGE_COLUMNS if name in columns)
        self._held: dict[int, Mapping[str, Tensor]] = {}
        self._initial: Mapping[str, Tensor] | None = None

    @torch.no_grad()
    def read(self, epoch: int) -> dict[str, np.ndarray]:
        """{column: float64, one number per row} of the current network.

        NaN where the weights to compare with are unknown; distances are 0 at epoch 0.
        """
        before = {
            _UPDATE: self._held.get(epoch - 1),
            _DISTANCE: self._weights() if epoch == 0 else self._initial,
        }
        return {name: self._norms(before[name]) for name in self.columns}

    def remember(self, epoch: int) -> None:
        """Hold the weights of an epoch that is being recorded."""
        if not self.columns:
            return
        weights = {name: w.detach().clone() for name, w in self._weights().items()}
        # The epoch before stays, so that this epoch's change can be computed again.
        before = self._held.items() if _UPDATE in self.columns else ()
        self._held = {e: held for e, held in before if e == epoch - 1} | {epoch: weights}
        if epoch == 0:
            self._initial = weights

    @property
    def compares_epochs(self) -> bool:
        """Whether a column compares an epoch with the one before."""
        return _UPDATE in self.columns

    def held(self, epoch: int) -> Mapping[str, Tensor]:
        """The weights of an epoch, for `update_size` of the next one; none if they are not held."""
        return self._held.get(epoch, {}) if self.compares_epochs else {}

    def fits(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether weights are by name and shape those that `held` would return."""
        shapes = {name: w.shape for name, w in self._weights().items() if self.compares_epochs}
        return {name: w.shape for name, w in weights.items()} == shapes

    def hold(self, epoch: int, weights: Mapping[str, Tensor]) -> None:
        """Hold weights as those of an epoch."""
        now = self._weights()
        self._held = {epoch: {name: w.to(now[name].device) for name, w in weights.items()}}

    def write(self, folder: Path, epoch: int, network: str | None) -> None:
        """Keep the held weights of epoch 0 in a folder of a run directory, for a resume.

        Args:
            folder: The folder.
            epoch: Number of epochs trained.
            network: Digest of the network, if it has one.

        Raises:
            LogError: If the disk cannot be written to.
        """
        if epoch == 0 and _DISTANCE in self.columns and self._initial is not None:
            facts = kept_facts(folder.parent, epoch, network)
            save_tensors(self._initial, folder / INITIAL, facts)

    def restart(self, folder: Path, last: int | None, agrees: bool) -> None:
        """Continue after the last recorded epoch.

        Args:
            folder: Folder of the weights of epoch 0.
            last: The last recorded epoch; None before the first.
            agrees: Whether the network has the weights of that epoch.

        Raises:
            LogError: If the kept weights of epoch 0 are missing, damaged or of another network or
                run.
        """
        self._held, self._initial = {}, None
        if last is None or not self.columns:
            return
        if agrees:
            self.remember(last)
        if _DISTANCE in self.columns:
            self._initial = self._kept_start(folder / INITIAL, last)

    def _kept_start(self, file: Path, last: int) -> dict[str, Tensor] | None:
        """The weights of epoch 0; None if it was not recorded, or the run was finished once."""
        if file.exists():
            return self._read(file)
        rows = part_file(file.parent.parent, "filters", last)
        if _DISTANCE in columns_with_values(rows, "filters"):
            if file.parent.exists():
                raise LogError(
                    f"{file} is missing, so {_DISTANCE} cannot go on; restore it from a backup, or "
                    "delete the run and record it again"
                )
            _logger.warning(
                "%s is gone, as finishing a run removes it; %s is null from now on", file, _DISTANCE
            )
        return None

    def _read(self, file: Path) -> dict[str, Tensor]:
        run = file.parent.parent
        found = load_tensors_of(file, run, 0, network_digests(run, 0).get(0))
        now = self._weights()
        same = found.keys() == now.keys()
        if not same or any(found[name].shape != now[name].shape for name in now):
            raise LogError(f"{file} is of another network than {type(self._model).__name__}")
        return {name: found[name].to(now[name].device) for name in now}

    def _weights(self) -> dict[str, Tensor]:
        return {name: self._model.get_parameter(name) for name in parameters_of(self._layers)}

    def _norms(self, before: Mapping[str, Tensor] | None) -> np.ndarray:
        sizes = [
            layer.filters * rows_per_filter(self._model, layer, self._unit)
            for layer in self._layers
        ]
        if before is None:
            return np.full(sum(sizes), np.nan)
        now = self._weights()

        def squares(name: str) -> Tensor:
            difference = _wide(now[name]) - _wide(before[name])
            return difference.abs().square()

        parts = [reduced(layer, squares, self._unit) for layer in self._layers]
        norms: np.ndarray = torch.cat(parts).sqrt().cpu().numpy()
        return norms


def _wide(weight: Tensor) -> Tensor:
    return weight.to(torch.complex128 if weight.is_complex() else torch.float64)
