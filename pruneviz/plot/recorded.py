"""Values of columns and measures at single filters, read from recordings or a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.measures import AnyMeasure, Measure, quantity
from pruneviz.errors import FigureError, LogError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.schema import DERIVATIVE_COLUMNS, is_filter_column
from pruneviz.plot.groups import with_groups
from pruneviz.plot.rows import filters_of
from pruneviz.plot.source import only_epochs

Wanted: TypeAlias = int | Iterable[int] | None

_KEYS = ("run", "epoch", "layer", "filter", "weight", "kept")


def groups_of(runs: Runs, by: str | Sequence[str] | None = None) -> Iterator[tuple[str, Runs]]:
    """Runs that only their seed tells apart, by label; see `with_groups`."""
    spec, _ = with_groups(runs.spec, by)
    for label, mine in spec.groupby("group", sort=False):
        yield str(label), runs.named(mine["run"])


def lowest_seed(runs: Runs) -> Runs:
    """The run with the lowest seed; the first one where no seed is known."""
    spec = runs.spec.sort_values("seed", kind="stable")
    return runs.named(spec["run"].iloc[:1])


def epochs_of_group(held: Sequence[int], known: Sequence[int], wanted: Wanted) -> list[int]:
    """The epochs to draw of one group of runs, ascending; may be empty.

    Args:
        held: Epochs at which this group has values.
        known: Epochs at which any group has values.
        wanted: Epochs that were asked for; negative numbers count from the last one of the group.
            Default: all.

    Raises:
        FigureError: If no group has values at one of them.
    """
    if wanted is None:
        return only_epochs(held, None)
    asked = [wanted] if isinstance(wanted, int) else list(wanted)
    only_epochs(known, asked)
    mine = [epoch for epoch in asked if epoch < 0 or epoch in held]
    return only_epochs(held, mine) if mine else []


def values_of(
    runs: Runs, quantities: Sequence[AnyMeasure], epochs: Sequence[int] | None = None
) -> pd.DataFrame:
    """Columns and measures of every filter.

    Args:
        runs: Recordings.
        quantities: Columns of the filters table, or pruning measures as for `pruneviz.score`. A
            column wins over a measure of the same name.
        epochs: Epochs to read. Default: all.

    Returns:
        One row per run, epoch and filter (or weight), in the order of the log: run and layer (as
        text), epoch, filter, weight (of single weights), kept (a null counts as kept) and, for each
        quantity, its values as float64 under its name, null where the filter is pruned.

    Raises:
        FigureError: If a quantity is unknown, not numeric, or has no value; lists what is there.
    """
    found = [known_quantity(runs, what) for what in quantities]
    rows = _rows(runs, found, epochs)
    kept = ~rows["kept"].eq(False).fillna(False).to_numpy(dtype=bool)
    keys = rows[[key for key in _KEYS if key in rows]].astype({"run": "str", "layer": "str"})
    values = {one.name: np.where(kept, _numbers(runs, rows, one), np.nan) for one in found}
    return keys.assign(kept=kept, **values)


def known_quantity(runs: Runs, what: AnyMeasure) -> Measure:
    """A column of these runs, or a pruning measure.

    Raises:
        FigureError: If it is neither; lists what is there.
    """
    columns = [what] if isinstance(what, str) and _has_column(runs, what) else []
    try:
        return quantity(what, columns)
    except KeyError:
        known = recorded_names(runs)
        raise FigureError(unknown_name("column or measure", str(what), known)) from None


def recorded_names(runs: Runs) -> list[str]:
    """Measures and numeric columns that have values, at the last epoch with derivatives."""
    rows = runs.read("filters", epochs=measured_epochs(runs)[-1:])
    return list(dict.fromkeys([*recorded_measures(rows), *_with_values(rows)]))


def measures_to_compare(runs: Runs, epoch: int) -> list[str]:
    """Everything at one epoch that ranks filters: measures, and columns that are not of the log."""
    rows = runs.read("filters", epochs=[epoch])
    own = [name for name in _with_values(rows) if not is_filter_column(name)]
    return list(dict.fromkeys([*recorded_measures(rows), *own]))


def measured_epochs(runs: Runs) -> list[int]:
    """Epochs at which the columns that need derivatives were measured, ascending.

    All epochs of the filters table if there are no such columns.
    """
    for column in DERIVATIVE_COLUMNS:
        if _has_column(runs, column):
            epochs = runs.read("filters", ["epoch", column], complete=[column])["epoch"]
            if len(epochs):
                return sorted(map(int, epochs.unique()))
    return all_epochs(runs)


def all_epochs(runs: Runs) -> list[int]:
    """Epochs of the filters table, ascending."""
    return sorted(map(int, runs.read("filters", ["epoch"])["epoch"].unique()))


def layer_places(rows: pd.DataFrame) -> dict[str, int]:
    """Depth order of the layers, from 0, as the rows name them."""
    return {str(layer): place for place, layer in enumerate(pd.unique(rows["layer"]))}


def _with_values(rows: pd.DataFrame) -> list[str]:
    numeric = [str(name) for name in rows if pd.api.types.is_numeric_dtype(rows[name])]
    return [name for name in numeric if name not in _KEYS and rows[name].notna().any()]


def _rows(runs: Runs, quantities: Sequence[Measure], epochs: Sequence[int] | None) -> pd.DataFrame:
    if any(one.needs is None for one in quantities):  # a function that does not say what it reads
        return runs.read("filters", epochs=epochs)
    read = ["kept", "weight", *(column for one in quantities for column in one.reads)]
    return filters_of(runs, runs.spec, [name for name in read if _has_column(runs, name)], epochs)


def _has_column(runs: Runs, name: str) -> bool:
    try:
        runs.read("filters", [name], epochs=[])
    except LogError:
        return False
    return True


def _numbers(runs: Runs, rows: pd.DataFrame, measure: Measure) -> np.ndarray:
    lacking = [column for column in measure.needs or () if column not in rows]
    values = pd.Series(dtype="float64") if lacking else measure.of(rows)
    if not pd.api.types.is_numeric_dtype(values):
        known = ", ".join(recorded_names(runs))
        raise FigureError(
            f"column {measure.name} holds {values.dtype}, not numbers; choose one of {known}"
        )
    numbers = values.to_numpy(dtype="float64", na_value=np.nan)
    if np.isnan(numbers).all():
        known = ", ".join(recorded_names(runs))
        hint = f"choose one of {known}" if known else "no other column has values either"
        raise FigureError(f"these rows hold no value of {measure.name}; {hint}")
    return numbers
