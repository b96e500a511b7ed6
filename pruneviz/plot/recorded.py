"""Values of columns and measures at single filters, read from recordings or a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.measures import AnyMeasure, Measure, quantity
from pruneviz.analysis.run_facts import facts_known, with_facts_needed
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.schema import DERIVATIVE_COLUMNS, is_filter_column
from pruneviz.plot.groups import with_groups
from pruneviz.plot.panels import check_number
from pruneviz.plot.rows import filters_of, kept_in, with_facts_held
from pruneviz.plot.source import asked_epochs, only_epochs
from pruneviz.plot.words import listed

Wanted: TypeAlias = int | Iterable[int] | None

_KEYS = ("run", "epoch", "layer", "filter", "weight", "kept")


def groups_of(runs: Runs, by: str | Sequence[str] | None = None) -> Iterator[tuple[str, Runs]]:
    """Runs that only their seed tells apart, by label; see `with_groups`."""
    spec, _ = with_groups(runs.spec, by)
    for label, mine in spec.groupby("group", sort=False):
        yield str(label), runs.named(mine["run"])


def check_groups(runs: Runs, by: str | Sequence[str] | None) -> None:
    """Check that runs make few enough groups for a picture, before anything is computed.

    Raises:
        FigureError: If there are too many.
    """
    check_number([label for label, _ in groups_of(runs, by)])


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
    asked = asked_epochs(wanted)
    if asked is None or not len(held):
        return sorted(held)
    only_epochs(known, asked)
    mine = [epoch for epoch in asked if epoch < 0 or epoch in held]
    return only_epochs(held, mine) if mine else []


def values_of(
    runs: Runs,
    quantities: Sequence[AnyMeasure],
    epochs: Sequence[int] | None = None,
    of_pruned: bool = False,
) -> pd.DataFrame:
    """Columns and measures of every filter.

    Args:
        runs: Recordings.
        quantities: Columns of the filters table, or pruning measures as for `pruneviz.score`. A
            column wins over a measure of the same name.
        epochs: Epochs to read. Default: all.
        of_pruned: Whether pruned filters keep their values, most of which are 0.

    Returns:
        One row per run, epoch and filter (or weight), in the order of the log: run and layer
        (categories of text), epoch, filter, weight (of single weights), kept (a null counts as
        kept) and, for each quantity, its values as float64 under its name: null where the filter is
        pruned, and everywhere if these runs do not hold what the quantity needs.

    Raises:
        FigureError: If a quantity is unknown or not numeric; lists what is there.
    """
    found = [known_quantity(runs, what) for what in quantities]
    rows = _rows(runs, found, epochs)
    kept = kept_in(rows)
    keys = rows[[key for key in _KEYS if key in rows]]
    texts = {key: _texts(keys[key]) for key in ("run", "layer")}
    there = kept | of_pruned
    values = {one.name: np.where(there, _numbers(rows, one), np.nan) for one in found}
    return keys.assign(kept=kept, **texts, **values)


def check_held(runs: Runs, quantities: Sequence[AnyMeasure]) -> None:
    """Check that some run can have a value of each quantity.

    Raises:
        FigureError: If a quantity is unknown, or no run holds what it needs; lists what is there.
        ScoreError: If no run has a fact that it needs, such as the size of the sample.
    """
    with_facts_needed(runs.spec[["run"]], runs.spec, [known_quantity(runs, q) for q in quantities])
    recorded = runs.recorded("filters")
    for what in quantities:
        found = known_quantity(runs, what)
        lacking = [column for column in found.columns if column not in recorded]
        if lacking:
            raise FigureError(
                f"no run holds values of {listed(lacking)}, which {found.name} is drawn from; "
                f"they hold [{', '.join(recorded_names(runs))}]"
            )


def known_quantity(runs: Runs, what: AnyMeasure) -> Measure:
    """A column of these runs, or a pruning measure.

    Raises:
        FigureError: If it is neither; lists what is there.
    """
    try:
        return quantity(what, runs.columns("filters"))
    except KeyError:
        known = recorded_names(runs)
        raise FigureError(unknown_name("column or measure", str(what), known)) from None


def recorded_names(runs: Runs) -> list[str]:
    """Measures and columns that have values."""
    recorded = runs.recorded("filters")
    return [*recorded_measures(runs), *(name for name in recorded if name not in _KEYS)]


def measures_to_compare(runs: Runs, epoch: int) -> list[str]:
    """Everything at one epoch that ranks filters: measures, and columns that are not of the log."""
    rows = runs.read("filters", epochs=[epoch])
    facts = {name: 0 for name in facts_known(runs.spec) if name not in rows}
    own = [
        str(name)
        for name in rows
        if pd.api.types.is_numeric_dtype(rows[name]) and rows[name].notna().any()
        if name not in _KEYS and not is_filter_column(str(name))
    ]
    return list(dict.fromkeys([*recorded_measures(rows.assign(**facts)), *own]))


def measured_epochs(runs: Runs) -> list[int]:
    """Epochs at which the columns that need derivatives were measured, ascending.

    All epochs of the filters table if there are no such columns.
    """
    recorded = runs.recorded("filters")
    for column in DERIVATIVE_COLUMNS:
        if column in recorded:
            epochs = runs.read("filters", ["epoch", column], complete=[column])["epoch"]
            return sorted(map(int, epochs.unique()))
    return sorted(map(int, runs.read("filters", ["epoch"])["epoch"].unique()))


def depths_of(rows: pd.DataFrame) -> dict[str, int]:
    """Depth of the layers, from 1, in the order in which the rows name them."""
    return {str(layer): depth for depth, layer in enumerate(pd.unique(rows["layer"]), start=1)}


def _rows(runs: Runs, quantities: Sequence[Measure], epochs: Sequence[int] | None) -> pd.DataFrame:
    if any(one.needs is None for one in quantities):  # a function that does not say what it reads
        return with_facts_held(runs.read("filters", epochs=epochs), runs.spec, quantities)
    held = runs.columns("filters")
    read = ["kept", "weight", *(column for one in quantities for column in one.reads)]
    rows = filters_of(runs, runs.spec, [name for name in read if name in held], epochs)
    return with_facts_held(rows, runs.spec, quantities)


def _texts(names: pd.Series) -> pd.Series:
    """Names as categories, which are grouped fast and are small in memory."""
    known = names.astype("category")
    return known.cat.rename_categories(list(map(str, known.cat.categories)))


def _numbers(rows: pd.DataFrame, measure: Measure) -> np.ndarray:
    if any(column not in rows for column in measure.needs or ()):
        return np.full(len(rows), np.nan)
    values = measure.of(rows)
    if not pd.api.types.is_numeric_dtype(values):
        raise FigureError(f"column {measure.name} holds {values.dtype}, expected numbers")
    return values.to_numpy(dtype="float64", na_value=np.nan)
