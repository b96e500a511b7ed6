"""Units: sets of parameter entries that are measured and pruned together.

A filter is a row of one weight. A *unit* may hold entries of several parameters: an attention head
owns rows of the query, key and value projections, their biases, and columns of the output
projection. `Units` lists the units of one layer as slices of parameters; every column of a table is
the sum of one number per entry over the unit, and an entry in several slices of a unit counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from pruneviz.errors import MeasureError, unknown_name

Indices = int | Sequence[int] | Tensor
Entry = tuple[str, int, Indices]  # parameter, dim, indices along it
Grouping = Mapping[str, Sequence[Entry] | Sequence[Sequence[Entry]]]


@dataclass(frozen=True, eq=False, repr=False)
class Slices:
    """Slices of one parameter along one dimension, and the unit that each belongs to.

    Attributes:
        parameter: Its name in `named_parameters()`.
        dim: Dimension that is sliced, from 0.
        index: Positions along `dim`, integers [n].
        unit: Number of the unit of each position, integers [n].
        reads: Whether these entries read the unit's activations, such as the columns of an output
            projection. The others make them.
    """

    parameter: str
    dim: int
    index: Tensor
    unit: Tensor
    reads: bool = False

    def of(self, unit: int) -> Tensor:
        """Positions of one unit along `dim`, integers."""
        return self.index[self.unit == unit]


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one layer, or of one group of parameters.

    Attributes:
        name: The `layer` of their rows: a module, or the name of a grouping.
        kind: Row kind, such as "head".
        filters: Number of units; a unit's number is the `filter` of its row.
        slices: Their entries, at most one item per parameter, dimension and value of `reads`.
    """

    name: str
    kind: str
    filters: int
    slices: tuple[Slices, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the units: 0, 1, ..."""
        return tuple(range(self.filters))

    @property
    def norms(self) -> tuple[None, ...]:
        """No batch norm belongs to a unit."""
        return (None,) * self.filters

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that hold entries of these units."""
        return tuple(dict.fromkeys(part.parameter for part in self.slices))

    def entries(self, unit: int) -> Iterator[tuple[str, int, Tensor]]:
        """(parameter, dim, positions along it) of one unit."""
        for part in self.slices:
            index = part.of(unit)
            if len(index):
                yield part.parameter, part.dim, index

    def sums(self, values: Mapping[str, Tensor]) -> Tensor:
        """Sums over the units of one number per entry.

        Args:
            values: For each parameter of these units, numbers in its shape.

        Returns:
            float64 [filters], on the device of the values.
        """
        device = values[self.slices[0].parameter].device
        total = torch.zeros(self.filters, dtype=torch.float64, device=device)
        for name, parts in groupby(self.slices, key=lambda part: part.parameter):
            total += _sums(values[name].double(), list(parts), self.filters)
        return total

    def masks(self, model: nn.Module, unit: int) -> dict[str, Tensor]:
        """{parameter: boolean tensor in its shape}, True at the entries of one unit."""
        found: dict[str, Tensor] = {}
        for name, dim, index in self.entries(unit):
            parameter = model.get_parameter(name)
            mask = found.setdefault(name, torch.zeros_like(parameter, dtype=torch.bool))
            mask.index_fill_(dim, index.to(parameter.device), True)
        return found


def grouped(model: nn.Module, grouping: Grouping, kind: str = "group") -> list[Units]:
    """Units from an explicit grouping.

    Args:
        model: The network that owns the parameters.
        grouping: {layer: entries}, with entries [(parameter, dim, indices), ...] for a layer of one
            unit, or a list of such lists for several units.
        kind: Row kind of the units.

    Raises:
        MeasureError: If a parameter, dimension or index does not exist, or a unit is empty.

    Example:
        >>> grouping = {"block 0": [("fc1.weight", 0, range(8)), ("fc2.weight", 1, range(8))]}
        >>> units = grouped(model, grouping)
    """
    if not grouping:
        raise MeasureError("the grouping is empty; give {name: [(parameter, dim, indices), ...]}")
    parameters = dict(model.named_parameters())
    found = []
    for name, given in grouping.items():
        units = [list(given)] if _is_one_unit(given) else [list(unit) for unit in given]
        checked = [[_checked(name, entry, parameters) for entry in unit] for unit in units]
        if not checked or not all(checked):
            raise MeasureError(
                f"group {name!r} has a unit without entries; give at least one "
                "(parameter, dim, indices) for each"
            )
        entries = [(p, d, i, number) for number, unit in enumerate(checked) for p, d, i in unit]
        found.append(Units(name, kind, len(units), tuple(merged(entries))))
    return found


def merged(
    entries: Sequence[tuple[str, int, Tensor, int]], *, reads: bool = False
) -> Iterator[Slices]:
    """One `Slices` per parameter and dimension, from (parameter, dim, positions, unit)."""
    ordered = sorted(entries, key=lambda entry: entry[:2])
    for (parameter, dim), same in groupby(ordered, key=lambda entry: entry[:2]):
        pairs = [torch.stack([i, torch.full_like(i, unit)]) for _, _, i, unit in same]
        index, unit = torch.cat(pairs, dim=1).unique(dim=1)
        yield Slices(parameter, dim, index, unit, reads)


def _sums(values: Tensor, parts: Sequence[Slices], units: int) -> Tensor:
    """Sums over the entries of one parameter."""
    if len(parts) > 1:
        return _sums_of_overlapping(values, parts, units)
    (part,) = parts
    along = values.movedim(part.dim, 0).reshape(values.shape[part.dim], -1).sum(1)
    total = torch.zeros(units, dtype=values.dtype, device=values.device)
    return total.index_add_(0, part.unit.to(values.device), along[part.index.to(values.device)])


def _sums_of_overlapping(values: Tensor, parts: Sequence[Slices], units: int) -> Tensor:
    """The same for slices along several dimensions; an entry counts once per unit."""
    total = torch.zeros(units, dtype=values.dtype, device=values.device)
    for unit in torch.cat([part.unit for part in parts]).unique().tolist():
        mask = torch.zeros_like(values, dtype=torch.bool)
        for part in parts:
            mask.index_fill_(part.dim, part.of(unit).to(values.device), True)
        total[unit] = values[mask].sum()
    return total


def _is_one_unit(given: Sequence[Entry] | Sequence[Sequence[Entry]]) -> bool:
    return bool(given) and isinstance(given[0], Sequence) and isinstance(given[0][0], str)


def _checked(
    group: str, entry: object, parameters: Mapping[str, Tensor]
) -> tuple[str, int, Tensor]:
    """An entry with a non-negative dimension and sorted positions."""
    if not isinstance(entry, Sequence) or len(entry) != 3:
        raise MeasureError(
            f"group {group!r} has the entry {entry!r}; give (parameter, dim, indices), "
            "such as ('fc1.weight', 0, [0, 1])"
        )
    name, dim, indices = entry
    if name not in parameters:
        raise MeasureError(unknown_name(f"parameter for group {group!r}", name, [*parameters]))
    shape = parameters[name].shape
    if not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        raise MeasureError(
            f"group {group!r}: {name} has shape {tuple(shape)} and no dimension {dim!r}; "
            f"choose one of {', '.join(map(str, range(len(shape))))}"
        )
    index = torch.as_tensor(
        [indices] if isinstance(indices, int) else [int(i) for i in indices], dtype=torch.int64
    )
    size = shape[dim]
    if len(index) and not (-size <= int(index.min()) and int(index.max()) < size):
        raise MeasureError(
            f"group {group!r}: {name} has {size} positions along dimension {dim}, and indices from "
            f"{int(index.min())} to {int(index.max())} were given; indices lie in 0..{size - 1}"
        )
    if not len(index):
        raise MeasureError(f"group {group!r}: no indices for {name}; give one or more")
    return name, dim % len(shape), index % size
