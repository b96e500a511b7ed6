"""Cheap columns of a network and changes of its weights, checked and rounded as for the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pruneviz.errors import MeasureError
from pruneviz.log import schema
from pruneviz.measuring.cheap_columns import CheapColumns, CheapValues
from pruneviz.measuring.rows import AnyLayer
from pruneviz.recording.weight_changes import WeightChanges

_LARGEST = torch.finfo(torch.float32).max  # largest number that the log can store
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CheapTables:
    """Read the cheap columns of a network in two steps; only the first one needs the network.

    Args:
        model: Network to read.
        layers: Its layers, from `pruneviz.measuring.selection.choose_rows`.
        unit: Row kind.
        kept: Which rows count as kept, as for `CheapColumns`.
        columns: Columns that the recording has; of these, changes between epochs.

    Attributes:
        changes: Changes of weights between epochs.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[AnyLayer],
        unit: str,
        kept: str,
        columns: Collection[str],
    ) -> None:
        self._model = model
        self._columns = CheapColumns(model, layers, unit, kept)
        self.changes = WeightChanges(model, layers, unit, columns)
        self._odd_from_the_start = frozenset(_odd_buffers(model))
        stored = (*schema.CHEAP_OF_UNIT[unit], *self.changes.columns)
        self._dtypes = dict.fromkeys(stored, "float32")

    def read(self, epoch: int) -> CheapValues:
        """Read the current network, after `epoch` epochs.

        Raises:
            MeasureError: If a weight is not finite, which the log would store as null and pruned,
                or a buffer has become NaN, or a running statistic infinite; names the parameter,
                buffer or layer.
        """
        seen = self._columns.read()
        problem = None if seen.bounded else self._broken_parameter()
        problem = problem or self._broken_buffer()
        if problem is None and not (seen.terms["theta_norm2"] <= _LARGEST).all():
            problem = f"norm of the weights of layer {self._largest_layer(seen)} is beyond float32"
        if problem is not None:
            raise MeasureError(f"the {problem}; the training diverged, lower its learning rate")
        return replace(seen, changes=self.changes.read(epoch))

    def table(self, seen: CheapValues) -> pd.DataFrame:
        """Keys, `kept` and cheap columns of every row, in the log's precision."""
        return self._columns.table(seen).assign(**seen.changes).astype(self._dtypes)

    def now(self) -> pd.DataFrame:
        """Table of the current network, without the check and without changes."""
        seen = self._columns.read()
        unknown = np.full(len(seen.pruned), np.nan)
        return self.table(replace(seen, changes=dict.fromkeys(self.changes.columns, unknown)))

    def _broken_parameter(self) -> str | None:
        for name, parameter in self._model.named_parameters():
            if not parameter.isfinite().all():
                return f"parameter {name} is not finite"
        return None

    def _broken_buffer(self) -> str | None:
        """A buffer that is not finite, and was at first: masks may be infinite from the start."""
        new = [name for name in _odd_buffers(self._model) if name not in self._odd_from_the_start]
        return f"buffer {new[0]} is not finite" if new else None

    def _largest_layer(self, seen: CheapValues) -> str:
        table = self._columns.table(seen)
        return str(table.loc[table["theta_norm2"] > _LARGEST, "layer"].iloc[0])


@torch.no_grad()
def _odd_buffers(model: nn.Module) -> list[str]:
    """Buffers that hold NaN, and running statistics that are infinite."""
    found = {name: b for name, b in model.named_buffers() if _has_values(b)}
    # almost always finite, which takes one transfer
    if not found or bool(get_total_norm(list(found.values())).isfinite()):
        return []
    return [name for name, buffer in found.items() if _is_odd(name, buffer)]


def _has_values(buffer: Tensor) -> bool:
    plain = buffer.layout == torch.strided and not (buffer.is_meta or buffer.is_nested)
    return plain and buffer.dtype in _FLOATS and buffer.numel() > 0


def _is_odd(name: str, buffer: Tensor) -> bool:
    running = name.rpartition(".")[2] in ("running_mean", "running_var")
    return bool((~buffer.isfinite() if running else buffer.isnan()).any())
