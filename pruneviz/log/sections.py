"""Sections of a scan: consecutive whole epochs of one run, the work of one process at a time.

Where a file is cut depends on the file alone. So a result that is put together from its sections in
their order is the same, bit by bit, whoever worked on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pruneviz.log.checksums import FileSum, check_digest
from pruneviz.log.epoch_blocks import Cut, GroupEpochs, batches, whole_epochs
from pruneviz.log.parquet import read_errors, renamed_run
from pruneviz.log.table_files import footer_of


@dataclass(frozen=True)
class RunFile:
    """The filters file of one run of a scan.

    Attributes:
        run: Name of the run in the scan.
        place: Number of the run in the scan.
        stored: Its name in the file.
        file: The file.
        block_rows: Target number of rows per block.
        sum: What the file held when it was written; None for older runs.
    """

    run: str
    place: int
    stored: str
    file: Path
    block_rows: int
    sum: FileSum | None = None


@dataclass(frozen=True)
class Section:
    """Consecutive whole epochs of one run.

    Attributes:
        of: The file.
        number: Number of the section among those of its run.
        rows: Number of rows that are read for it.
        cut: Its epochs; None for all of the run.
    """

    of: RunFile
    number: int
    rows: int
    cut: Cut | None = None

    @property
    def name(self) -> str:
        """The run and epochs, for messages."""
        if self.cut is None:
            return f"run {self.of.run}"
        first = self.cut.groups[0].first if self.cut.after is None else self.cut.after + 1
        last = self.cut.groups[-1].last if self.cut.until is None else self.cut.until
        return f"run {self.of.run}, epochs {first} to {last}"

    def blocks(self, columns: Sequence[str], layers: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Read the rows in order, in blocks of whole epochs.

        Args:
            columns: Columns to read, with run and epoch, in the order of the log; null where the
                file lacks them.
            layers: Names of the layers of all runs.

        Yields:
            Blocks as of `Scan.blocks`; the categories of the column run are this run alone.

        Raises:
            LogError: If the file is corrupt, not sorted by epoch, or has rows of another run.
        """
        of = self.of
        for table in whole_epochs(of.stored, of.file, columns, of.block_rows, self.cut):
            named = table if of.stored == of.run else renamed_run(table, of.run)
            frame = named.to_pandas()
            for name, categories in (("run", [of.run]), ("layer", layers)):
                if name in columns:
                    frame[name] = frame[name].cat.set_categories(categories)
            yield frame


def sections_of(of: RunFile, rows: int) -> Iterator[Section]:
    """Cut a file between epochs, into sections of some number of rows, or of one larger epoch.

    A file whose footer does not say which epochs its groups of rows hold is one section.

    Args:
        of: The file.
        rows: Least number of rows of a section, except the last.
    """
    groups = _groups(of.file)
    whole = sum(group.rows for group in groups)
    bounds = _bounds(groups, rows)
    if not bounds:
        yield whole_run(of)
        return
    for number, (after, until) in enumerate(zip([None, *bounds], [*bounds, None], strict=True)):
        mine = [
            place
            for place, group in enumerate(groups)
            if (after is None or group.last > after) and (until is None or group.first <= until)
        ]
        some = tuple(groups[mine[0] : mine[-1] + 1])
        held = min(whole, sum(group.rows for group in some))
        yield Section(of, number, held, Cut(mine[0], some, after, until))


def whole_run(of: RunFile) -> Section:
    """All rows of a file as one section."""
    with read_errors(of.file):
        return Section(of, 0, footer_of(of.file).num_rows)


def layers_in(section: Section) -> list[str] | None:
    """Check every byte of a file and read its layers, in order of appearance; None if it is empty.

    Raises:
        LogError: If it is not the file that was written.
    """
    of = section.of
    if of.sum is not None:
        check_digest(of.file, of.sum)
    layers: dict[str, None] = {}
    rows = 0
    for batch in batches(of.file, ["layer"], of.block_rows):
        layers |= dict.fromkeys(batch["layer"].dictionary.to_pylist())
        rows += len(batch)
    return list(layers) if rows else None


def _groups(file: Path) -> list[GroupEpochs]:
    """What the footer says of the groups of rows; none if it does not say it of all."""
    with read_errors(file):
        footer = footer_of(file)
        place = footer.schema.to_arrow_schema().names.index("epoch")
        found = []
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            said = group.column(place).statistics
            if said is None or not said.has_min_max:
                return []
            found.append(GroupEpochs(group.num_rows, int(said.min), int(said.max)))
    return found


def _bounds(groups: Sequence[GroupEpochs], rows: int) -> list[int]:
    """Last epochs of all sections but the last."""
    bounds: list[int] = []
    held = 0
    for group, following in itertools.pairwise(groups):
        held += group.rows
        if not (group.first <= group.last <= following.first):
            return []  # not sorted; read in one piece, it is told
        if held >= rows and group.last < groups[-1].last and bounds[-1:] != [group.last]:
            bounds.append(group.last)
            held = 0
    return bounds
