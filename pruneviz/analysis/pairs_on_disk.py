"""Correlations over tables on disk, by the same functions as for a table in memory.

Groups within one epoch of a run (by run, epoch and layer, for example) lie within a block and are
correlated block by block. For groups that span blocks, Pearson's correlation follows from moments,
which add up. Ranks and bootstraps need all pairs of a group at once: pairs are sorted into
temporary files of some whole groups each that fit in memory, so time stays linear in the rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.moments import Moments, joined, merged, moments
from pruneviz.analysis.pairs import Pairs, complete_pairs, grouped, pairs_by_block
from pruneviz.errors import AnalysisError
from pruneviz.log.files import disk_errors
from pruneviz.log.scan import Scan

GATHERED_PAIRS = 8_000_000  # held at once; with their ranks they take about 1 GB


def pairs_at_once(
    filters: Scan, x: AnyMeasure, y: AnyMeasure, by: list[str], units: Sequence[str] = ()
) -> Iterator[Pairs]:
    """Pairs of whole groups, some groups at a time.

    Groups that span epochs or runs take 20 to 36 bytes per pair in the folder for temporary files
    (`TMPDIR`) in the meantime.

    Args:
        filters: Filters tables on disk.
        x: Column or pruning measure.
        y: Column or pruning measure.
        by: Columns to group by.
        units: Columns that name the units which each pair belongs to.

    Raises:
        AnalysisError: If a group that spans epochs or runs has more than `GATHERED_PAIRS` pairs; if
            x or y is unknown or not numeric.
        LogError: If the folder for temporary files cannot be written to.
        ScoreError: If the table lacks a column that a measure needs.
    """
    if {"run", "epoch"} <= set(by):
        yield from pairs_by_block(filters, x, y, by, units)
        return
    keys, known = moments_on_disk(filters, x, y, by)
    _check_sizes(known.n)
    with tempfile.TemporaryDirectory() as folder:
        portions = {Path(folder) / str(groups.start): groups for groups in _portions(known.n)}
        with disk_errors(Path(folder)):
            for pairs in pairs_by_block(filters, x, y, by, units):
                _sort_into(portions, pairs, _places(pairs.keys, keys))
        for file, groups in portions.items():
            keys_of_file = keys.iloc[groups].reset_index(drop=True)
            yield _gathered(file, keys_of_file, groups.start, len(units))


def moments_on_disk(
    filters: Scan, x: AnyMeasure, y: AnyMeasure, by: list[str]
) -> tuple[pd.DataFrame, Moments]:
    """The groups that have pairs, sorted, and their moments."""
    nothing = complete_pairs(filters.no_rows(), x, y, by)
    keys, found = nothing.keys, moments(nothing.x, nothing.y, nothing.starts)
    for pairs in pairs_by_block(filters, x, y, by):
        parts = joined(found, moments(pairs.x, pairs.y, pairs.starts))
        both = pd.concat([keys, pairs.keys], ignore_index=True) if len(keys) else pairs.keys
        keys, order, starts = grouped(both)
        found = merged(parts[order], starts)
    return keys, found


def _portions(n: np.ndarray) -> Iterator[slice]:
    """Ranges of consecutive groups that hold at most `GATHERED_PAIRS` pairs in total."""
    start = total = 0
    for group, size in enumerate(n):
        if total + size > GATHERED_PAIRS:
            yield slice(start, group)
            start, total = group, 0
        total += size
    if len(n):
        yield slice(start, len(n))


def _places(some: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """Positions of the groups `some` in `keys`; both are sorted."""
    by = list(keys.columns)
    if not by:
        return np.zeros(1, dtype="int64")
    return some.merge(keys.assign(place=range(len(keys))), on=by)["place"].to_numpy()


def _sort_into(portions: Mapping[Path, slice], pairs: Pairs, places: np.ndarray) -> None:
    """Append the pairs in a block to the files for their groups."""
    records = np.empty(len(pairs.x), dtype=_record(len(pairs.units)))
    records["group"], records["x"], records["y"] = np.repeat(places, pairs.n), pairs.x, pairs.y
    records["units"] = pairs.units.T
    bounds = np.append(pairs.starts, len(pairs.x))
    for file, groups in portions.items():
        first, last = np.searchsorted(places, [groups.start, groups.stop])
        if first < last:
            with file.open("ab") as opened:
                records[bounds[first] : bounds[last]].tofile(opened)


def _record(levels: int) -> np.dtype:
    numbers = [("x", "float64"), ("y", "float64"), ("units", "int64", (levels,))]
    return np.dtype([("group", "int32"), *numbers])


def _gathered(file: Path, keys: pd.DataFrame, first: int, levels: int) -> Pairs:
    """Pairs of one file, group after group; its groups are `keys`, numbered from `first`."""
    records = np.fromfile(file, dtype=_record(levels))
    file.unlink()
    order = np.argsort(records["group"], kind="stable")
    starts = np.searchsorted(records["group"][order], first + np.arange(len(keys)))
    records = records[order]
    return Pairs(keys, records["x"], records["y"], starts, records["units"].T)


def _check_sizes(n: np.ndarray) -> None:
    if len(n) and n.max() > GATHERED_PAIRS:
        raise AnalysisError(
            f"a group has {n.max():,} pairs, and ranks, logarithms and interval='filters' hold all "
            f"pairs of a group in memory, at most {GATHERED_PAIRS:,}; group by run and epoch too, "
            "or use method='pearson' with interval='layers' or 'fisher', for which groups may have "
            "any size"
        )
