"""Scores of a filters table by any pruning measure, in memory or on disk: `pv.score`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import overload

import pandas as pd
import pyarrow as pa

from pruneviz.analysis.checks import columns_of
from pruneviz.analysis.formulas import NEEDS as NEEDS
from pruneviz.analysis.formulas import SCORES as SCORES
from pruneviz.analysis.measures import RUN_FACTS, AnyMeasure, Measure, resolve
from pruneviz.analysis.run_facts import check_not_left_out, table_of
from pruneviz.errors import ScoreError
from pruneviz.log.arguments import is_whole
from pruneviz.log.parquet import write_blocks
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan
from pruneviz.log.schema import (
    CHANGE_COLUMNS,
    CHEAP_COLUMNS,
    FILTERS,
    REQUEST_COLUMNS,
    is_filter_column,
)

_KEYS = ("run", "epoch", "layer", "filter")


@overload
def score(filters: Runs | pd.DataFrame, name: AnyMeasure, *, seed: int | None = None) -> pd.Series:
    """Scores of a table in memory."""


@overload
def score(filters: Scan, name: AnyMeasure, out: str | Path, *, seed: int | None = None) -> Path:
    """Scores of tables on disk, written to a Parquet file."""


def score(
    filters: Runs | pd.DataFrame | Scan,
    name: AnyMeasure,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
) -> pd.Series | Path:
    """Score every row of a filters table by one pruning measure; the lowest is pruned first.

    Args:
        filters: Runs; or a table with one row per filter, weight or unit and the columns that the
            measure needs; or a `Scan` for tables on disk.
        name: Key in `pruneviz.SCORES`, a registered measure (`pruneviz.measures.register`), a
            function of a filters table, or "module:function".
        out: Parquet file to write. Required for a `Scan`, not allowed for a table.
        seed: Seed of the measure `random`; the scores are then named after it, such as `random_s1`.

    Returns:
        For a table, a float64 Series with its index, named after the measure; null where a needed
        value is null. For a `Scan`, the path of the file: run, epoch, layer, filter, weight and the
        scores (float64, named after the measure), in the row order of `pruneviz.load`.

    Raises:
        ScoreError: If the measure is unknown; if a column is missing (says how to record it); if
            the measure is one of single weights and the rows are not; if a measure of your own does
            not return one number per row; if `out` is missing for a `Scan` or given for a table.
        LogError: If `out` exists or cannot be written.

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
    if isinstance(filters, Scan):
        return _score_on_disk(filters, measure, out)
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


def _score_on_disk(filters: Scan, measure: Measure, out: str | Path | None) -> Path:
    columns = columns_read(measure)
    name = measure.name
    check_not_left_out(filters, [measure])
    score(filters.no_rows(), measure)  # raises errors about the arguments before a file is created
    if out is None:
        raise ScoreError("scores of a scan are written to disk; name the Parquet file in out")
    keys = [key for key in (*_KEYS, "weight") if key in filters.columns]
    blocks = (
        block[keys].assign(**{name: score(block, measure)})
        for block in filters.blocks([*keys, *columns])
    )
    fields = [(key, FILTERS[key].dtype) for key in keys]
    write_blocks(blocks, Path(out), pa.schema([*fields, (name, pa.float64())]))
    return Path(out)


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
