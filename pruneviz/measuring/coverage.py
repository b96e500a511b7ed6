"""`pv.coverage`: which parameters of a network are measured, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from pruneviz.console.shown_text import visible, visible_lines
from pruneviz.measuring.options import Options
from pruneviz.measuring.rows import AnyLayer
from pruneviz.measuring.selection import Rows
from pruneviz.measuring.shortage import shortage_explained
from pruneviz.measuring.snapshot import rows_of
from pruneviz.model.filters import Layer, unwrap
from pruneviz.model.isolation import generators_preserved
from pruneviz.model.network_result import AnyNetwork
from pruneviz.model.sample import Sample, as_batches, measuring_dtype, model_device

_NAMED = 6  # matrices named one by one in a summary
_CHOSEN = (  # how reasons begin that an option gives
    "the classifier",
    "left out by skip=",
    "not among",
    "not in parameters",
    "frozen",
    "no ",
)


@dataclass(frozen=True)
class Coverage:
    """The measured part of a network; printing it gives `summary()`.

    Attributes:
        network: Class of the network.
        table: One row per parameter: `parameter` (its name), `shape`, `entries`, `layer` (the layer
            of its rows, several joined by commas; empty if not measured), `measured` (number of
            measured entries) and `reason` (why the others are not, and the option that adds them).
    """

    network: str
    table: pd.DataFrame

    @property
    def of_matrices(self) -> float:
        """Measured fraction of the entries of all matrices, parameters with two dimensions."""
        return _fraction(self._matrices())

    @property
    def of_all(self) -> float:
        """Measured fraction of the entries of all parameters."""
        return _fraction(self.table)

    @property
    def left_out(self) -> dict[str, str]:
        """{matrix: reason} of the matrices without measured entries."""
        matrices = self._matrices()
        missing = matrices[matrices["measured"] == 0]
        return dict(zip(missing["parameter"], missing["reason"], strict=True))

    @property
    def is_as_chosen(self) -> bool:
        """Whether every matrix without measured entries was left out by an option."""
        return all(reason.startswith(_CHOSEN) for reason in self.left_out.values())

    def line(self) -> str:
        """The summary in one line."""
        return visible(
            "; ".join([self._shares(), *(f"{n}: {why}" for n, why in self._named().items())])
        )

    def summary(self) -> str:
        """Shares of measured entries, what is missing, why, and the option that adds it."""
        lines = [self._shares(), *(f"  {name}: {why}" for name, why in self._named().items())]
        rest = len(self.left_out) - _NAMED
        if rest > 0:
            lines.append(f"  and {rest} more matrices, see the column reason of its table")
        vectors = self.table[[len(shape) < 2 for shape in self.table["shape"]]]
        missing = vectors[vectors["measured"] == 0]
        if len(missing):
            one = missing["parameter"].iloc[0]
            lines.append(
                f"  {len(missing)} vectors, such as {one}, with {int(missing['entries'].sum())} "
                f"entries: no matrices; layers=('*', {one!r}) adds one"
            )
        return visible_lines("\n".join(lines))

    def __repr__(self) -> str:
        return self.summary()

    def _matrices(self) -> pd.DataFrame:
        return self.table[[len(shape) > 1 for shape in self.table["shape"]]]

    def _named(self) -> dict[str, str]:
        return dict(list(self.left_out.items())[:_NAMED])

    def _shares(self) -> str:
        return (
            f"{self.of_matrices:.1%} of the matrix weights and {self.of_all:.1%} of all entries of "
            f"{self.network} are measured"
        )


def coverage(model: AnyNetwork, sample: Sample, **measuring: Any) -> Coverage:
    """Which parameters `pruneviz.measure` and `Recorder` measure with these options, and which not.

    Args:
        model: Any network; it does not change.
        sample: The measurement sample.
        **measuring: Options of `pruneviz.measure` that choose rows: `unit`, `layers`, `skip`,
            `classifier`, `parameters`, `trace_examples`; and those that call the network.

    Returns:
        A `Coverage`, with a table and a summary.

    Raises:
        DataError: If the sample is empty or not a sample.
        MeasureError: If an option is invalid, or nothing can be measured.

    Example:
        >>> print(pv.coverage(model, (images, labels)))
        >>> pv.coverage(model, (images, labels)).table.query("measured == 0")
    """
    options, network = Options.of(**measuring), unwrap(model)
    device = model_device(network)
    with shortage_explained(network), generators_preserved(sample, device):
        dtype = measuring_dtype(network, options.dtype)
        batches = as_batches(sample, device, dtype, options.forward)
        return coverage_of(network, rows_of(network, batches, options))


def coverage_of(model: nn.Module, rows: Rows) -> Coverage:
    """The coverage of chosen rows."""
    held: dict[str, list[AnyLayer]] = {}
    for layer in rows.layers:
        for name in (layer.weight,) if isinstance(layer, Layer) else layer.parameters:
            held.setdefault(name, []).append(layer)
    found = [
        _row(name, p, held.get(name, []), rows.left_out) for name, p in model.named_parameters()
    ]
    columns = ["parameter", "shape", "entries", "layer", "measured", "reason"]
    return Coverage(type(model).__name__, pd.DataFrame(found, columns=columns))


def _row(
    name: str, parameter: torch.Tensor, layers: list[AnyLayer], left_out: Mapping[str, str]
) -> tuple[Any, ...]:
    shape, entries = tuple(parameter.shape), parameter.numel()
    measured = _measured_entries(name, parameter, layers)
    reason = left_out.get(name, "")
    if 0 < measured < entries:
        reason = f"{entries - measured} entries belong to no unit"
    return name, shape, entries, ", ".join(layer.name for layer in layers), measured, reason


def _measured_entries(name: str, parameter: torch.Tensor, layers: list[AnyLayer]) -> int:
    """Number of entries that belong to a row."""
    if any(isinstance(layer, Layer) for layer in layers):
        return parameter.numel()
    covered = torch.zeros(parameter.shape, dtype=torch.bool)
    for layer in layers:
        for part in () if isinstance(layer, Layer) else layer.slices:
            if part.parameter == name:
                covered.index_fill_(part.dim, part.index, True)
    return int(covered.sum())


def _fraction(table: pd.DataFrame) -> float:
    entries = int(table["entries"].sum())
    return int(table["measured"].sum()) / entries if entries else 1.0
