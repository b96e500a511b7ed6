"""Tables of a finished run that are damaged, or disagree with each other or with the spec."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.checksums import check_digest, check_size
from pruneviz.log.faulty_values import ImpossibleValues
from pruneviz.log.parquet import TablePart, check_file, check_pages, joined, read_file
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import read_run
from pruneviz.log.thin_copies import THINNED

# What tells the rows of a table apart, besides the run.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "epochs": ("epoch",),
    "filters": ("epoch", "layer", "filter", "weight"),
    "rounds": ("round", "layer"),
    "correlations": ("epoch", "x", "y", "method"),
    "halves": ("epoch", "half", "layer", "filter", "weight"),
    "flow": ("epoch", "layer", "filter"),
}
_ALSO = ("run", "epoch", "kept")  # columns that are compared between tables
_SAME_ROWS = ("filters", "halves")  # tables that have the same rows at every epoch
_MOST_NAMED = 8  # epochs that a message lists


def faults_of_tables(path: Path, spec: RunSpec) -> tuple[int | None, list[str]]:
    """The number of epochs of a finished run, and what is wrong with its tables.

    Args:
        path: Run directory.
        spec: Its facts.
    """
    found: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    sums = read_run(path).tables
    for name in spec.tables:
        file = path / f"{name}.parquet"
        if name == "correlations" and spec.schema_version < schema.CORRELATIONS_SINCE:
            continue
        try:
            check_file(file, name)
            if name in sums:
                check_size(file, sums[name])
                check_digest(file, sums[name])
            values = ImpossibleValues(name)
            check_pages(file, name, values.look)
            found += [f"{file} {fault}" for fault in values.told()]
            tables[name] = key_columns(file, name)
        except LogError as error:
            found.append(str(error))
    for name in sorted(set(schema.TABLES) - set(spec.tables)):
        if (path / f"{name}.parquet").exists():
            found.append(f"{path / name}.parquet is a table that the run does not have; delete it")
    found += [f"{path / table}.parquet {fault}" for table, fault in _disagreements(tables, spec)]
    return len(tables["epochs"]) if "epochs" in tables else None, found


def key_columns(file: Path, table: str) -> pd.DataFrame:
    """The columns of a file that tell its rows apart, and those that other tables know too.

    Raises:
        LogError: If the file cannot be read.
    """
    names = tuple(dict.fromkeys((*_ALSO, *_KEYS[table])))
    rows = read_file(file, table, TablePart(names))
    return joined([rows], table, rows.column_names)


def row_faults(rows: pd.DataFrame, table: str, run: str) -> Iterator[str]:
    """What is wrong with the rows of one table, as the ends of sentences on it.

    Args:
        rows: Its key columns.
        table: Table name.
        run: Name of the run.
    """
    keys = [name for name in _KEYS[table] if name in rows]
    doubled = int(rows.duplicated(keys).sum())
    if doubled:
        yield f"holds {doubled} rows twice, by {', '.join(keys)}; restore it from a backup"
    others = sorted(set(map(str, rows["run"].unique())) - {run})
    if others:
        yield f"holds rows of {', '.join(others[:3])}, and the spec names {run}; restore it"


def order_faults(rows: pd.DataFrame, table: str) -> Iterator[str]:
    """Where rows of a finished run do not lie as they were written, as the ends of sentences.

    Readers take the order of the layers for their depth.

    Args:
        rows: Key columns of a table.
        table: Table name.
    """
    for key in schema.SORT_KEYS[table]:
        if key in ("epoch", "round") and not rows[key].is_monotonic_increasing:
            yield f"has rows that are not in the order of {key}; restore it from a backup"
            return
    names = [name for name in _KEYS[table] if name != "epoch" and name in rows]
    if table not in _SAME_ROWS or rows.empty:
        return
    keys = np.stack([pd.factorize(rows[name])[0] for name in names])
    starts = np.flatnonzero(rows["epoch"].diff().fillna(1).to_numpy())
    first, *others = np.split(keys, starts[1:], axis=1)
    epochs = rows["epoch"].to_numpy()[starts[1:]]
    odd = [
        int(epoch)
        for epoch, held in zip(epochs, others, strict=True)
        if held.shape == first.shape and not np.array_equal(held, first)
    ]
    if odd:
        of_first = int(rows["epoch"].iloc[0])
        yield f"has its rows in another order at {in_words(odd)} than at {of_first}; restore it"


def missing_epochs(held: Sequence[int]) -> tuple[list[int], int]:
    """The first epochs between the first and the last one that are not there, and how many are."""
    there = sorted(set(held))
    # the gaps may be as wide as numbers are, so they are counted, not listed
    gaps = (range(one + 1, after) for one, after in itertools.pairwise(there))
    first = list(itertools.islice(itertools.chain.from_iterable(gaps), _MOST_NAMED))
    return first, (there[-1] - there[0] + 1 - len(there) if there else 0)


def in_words(epochs: Sequence[int], count: int | None = None) -> str:
    """Epochs as a list that is cut where it is long.

    Args:
        epochs: The epochs, or the first of them.
        count: How many there are, if `epochs` are not all.
    """
    count = len(epochs) if count is None else count
    named = ", ".join(map(str, epochs[:_MOST_NAMED]))
    more = f" and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""
    return f"epoch {named}" if count == 1 else f"epochs {named}{more}"


def _disagreements(tables: Mapping[str, pd.DataFrame], spec: RunSpec) -> Iterator[tuple[str, str]]:
    """Table names, and what is wrong with each beside the others."""
    for name, rows in tables.items():
        yield from ((name, fault) for fault in row_faults(rows, name, spec.run))
        yield from ((name, fault) for fault in order_faults(rows, name))
    if "epochs" not in tables:
        return
    held = sorted(map(int, tables["epochs"]["epoch"]))
    yield from (("epochs", fault) for fault in _plan_faults(held, spec))
    for name, rows in tables.items():
        if "epoch" not in rows:
            continue
        beyond = sorted(set(map(int, rows["epoch"].unique())) - set(held))
        if beyond:
            yield name, f"has rows of {in_words(beyond)}, which the epochs table lacks; restore it"
    if "filters" in tables:
        yield from (("filters", fault) for fault in _filter_faults(tables["filters"], held, spec))
    if {"filters", "rounds"} <= set(tables):
        yield from _mask_faults(tables["filters"], tables["rounds"])


def _plan_faults(held: Sequence[int], spec: RunSpec) -> Iterator[str]:
    if not held:
        yield "has no epoch; restore it from a backup, or record the run again"
        return
    # a loop of one's own may leave epochs out, and `pruneviz remeasure` measures some of them
    if spec.preset is None or "remeasured_from" in spec.extra:
        return
    lacking, count = missing_epochs(held)
    if count:
        told = in_words(lacking, count)
        yield f"lacks {told} of {held[0]} to {held[-1]}; restore it from a backup"
    planned = spec.epochs
    if planned is not None and held[-1] < planned:
        yield f"ends at epoch {held[-1]} of {planned} that were planned; record the run again"


def _filter_faults(rows: pd.DataFrame, held: Sequence[int], spec: RunSpec) -> Iterator[str]:
    thinned = spec.extra.get(THINNED)
    expected = held if thinned is None else thinned.get("kept_epochs")
    there = set(map(int, rows["epoch"].unique()))
    lacking = sorted(set(expected or ()) - there)
    if lacking:
        yield f"has no rows of {in_words(lacking)}; restore it from a backup"
    counts = rows.groupby("epoch").size()
    odd = [int(epoch) for epoch in counts.index[counts != counts.median()]]
    if odd:
        yield f"has another number of rows at {in_words(odd)} than at others; restore it"


def _mask_faults(filters: pd.DataFrame, rounds: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Where a round left another number of filters than the filters table has after it."""
    if rounds.empty or ("weight" in filters and filters["weight"].notna().any()):
        return
    by = ["epoch", "layer"]
    if filters["kept"].isna().any():
        return  # named with the values of that table
    said = rounds.astype({"layer": "str"}).groupby(by)["kept"].last()
    kept = filters.astype({"layer": "str", "kept": "int64"}).groupby(by)["kept"].sum()
    both = said.to_frame("said").join(kept.to_frame("kept"), how="inner")
    wrong = both[both["said"] != both["kept"]]
    for row in wrong.reset_index().head(1).itertuples():
        yield (
            "rounds",
            f"says that {row.said} filters of {row.layer} are kept after epoch {row.epoch}, the "
            f"filters table has {row.kept}; restore both from a backup",
        )
