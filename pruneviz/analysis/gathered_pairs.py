"""Pairs of groups that span blocks, sorted into temporary files so that whole groups can be read.

Each section of a scan becomes one file, ordered by group block after block. A portion is some whole
groups that fit in memory; its pairs are read from all files, in the order of the sections.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pruneviz.analysis.pairs import Asked, Pairs, numbered
from pruneviz.errors import LogError
from pruneviz.log.files import disk_errors
from pruneviz.log.sections import Section

_SHARED = "set TMPDIR to a folder that all workers see, before Python starts"


@dataclass(frozen=True, repr=False)
class ToSort:
    """A section whose pairs are sorted.

    Attributes:
        section: The section.
        groups: Groups that it may have, with their numbers in the column `place`.
        bounds: Number of the first group of each portion, and of the group after the last.
    """

    section: Section
    groups: pd.DataFrame
    bounds: np.ndarray

    @property
    def name(self) -> str:
        """The run and epochs, for messages."""
        return self.section.name

    @property
    def rows(self) -> int:
        """Number of rows that are read for it."""
        return self.section.rows


@dataclass(frozen=True, repr=False)
class SortedPairs:
    """The pairs of a section in a file.

    Attributes:
        file: The file; its records are a group's number, x, y and units.
        ends: Number of records before each portion, of every block [block, portion + 1].
    """

    file: Path
    ends: np.ndarray


@dataclass(frozen=True, repr=False)
class Portion:
    """Some whole groups whose pairs lie in files.

    Attributes:
        keys: The groups, sorted.
        first: Number of the first.
        slices: Where their pairs are: file, number of records before them, number of records.
        levels: Number of units of each pair.
    """

    keys: pd.DataFrame
    first: int
    slices: tuple[tuple[Path, int, int], ...]
    levels: int

    @property
    def name(self) -> str:
        """The groups, for messages."""
        return f"groups {self.first} to {self.first + len(self.keys) - 1}"

    @property
    def rows(self) -> int:
        """Number of pairs."""
        return sum(count for _, _, count in self.slices)

    def pairs(self) -> Pairs:
        """Read the pairs, group after group.

        Raises:
            LogError: If a file cannot be read here.
        """
        dtype = _record(self.levels)
        try:
            parts = [
                np.fromfile(file, dtype, count, offset=before * dtype.itemsize)
                for file, before, count in self.slices
            ]
        except OSError as error:
            raise LogError(f"cannot read {error.filename}: {error.strerror}; {_SHARED}") from error
        records = np.concatenate(parts) if parts else np.zeros(0, dtype)
        records = records[np.argsort(records["group"], kind="stable")]
        starts = np.searchsorted(records["group"], self.first + np.arange(len(self.keys)))
        return Pairs(self.keys, records["x"], records["y"], starts, records["units"].T)


def sort_pairs(asked: Asked, folder: Path, piece: ToSort) -> SortedPairs:
    """Write the pairs of a section into a new file of a folder.

    Raises:
        LogError: If the file cannot be written.
    """
    file = folder / uuid.uuid4().hex  # a task that an executor repeats writes another file
    ends, written = [], 0
    with disk_errors(folder, elsewhere=_SHARED), file.open("wb") as opened:
        for pairs in asked.pairs(piece.section):
            places = _places(numbered(pairs.keys, piece.section), piece.groups)
            _records(pairs, places).tofile(opened)
            counts = np.append(pairs.starts, len(pairs.x))
            ends.append(written + counts[np.searchsorted(places, piece.bounds)])
            written += len(pairs.x)
    return SortedPairs(file, np.array(ends).reshape(-1, len(piece.bounds)))


def portions_of(
    keys: pd.DataFrame, files: Sequence[SortedPairs], bounds: np.ndarray, levels: int
) -> Iterator[Portion]:
    """The portions whose pairs are in some files, in order.

    Args:
        keys: All groups, sorted.
        files: Files of all sections, in order.
        bounds: As of `ToSort`.
        levels: Number of units of each pair.
    """
    for place, (first, after) in enumerate(itertools.pairwise(bounds)):
        slices = tuple(
            (one.file, int(block[place]), int(block[place + 1] - block[place]))
            for one in files
            for block in one.ends
            if block[place + 1] > block[place]
        )
        yield Portion(keys.iloc[first:after].reset_index(drop=True), int(first), slices, levels)


def _places(some: pd.DataFrame, groups: pd.DataFrame) -> np.ndarray:
    """Numbers of the groups `some`; both are sorted."""
    by = [name for name in groups.columns if name != "place"]
    if not by:
        return np.zeros(1, dtype="int64")
    return some.merge(groups, on=by)["place"].to_numpy()


def _records(pairs: Pairs, places: np.ndarray) -> np.ndarray:
    records = np.empty(len(pairs.x), dtype=_record(len(pairs.units)))
    records["group"], records["x"], records["y"] = np.repeat(places, pairs.n), pairs.x, pairs.y
    records["units"] = pairs.units.T
    return records


def _record(levels: int) -> np.dtype:
    numbers = [("x", "float64"), ("y", "float64"), ("units", "int64", (levels,))]
    return np.dtype([("group", "int32"), *numbers])
