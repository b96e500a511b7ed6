"""The tables of run directories as files: written whole, read whole or only the columns, epochs and rows that are wanted.

A filters table of paper scale has millions of rows, of which a picture shows a few columns at a few epochs. Parquet stores columns apart,
and rows in groups of which it knows the least and the highest epoch, so that what is not wanted is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.files import write_whole
from pruneviz.log.schema import RunSpec

_CORRELATIONS_SINCE = 2  # the first schema version whose sealed runs have that table
# Rows of an epoch are found among so many; smaller groups hardly read faster and make larger files (this size: 0.4 % larger).
_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class Recording:
    """A finished run on disk."""

    path: Path
    spec: RunSpec

    def files(self, table: str) -> list[Path]:
        """The files of a table: one, but none of a table that there was not yet when the run was sealed."""
        file = self.path / f"{table}.parquet"
        before = (
            table == "correlations"
            and self.spec.schema_version < _CORRELATIONS_SINCE
            and not file.exists()
        )
        return [] if before else [file]


@dataclass(frozen=True)
class Wanted:
    """A part of a table: these `columns` (None: all) of the rows of these `epochs` (None: all) that lack none of the columns `complete`."""

    columns: tuple[str, ...] | None = None
    epochs: tuple[int, ...] | None = None
    complete: tuple[str, ...] = ()

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """This part of a table in memory."""
        rows = frame if self.epochs is None else frame[frame["epoch"].isin(self.epochs)]
        rows = rows.dropna(subset=list(self.complete))
        return used_categories(rows if self.columns is None else rows[list(self.columns)])

    @property
    def condition(self) -> pc.Expression | None:
        """What a row fulfils, as Parquet files are asked for it; None where every row is wanted."""
        known = [pc.field(name).is_valid() for name in self.complete]
        conditions = known if self.epochs is None else [pc.field("epoch").isin(self.epochs), *known]
        if not conditions:
            return None
        whole, *further = conditions
        for condition in further:
            whole &= condition
        return whole


WHOLE = Wanted()


def read_file(file: Path, table: str, wanted: Wanted = WHOLE) -> pa.Table:
    """The wanted part of a file of a table; columns that the file does not have are left out.

    Errors: `LogError` for a file that is missing, cannot be read, or has columns that a table of that name has not.
    """
    with _read_errors(file):
        held = _checked_schema(file, table)
        columns = (
            held.names
            if wanted.columns is None
            else [name for name in held.names if name in wanted.columns]
        )
        if not set(wanted.complete) <= set(held.names):
            return held.empty_table().select(columns)
        return pq.read_table(
            file, columns=columns, filters=wanted.condition, page_checksum_verification=True
        )


def check_file(file: Path, table: str) -> None:
    """Raise those errors of `read_file` that show before any row is read."""
    with _read_errors(file):
        _checked_schema(file, table)


def joined(
    parts: Sequence[pa.Table], table: str, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """One frame of parts of a table: all its columns or those named, null in parts that lack them.

    Categories are united in order of appearance.
    """
    found = pa.concat_tables(
        [_no_rows(table, columns), *parts], promote_options="default"
    ).unify_dictionaries()
    names = list(dict.fromkeys(found.column_names if columns is None else columns))
    lacking = [name for name in names if name not in found.column_names]
    if lacking:
        raise LogError(
            f"the {table} table of these runs has no column {', '.join(lacking)}; record the runs with it"
        )
    described = schema.arrow_schema(table, found.column_names)
    return found.select(names if columns is not None else described.names).to_pandas()


def arrow_table(table: str, frame: pd.DataFrame) -> pa.Table:
    """A frame with the columns and types of a table; columns that it lacks are null.

    Errors: `LogError` for columns that the table has not, and for values of another type.
    """
    wanted = schema.arrow_schema(table, list(frame.columns))
    return pa.Table.from_arrays([_column(frame, field) for field in wanted], schema=wanted)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as a Parquet file, whole or not at all."""
    split = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["run", "layer", "phase"],
        "use_byte_stream_split": split,
        "row_group_size": _GROUP_ROWS,
    }
    write_whole(path, lambda file: pq.write_table(table, file, write_page_checksum=True, **options))


def sort_rows(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """The rows in the order that the table has on disk."""
    return frame.sort_values(list(schema.SORT_KEYS[table]), kind="stable", ignore_index=True)


def rows_of_runs(frame: pd.DataFrame, runs: pd.Series) -> pd.DataFrame:
    """The rows of some runs."""
    return used_categories(frame[frame["run"].isin(set(runs))])


def used_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows renumbered, without the categories that none of them has."""
    renumbered = frame.reset_index(drop=True)
    categorical = renumbered.select_dtypes("category")
    return renumbered.assign(
        **{str(name): column.cat.remove_unused_categories() for name, column in categorical.items()}
    )


def corrupt(file: Path, error: Exception) -> LogError:
    """The error for a file that is there and cannot be understood."""
    return LogError(
        f"{file} is corrupt ({error}); restore it from a backup, or delete the run and record it again"
    )


def _column(frame: pd.DataFrame, field: pa.Field) -> pa.Array:
    if field.name not in frame.columns:
        return pa.nulls(len(frame), field.type)
    values = frame[field.name]
    try:
        if pa.types.is_dictionary(field.type):
            return pa.array(
                values.astype("object"), type=field.type.value_type, from_pandas=True
            ).cast(field.type)
        return pa.array(values, type=field.type, from_pandas=True)
    except pa.ArrowException as error:
        raise LogError(
            f"column {field.name} holds {field.type} values, but was given others ({error}); convert them first"
        ) from error


@contextmanager
def _read_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise LogError(
            f"{file} is missing; restore it from a backup, or delete the run and record it again"
        ) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(file, error) from error


def _checked_schema(file: Path, table: str) -> pa.Schema:
    """The columns of a file; `LogError` where one is missing or of another type than the table's."""
    found = pq.read_schema(file)
    kinds = {field.name: field.type for field in schema.arrow_schema(table, found.names)}
    wrong = [field.name for field in found if field.type != kinds[field.name]]
    wrong += sorted(set(schema.SORT_KEYS[table]) - set(found.names))
    if wrong:
        raise LogError(f"column {', '.join(wrong)} is missing or of another type")
    return found


def _no_rows(table: str, columns: Sequence[str] | None) -> pa.Table:
    described = schema.arrow_schema(table, [])
    return described.empty_table().select(
        [name for name in described.names if columns is None or name in columns]
    )
