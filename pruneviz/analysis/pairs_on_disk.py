"""Correlations over tables on disk, by the same functions as for a table in memory.

Groups within one epoch of a run (by run, epoch and layer, for example) lie within a block and are
correlated block by block. For groups that span blocks, Pearson's correlation follows from moments,
which add up. Ranks and bootstraps need all pairs of a group at once: pairs are sorted into
temporary files, from which some whole groups that fit in memory are read, so time stays linear in
the rows. An executor may work on sections, and on such groups. Moments are added in an order that
depends on the files alone.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import pandas as pd

from pruneviz.analysis.gathered_pairs import Portion, ToSort, portions_of, sort_pairs
from pruneviz.analysis.group_correlations import How, correlated, correlated_moments
from pruneviz.analysis.moments import Moments, joined, merged, moments
from pruneviz.analysis.pairs import Asked, complete_pairs, grouped, numbered, with_run_names
from pruneviz.errors import AnalysisError
from pruneviz.log.files import disk_errors
from pruneviz.log.pieces import results_of
from pruneviz.log.scan import Scan
from pruneviz.log.sections import Section

GATHERED_PAIRS = 8_000_000  # held at once; with their ranks they take about 1 GB
_JOINED_AT_ONCE = 32  # parts that are added together, and sums of as many parts, and so on

Grouped: TypeAlias = tuple[pd.DataFrame, Moments]  # groups, sorted, and their moments
T = TypeVar("T")


def correlated_on_disk(
    filters: Scan, asked: Asked, how: How, executor: Executor | None
) -> pd.DataFrame:
    """Correlations of all groups, sorted.

    Groups that span epochs or runs take 20 to 36 bytes per pair in the folder for temporary files
    (`TMPDIR`) in the meantime, unless moments are enough.

    Args:
        filters: Filters tables on disk.
        asked: What is correlated.
        how: Method and interval.
        executor: Who works; None for this process.

    Raises:
        AnalysisError: If a group that spans epochs or runs has more than `GATHERED_PAIRS` pairs.
        LogError: If the folder for temporary files cannot be used.
    """
    by = list(asked.by)
    whole_epochs = {"run", "epoch"} <= set(by)
    if whole_epochs:
        work = partial(_of_section, asked, how)
        parts = results_of(work, filters.sections(), executor, filters.section_rows)
    elif how.method == "pearson" and how.interval != "filters":
        fine = replace(asked, by=(*asked.by, *how.units), units=())
        keys, found = _moments_on_disk(filters, fine, executor)
        return correlated_moments(with_run_names(keys, filters), found, by, how)
    else:
        parts = _gathered(filters, asked, how, executor)
    tables = [table for table in parts if len(table)]
    if not tables:
        return correlated(complete_pairs(filters.no_rows(), asked.x, asked.y, by, asked.units), how)
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values(by, ignore_index=True) if by else table
    return with_run_names(table, filters)


def _of_section(asked: Asked, how: How, section: Section) -> pd.DataFrame:
    tables = [numbered(correlated(pairs, how), section) for pairs in asked.pairs(section)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _of_portion(how: How, portion: Portion) -> pd.DataFrame:
    return correlated(portion.pairs(), how)


def _gathered(
    filters: Scan, asked: Asked, how: How, executor: Executor | None
) -> Iterator[pd.DataFrame]:
    """Correlations of groups that span blocks, some groups at a time."""
    keys, known = _moments_on_disk(filters, replace(asked, units=()), executor)
    _check_sizes(known.n)
    bounds = np.array([*_portions(known.n), len(known.n)])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name).absolute()
        sort = partial(sort_pairs, asked, folder)
        pieces = _to_sort(filters, keys, bounds)
        files = list(results_of(sort, pieces, executor, filters.section_rows))
        with disk_errors(folder):
            portions = portions_of(keys, files, bounds, len(asked.units))
            yield from results_of(partial(_of_portion, how), portions, executor, GATHERED_PAIRS)


def _to_sort(filters: Scan, keys: pd.DataFrame, bounds: np.ndarray) -> Iterator[ToSort]:
    groups = keys.assign(place=np.arange(len(keys)))
    of_runs = dict(iter(groups.groupby("run"))) if "run" in keys else {}
    for section in filters.sections():
        mine = of_runs.get(section.of.place, groups.iloc[:0]) if "run" in keys else groups
        yield ToSort(section, mine, bounds)


def _moments_on_disk(filters: Scan, asked: Asked, executor: Executor | None) -> Grouped:
    """The groups that have pairs, sorted, with numbers for runs, and their moments."""
    work = partial(_moments_of_section, asked)
    parts = results_of(work, filters.sections(), executor, filters.section_rows)
    found = _folded((part for part in parts if len(part[0])), _joined)
    if found is not None:
        return found
    nothing = complete_pairs(filters.no_rows(), asked.x, asked.y, list(asked.by))
    return nothing.keys.astype({"run": "int64"} if "run" in nothing.keys else {}), moments(
        nothing.x, nothing.y, nothing.starts
    )


def _moments_of_section(asked: Asked, section: Section) -> Grouped:
    parts = [
        (numbered(pairs.keys, section), moments(pairs.x, pairs.y, pairs.starts))
        for pairs in asked.pairs(section)
    ]
    return _joined(parts) if parts else (pd.DataFrame(), None)  # type: ignore[return-value]


def _joined(parts: Sequence[Grouped]) -> Grouped:
    """The groups of several parts, with their moments added in this order."""
    keys = pd.concat([keys for keys, _ in parts], ignore_index=True)
    found = parts[0][1]
    for _, more in parts[1:]:
        found = joined(found, more)
    keys, order, starts = grouped(keys)
    return keys, merged(found[order], starts)


def _folded(parts: Iterable[T], join: Callable[[Sequence[T]], T]) -> T | None:
    """Join many parts in a fixed order, sums of equal numbers of parts with each other."""
    levels: list[list[T]] = []
    for part in parts:
        for level in itertools.count():
            if level == len(levels):
                levels.append([])
            levels[level].append(part)
            if len(levels[level]) < _JOINED_AT_ONCE:
                break
            part, levels[level] = join(levels[level]), []
    rest = [part for level in reversed(levels) for part in level]
    return join(rest) if rest else None


def _portions(n: np.ndarray) -> Iterator[int]:
    """First groups of ranges that hold at most `GATHERED_PAIRS` pairs in total."""
    total = 0
    for group, size in enumerate(n):
        if not group or total + size > GATHERED_PAIRS:
            yield group
            total = 0
        total += size


def _check_sizes(n: np.ndarray) -> None:
    if len(n) and n.max() > GATHERED_PAIRS:
        raise AnalysisError(
            f"a group has {n.max():,} pairs, and ranks, logarithms and interval='filters' hold all "
            f"pairs of a group in memory, at most {GATHERED_PAIRS:,}; group by run and epoch too, "
            "or use method='pearson' with interval='layers' or 'fisher', for which groups may have "
            "any size"
        )
