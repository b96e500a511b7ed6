"""Complete pairs of two quantities, group after group: the input of every correlation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.checks import columns_of
from pruneviz.analysis.measures import AnyMeasure, Measure, names, quantity
from pruneviz.analysis.scores import columns_read, score, sendable
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.scan import Scan
from pruneviz.log.sections import Section


@dataclass(frozen=True, repr=False)
class Pairs:
    """Pairs of two quantities, stored group after group.

    Attributes:
        keys: The groups that have pairs, one row each, sorted.
        x: First values, float64 [pair].
        y: Second values, float64 [pair].
        starts: Index at which each group starts [group].
        units: Numbers of the units that each pair belongs to, such as its layer [level, pair].
    """

    keys: pd.DataFrame
    x: np.ndarray
    y: np.ndarray
    starts: np.ndarray
    units: np.ndarray

    @property
    def n(self) -> np.ndarray:
        """Number of pairs in each group [group]."""
        return np.diff(self.starts, append=len(self.x))


def unit_numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Numbers of the values of some columns, the same in every table [column, row].

    A number is a hash of 64 bits of its value, so it depends neither on the order of rows nor on
    what else a table holds.

    Args:
        table: Table with the columns.
        columns: Columns that name units, the outermost first.
    """
    found = np.zeros((len(columns), len(table)), dtype="int64")
    for place, name in enumerate(columns):
        codes, values = pd.factorize(table[name], use_na_sentinel=False)
        found[place] = np.array([_hashed(value) for value in values], dtype="int64")[codes]
    return found


def _hashed(value: object) -> int:
    digest = hashlib.blake2b(str(value).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def complete_pairs(
    filters: pd.DataFrame,
    x: AnyMeasure,
    y: AnyMeasure,
    by: list[str],
    units: Sequence[str] = (),
) -> Pairs:
    """Pairs of a table in which neither quantity is null.

    Args:
        filters: Filters table.
        x: Column or pruning measure.
        y: Column or pruning measure.
        by: Columns to group by.
        units: Columns that name the units which each pair belongs to. Default: none.

    Raises:
        AnalysisError: If x or y is unknown or not numeric.
        ScoreError: If the table lacks a column that a measure needs.
    """
    xs, ys = values_of(filters, x), values_of(filters, y)
    complete = ~(np.isnan(xs) | np.isnan(ys))
    xs, ys = xs[complete], ys[complete]
    keys, rows, starts = grouped(filters.loc[complete, by])
    numbers = unit_numbers(filters.loc[complete, list(units)], units)
    return Pairs(keys, xs[rows], ys[rows], starts, numbers[:, rows])


@dataclass(frozen=True)
class Asked:
    """What is correlated in the sections of a scan; can be sent to another process.

    Attributes:
        x: Column or pruning measure.
        y: Column or pruning measure.
        by: Columns to group by.
        units: Columns that name the units which each pair belongs to.
        columns: Columns to read.
        layers: Names of the layers of all runs.
    """

    x: AnyMeasure
    y: AnyMeasure
    by: tuple[str, ...]
    units: tuple[str, ...]
    columns: tuple[str, ...]
    layers: tuple[str, ...]

    @classmethod
    def of(
        cls, filters: Scan, x: AnyMeasure, y: AnyMeasure, by: Sequence[str], units: Sequence[str]
    ) -> Asked:
        """The question for a scan that was looked through."""
        names = [*by, *units, *_columns_for(filters, x), *_columns_for(filters, y)]
        sent = [_sent(filters, name) for name in (x, y)]
        columns = tuple(filters.columns_among(names))
        return cls(sent[0], sent[1], tuple(by), tuple(units), columns, filters.layers)

    def pairs(self, section: Section) -> Iterator[Pairs]:
        """Complete pairs in each block of a section; blocks without any are skipped."""
        for block in section.blocks(self.columns, self.layers):
            pairs = complete_pairs(block, self.x, self.y, list(self.by), self.units)
            if len(pairs.keys):
                yield pairs


def numbered(keys: pd.DataFrame, section: Section) -> pd.DataFrame:
    """Groups of a section with the number of its run in place of the name."""
    return keys.assign(run=section.of.place) if "run" in keys.columns else keys


def with_run_names(keys: pd.DataFrame, filters: Scan) -> pd.DataFrame:
    """Groups with the names of their runs in place of the numbers."""
    if "run" not in keys.columns:
        return keys
    names = np.array(list(filters.files), dtype="object")[keys["run"].to_numpy(dtype="int64")]
    return keys.assign(run=pd.Categorical(names, categories=filters.runs))


def values_of(filters: pd.DataFrame, name: AnyMeasure) -> np.ndarray:
    """Values of a column or measure in float64, NaN for null.

    Raises:
        AnalysisError: If there is neither of that name, or the column is not numeric.
        ScoreError: If the table lacks a column that a measure needs.
    """
    if isinstance(name, str) and name in filters.columns:
        column = filters[name]
        if not pd.api.types.is_numeric_dtype(column):
            raise AnalysisError(
                f"column {name!r} holds {column.dtype}, not numbers; correlate two numeric columns "
                "or measures"
            )
        return column.to_numpy(dtype="float64", na_value=np.nan)
    measure = _known(columns_of(filters), name)
    return score(filters, measure).to_numpy(dtype="float64", na_value=np.nan)


def grouped(keys: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Group the rows of a key table; a row with a null key belongs to no group.

    Returns:
        Unique keys, sorted and renumbered; row order that puts group after group; position in that
        order at which each group starts.
    """
    by = list(keys.columns)
    if by:
        group = keys.groupby(by, observed=True).ngroup().to_numpy()
    else:
        group = np.zeros(len(keys), dtype="int64")
    rows = np.argsort(group, kind="stable")
    rows = rows[group[rows] >= 0]  # -1: a key is null
    starts = np.flatnonzero(np.diff(group[rows], prepend=-1))
    return keys.iloc[rows[starts]].reset_index(drop=True), rows, starts


def _columns_for(filters: Scan, name: AnyMeasure) -> list[str]:
    return list(columns_read(_known(list(filters.columns), name)))


def _sent(filters: Scan, name: AnyMeasure) -> AnyMeasure:
    is_column = isinstance(name, str) and name in filters.columns
    return name if is_column else sendable(name)


def _known(columns: list[str], name: AnyMeasure) -> Measure:
    try:
        return quantity(name, columns)
    except KeyError as error:
        known = [*columns, *names()]
        raise AnalysisError(unknown_name("column or measure", str(name), known)) from error
