"""What an axis or a colour shows: a column, a pruning measure, or a function of the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, Measure, names, quantity, resolve
from pruneviz.analysis.pairs import values_of
from pruneviz.errors import FigureError, LogError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.schema import is_filter_column
from pruneviz.plot.glyphs import literal
from pruneviz.plot.legends import shortened
from pruneviz.plot.row_kind import RowKind
from pruneviz.plot.rows import kept_in, rows_for, with_facts_held
from pruneviz.plot.words import MEASURE_UNITS, measure_title

_UNITLESS = ("", "1")
_WITHOUT_NAME = "<lambda>"
_LONGEST = 60  # characters of a name


def quantity_of(what: AnyMeasure, runs: Runs, place: str, logged: Collection[str] = ()) -> Measure:
    """A column of the filters table, a pruning measure, or a function of that table.

    Args:
        what: Column, or pruning measure as for `pruneviz.score`. A column wins over a measure of
            the same name.
        runs: The runs that have it.
        place: The argument that names it; a function without a name is called so.
        logged: Names that are there whatever columns the runs hold.

    Raises:
        FigureError: If there is neither, or the runs lack what it needs; names what is there.
        ScoreError: If it is a function that cannot be imported.
    """
    recorded = runs.recorded("filters")
    try:
        found = quantity(what, [*recorded, *(name for name in logged if is_filter_column(name))])
    except KeyError as error:
        if isinstance(what, str) and is_filter_column(what):
            raise FigureError(
                f"{place} is {what}, a column without values in these runs; {_there(recorded)}"
            ) from error
        known = [*recorded, *(name for name in names() if name not in recorded)]
        raise FigureError(f"{place}: {unknown_name('column or measure', str(what), known)}") from (
            error
        )
    lacking = [column for column in found.columns if column not in recorded]
    if lacking and found.name not in logged:
        raise FigureError(
            f"{place} is {found.name}, which needs {', '.join(found.needs or ())}, and these runs "
            f"have no values of {', '.join(lacking)}; {_there(recorded)}"
        )
    return dataclasses.replace(found, name=name_of(found, place))


def name_of(what: AnyMeasure, place: str) -> str:
    """The name of a quantity in the table of a plot; a function without a name is its argument's.

    Args:
        what: Column, or pruning measure as for `pruneviz.score`.
        place: The argument that names it.
    """
    if isinstance(what, str):
        return what
    name = resolve(what).name
    return place if name == _WITHOUT_NAME else name


def with_name(what: AnyMeasure, place: str) -> AnyMeasure:
    """A quantity as it was given; a function without a name gets that of its place.

    Args:
        what: Column, or pruning measure as for `pruneviz.score`.
        place: The name to give.
    """
    if isinstance(what, (str, Measure)):
        return what
    found = resolve(what)
    return dataclasses.replace(found, name=place) if found.name == _WITHOUT_NAME else what


def is_column(what: Measure) -> bool:
    """Whether a quantity is a column of the filters table as it is."""
    return not what.own and what.needs == (what.name,)


def valued_rows(
    runs: Runs,
    spec: pd.DataFrame,
    needed: Sequence[Measure],
    further: Sequence[Measure] = (),
    columns: Sequence[str] = (),
    epochs: Sequence[int] | None = None,
    of_pruned: bool = False,
) -> pd.DataFrame:
    """Rows of the filters table of some runs, with quantities as numeric columns.

    Args:
        runs: Recordings.
        spec: One row per run to read.
        needed: Quantities that a row must have.
        further: Quantities that a row has as far as they are recorded.
        columns: Columns to read besides, which may be null.
        epochs: Epochs to read. Default: all.
        of_pruned: Whether to return pruned filters, too.

    Raises:
        LogError: If a column was not recorded; names it.
        AnalysisError: If a column is not numeric.
    """
    recorded = runs.recorded("filters")
    beside = [name for each in further for name in each.reads if name in recorded]
    beside += [name for name in ("kept",) if name in runs.columns("filters")]
    whole = [each for each in further if each.needs is None]
    # a measure that compares filters, as one's own may, does so over all of a run and epoch
    together = any(each.own or each.name == "lamp" for each in (*needed, *further))
    read = [*columns, *beside]
    rows = rows_for(runs, spec, [*needed, *whole], read, epochs, together=together)
    rows = with_facts_held(rows, runs.spec, further)
    rows = with_values(rows, [*needed, *further])
    if together:
        complete = [name for each in needed for name in each.columns]
        rows = rows.dropna(subset=list(dict.fromkeys(complete)))
    return rows if of_pruned else rows[kept_in(rows)]


def with_values(rows: pd.DataFrame, quantities: Sequence[Measure]) -> pd.DataFrame:
    """Rows of the filters table with quantities as numeric columns; NaN where they are absent.

    Raises:
        AnalysisError: If a column is not numeric.
    """
    return rows.assign(**{each.name: _values(rows, each) for each in quantities})


def _values(rows: pd.DataFrame, what: Measure) -> pd.Series | np.ndarray:
    if not is_column(what):
        return values_of(rows, what)
    values = values_of(rows, what.name)  # raises if it is not numeric
    stored = rows[what.name]
    # A table keeps the precision of the log: 0.1 in float32 is written as 0.1.
    return stored if isinstance(stored.dtype, np.dtype) and stored.dtype.kind in "fi" else values


def axis_label(name: str, row_kind: RowKind, longest: int = _LONGEST) -> str:
    """The label of an axis: symbol and unit where they are known, else the name.

    Args:
        name: Column or pruning measure.
        row_kind: Kind of the rows.
        longest: Number of characters that stay of a name.
    """
    try:
        column = row_kind.column(name)
    except LogError:
        unit = f" ({MEASURE_UNITS[name]})" if name in MEASURE_UNITS else ""
        return literal(*shortened([measure_title(name)], longest)) + unit
    if not column.symbol:
        return literal(*shortened([name], longest))
    return column.symbol if column.unit in _UNITLESS else f"{column.symbol} ({column.unit})"


def symbol_of(name: str, row_kind: RowKind, longest: int = _LONGEST) -> str:
    """`axis_label` without the unit; arguments as there."""
    symbol = axis_label(name, row_kind, longest)
    unit = symbol.rfind(" (")
    return symbol[:unit] if unit > 0 else symbol


def _there(recorded: Sequence[str]) -> str:
    return f"they have [{', '.join(recorded)}]"
