"""Scores of a filters table by any pruning measure, in memory or on disk: `pv.score`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pruneviz.analysis.checks import columns_of
from pruneviz.analysis.formulas import NEEDS as NEEDS
from pruneviz.analysis.formulas import SCORES as SCORES
from pruneviz.analysis.measures import RUN_FACTS, AnyMeasure, Measure, resolve
from pruneviz.analysis.run_facts import check_is_scan, check_not_left_out, table_of
from pruneviz.errors import LogError, ScoreError
from pruneviz.log.arguments import is_whole
from pruneviz.log.files import disk_errors, temporary_folder, whole_folder
from pruneviz.log.parquet import write_blocks
from pruneviz.log.pieces import results_of
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan
from pruneviz.log.schema import (
    CHANGE_COLUMNS,
    CHEAP_COLUMNS,
    FILTERS,
    REQUEST_COLUMNS,
    is_filter_column,
)
from pruneviz.log.sections import Section

_KEYS = ("run", "epoch", "layer", "filter")


@overload
def score(filters: Runs | pd.DataFrame, name: AnyMeasure, *, seed: int | None = None) -> pd.Series:
    """Scores of a table in memory."""


@overload
def score(
    filters: Scan,
    name: AnyMeasure,
    out: str | Path,
    *,
    seed: int | None = None,
    executor: Executor | None = None,
) -> Path:
    """Scores of tables on disk, written to a Parquet file or a folder of such files."""


def score(
    filters: Runs | pd.DataFrame | Scan,
    name: AnyMeasure,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
    executor: Executor | None = None,
) -> pd.Series | Path:
    """Score every row of a filters table by one pruning measure; the lowest is pruned first.

    Args:
        filters: Runs; or a table with one row per filter, weight or unit and the columns that the
            measure needs; or a `Scan` for tables on disk.
        name: Key in `pruneviz.SCORES`, a registered measure (`pruneviz.measures.register`), a
            function of a filters table, or "module:function".
        out: Parquet file to write, or with "/" at its end, as in "scores/", a folder of Parquet
            files whose names sort in the order of the rows. Required for a `Scan`, not allowed for
            a table.
        seed: Seed of the measure `random`; the scores are then named after it, such as `random_s1`.
        executor: Who works on the sections of a `Scan`: processes, Dask, Ray, anything that is a
            `concurrent.futures.Executor` (docs/large_sets.md). Default: this process. A folder as
            `out` is written by the workers, one file by this process from theirs.

    Returns:
        For a table, a float64 Series with its index, named after the measure; null where a needed
        value is null. For a `Scan`, the path of the file: run, epoch, layer, filter, weight and the
        scores (float64, named after the measure), in the row order of `pruneviz.load`.

    Raises:
        ScoreError: If the measure is unknown; if a column is missing (says how to record it); if
            the measure is one of single weights and the rows are not; if a measure of your own does
            not return one number per row; if `out` is missing for a `Scan` or given for a table.
        LogError: If `out` exists or cannot be written.
        AnalysisError: If a worker of `executor` fails or dies, which names run and epochs.

    References:
        Lubana and Dick, ICLR 2021. Every function in `pruneviz.SCORES` names its own source.

    Example:
        >>> table = pv.measure(model, (images, labels))
        >>> pv.score(table, "loss_preservation")
    """
    if not isinstance(filters, Runs | pd.DataFrame | Scan):
        raise ScoreError(
            f"score takes a filters table, not {type(filters).__name__}; pass runs.filters, or the "
            "table that measure returns"
        )
    measure = resolve(name if seed is None else _seeded(name, seed))
    check_is_scan(filters, executor)
    if isinstance(filters, Scan):
        return _score_on_disk(filters, measure, out, executor)
    if out is not None:
        raise ScoreError(
            f"out={str(out)!r} is for a scan; leave it out, scores of a table are returned"
        )
    filters = _with_own_facts(table_of(filters, [measure]), measure)
    missing = [column for column in measure.needs or () if column not in filters.columns]
    if missing:
        raise ScoreError(_missing_message(filters, measure, missing))
    if "theta" in measure.reads and len(filters) and filters["theta"].isna().all():
        raise ScoreError(
            f"measure {measure.name} is one of single weights, and these rows have no theta; "
            f"{_how_to_record('theta')}"
        )
    return measure.of(filters)


def columns_read(measure: AnyMeasure) -> tuple[str, ...]:
    """Columns that a measure reads besides run and epoch, required and optional.

    Raises:
        ScoreError: If it is a function that does not say which.
    """
    found = resolve(measure)
    if found.needs is None:
        raise ScoreError(
            f"measure {found.name} does not say which columns it reads, so they cannot be read "
            f"beforehand; name them, as in {found.name}.needs = ['theta_g'], or register it with "
            "pruneviz.measures.register"
        )
    return found.reads


def sendable(name: AnyMeasure) -> AnyMeasure:
    """A measure as another process can have it: a registered name is known in this one alone."""
    measure = resolve(name)
    by_name = measure.name in SCORES or ":" in measure.name
    return measure.name if by_name else measure


def _with_own_facts(filters: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A table with the facts that it carries in `attrs` and the measure needs as columns."""
    needs = [need for need in measure.needs or () if need not in filters.columns]
    facts = {need: filters.attrs[need] for need in needs if need in filters.attrs}
    return filters.assign(**facts) if facts else filters


def _seeded(name: AnyMeasure, seed: int) -> str:
    if name != "random":
        raise ScoreError(f"seed={seed!r} is for the measure random; leave it out")
    if not is_whole(seed) or seed < 0:
        raise ScoreError(f"seed={seed!r}; give a whole number from 0")
    return f"random_s{seed}"


def _score_on_disk(
    filters: Scan, measure: Measure, out: str | Path | None, executor: Executor | None
) -> Path:
    columns = columns_read(measure)
    check_not_left_out(filters, [measure])
    filters.look_through(executor)
    score(filters.no_rows(), measure)  # raises errors about the arguments before a file is created
    if out is None:
        raise ScoreError("scores of a scan are written to disk; name the Parquet file in out")
    keys = [key for key in (*_KEYS, "weight") if key in filters.columns]
    fields = [(key, FILTERS[key].dtype) for key in keys]
    described = pa.schema([*fields, (measure.name, pa.float64())])
    names = tuple(filters.columns_among([*keys, *columns]))
    asked = _Asked(sendable(measure), measure.name, tuple(keys), names, filters.layers)
    if _is_folder(out):
        _check_free(Path(out), "folder")
        with disk_errors(Path(out)), whole_folder(Path(out).absolute()) as folder:
            list(_pieces(filters, asked, described, folder, executor))
    elif executor is None:
        blocks = (scored for section in filters.sections() for scored in asked.scores(section))
        write_blocks(blocks, Path(out), described)
    else:
        _check_free(Path(out), "file")
        beside = Path(out).absolute().with_name(f"{Path(out).name}.parts")
        with disk_errors(Path(out)), temporary_folder(beside) as folder:
            pieces = _pieces(filters, asked, described, folder, executor)
            write_blocks(_taken(pieces), Path(out), described)
    return Path(out)


@dataclass(frozen=True)
class _Asked:
    """What is scored in the sections of a scan; can be sent to another process."""

    measure: AnyMeasure
    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    layers: tuple[str, ...]

    def scores(self, section: Section) -> Iterator[pd.DataFrame]:
        """Keys and scores of each block."""
        for block in section.blocks(self.columns, self.layers):
            yield block[list(self.keys)].assign(**{self.name: score(block, self.measure)})


def _pieces(
    filters: Scan, asked: _Asked, described: pa.Schema, folder: Path, executor: Executor | None
) -> Iterator[Path | None]:
    """The files of all sections, in order."""
    work = partial(_write_piece, asked, described, folder)
    return results_of(work, filters.sections(), executor, filters.section_rows)


def _write_piece(
    asked: _Asked, described: pa.Schema, folder: Path, section: Section
) -> Path | None:
    """Write the scores of a section; none for a run without rows."""
    if not section.rows:
        return None
    file = folder / f"{section.of.place:08d}-{section.number:05d}.parquet"
    if not folder.is_dir():
        raise LogError(
            f"{folder} is not seen by a worker; name an out in a folder that all workers share"
        )
    write_blocks(asked.scores(section), file, described)
    return file


def _taken(pieces: Iterator[Path | None]) -> Iterator[pa.Table]:
    """The rows of some files, which are then removed."""
    for piece in pieces:
        if piece is None:
            continue
        with pq.ParquetFile(piece) as found:
            for group in range(found.num_row_groups):
                yield found.read_row_group(group)
        piece.unlink()


def _is_folder(out: str | Path) -> bool:
    return isinstance(out, str) and out.endswith(("/", os.sep))


def _check_free(out: Path, what: str) -> None:
    if out.exists():
        raise LogError(f"{out} already exists; name another {what}, or delete it first")


def _missing_message(filters: pd.DataFrame, measure: Measure, missing: list[str]) -> str:
    repair = " and ".join(dict.fromkeys(_how_to_record(column) for column in missing))
    return (
        f"measure {measure.name} needs {', '.join(measure.needs or ())}; the table has no "
        f"{', '.join(missing)}, it has [{', '.join(columns_of(filters))}]; {repair}"
    )


def _how_to_record(column: str) -> str:
    if column in CHANGE_COLUMNS:
        return (
            f"request it with {column!r} in the argument columns of a Recorder, as in "
            f"columns=['default', {column!r}]: it is a difference between two epochs"
        )
    if column in RUN_FACTS:
        return (
            f"{column} is a fact of runs: pass the runs (what pruneviz.load returns) in place of "
            f"their filters, or add it to the table, as in table.assign({column}=...)"
        )
    if column == "sigma_delta":
        return (
            "record sigma_delta with a Recorder: it is a difference between two epochs, which one "
            "snapshot cannot hold"
        )
    if column == "theta":
        return "theta is of single weights: use measure or a Recorder with unit='weight'"
    if column == "theta_delta":
        return "record theta_delta, a column of single weights, with a Recorder with unit='weight'"
    if column in REQUEST_COLUMNS:
        return f"request it with {column!r} in the argument columns of measure or Recorder"
    if column == "theta_hg_t200":
        return (
            "record it with 200.0 among the temperatures of measure or Recorder, not in first "
            "place, as in temperatures=(1.0, 200.0)"
        )
    if column in CHEAP_COLUMNS:
        return f"every table that measure or Recorder makes has {column}; pass the whole table"
    if column in ("layer", "filter", "kept"):
        return f"{column} is a key of every filters table; keep it beside the columns"
    if column in ("run", "epoch"):
        return f"a snapshot has no {column}; add it, as in table.assign({column}=0)"
    if column == "weight":
        return "weight is a key of tables of single weights; measure them with unit='weight'"
    if not is_filter_column(column):
        near = difflib.get_close_matches(column, FILTERS, n=1)
        guess = f"; did you mean {near[0]}?" if near else ", or name another one in needs"
        return f"no recording has a column {column}: add it to the table{guess}"
    return (
        f"measure and Recorder (at the epochs that its argument every names) write {column}, "
        "unless the argument columns leaves it out"
    )
