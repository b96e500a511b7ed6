"""Thin copies of finished runs: the filters table at measured epochs, all other tables whole.

Derivative columns exist only at measured epochs, so at the epochs between them the filters table
holds just cheap columns. A figure needs these only for mask distances, which the epochs table logs.
Curves of accuracy and pruned shares of layers need no filters at all, so that a copy of a pruned
run may hold them at fewer epochs still, or fewer columns of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pruneviz.errors import LogError, unknown_name
from pruneviz.log import schema
from pruneviz.log.files import disk_errors, whole_folder
from pruneviz.log.parquet import joined
from pruneviz.log.recordings import recordings_at
from pruneviz.log.run_directory import write_sealed
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import is_sealed, read_spec
from pruneviz.log.thin_copies import CHEAP, THINNED, measured_epochs

_LEVEL = 19  # of zstd: a fifth smaller than by default, written once and read as fast
_KEYS = frozenset({*schema.FILTER_KEYS, "weight", "kept"})  # what a filter is known by


@dataclass(frozen=True)
class Thinned:
    """What a thin copy holds.

    Attributes:
        path: Its run directory.
        epochs: Number of epochs in the filters table.
        all_epochs: Number of recorded epochs.
        size: Bytes of its files.
        full_size: Bytes of the same files in the full run.
    """

    path: Path
    epochs: int
    all_epochs: int
    size: int
    full_size: int


def thin(
    run: str | Path,
    out: str | Path,
    epochs: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
) -> Thinned:
    """Copy a finished run without the filters at epochs at which no derivative was measured.

    The rows that stay, and all other tables, are unchanged. The fact `thinned` in the spec of the
    copy says what was left out. Of a run that measured every epoch the copy is whole, and only
    compressed more.

    Args:
        run: Run directory of a finished run. It does not change.
        out: Folder for the copy, which is named after the run.
        epochs: Measured epochs whose filters are kept; -1 is the last one, and so on. Default: all.
        columns: Columns of the filters table that are kept, besides its keys and `kept`. Default:
            all.

    Raises:
        LogError: If the run is unfinished, is as thin already, or measured no derivative; if an
            epoch was not measured, or a column is unknown or has no value; if the folder already
            holds a run of this name, or the disk cannot be written to.
    """
    run, target = Path(run), Path(out) / Path(run).name
    spec = _full_spec(run, epochs is not None or columns is not None)
    if target.exists():
        raise LogError(f"{target} already exists; choose another folder, or delete it first")
    (whole,) = recordings_at([run])  # which checks that the files are those that were written
    tables = {name: joined(whole.read(name), name) for name in spec.tables}
    filters = tables["filters"]
    measured = _chosen(epochs, _measured_epochs(filters, spec, run), run)
    kept = _with_columns(filters[filters["epoch"].isin(measured)], columns, spec, run)
    tables["filters"] = kept
    every_epoch, left_out = _left_out(spec, filters, kept)
    says = {THINNED: left_out} if _lacks(left_out) else {}  # a whole copy is only smaller
    thin_spec = RunSpec.from_dict(
        {**spec.to_dict(), **says, "schema_version": schema.SCHEMA_VERSION}
    )
    with disk_errors(target), whole_folder(target) as folder:
        write_sealed(folder, thin_spec, tables, level=_LEVEL)
    sizes = [sum(_file(path, name).stat().st_size for name in tables) for path in (target, run)]
    return Thinned(target, len(measured), every_epoch, *sizes)


def _chosen(epochs: Sequence[int] | None, measured: list[int], run: Path) -> list[int]:
    """The measured epochs to keep."""
    if epochs is None:
        return measured
    wanted = {measured[epoch] if -len(measured) <= epoch < 0 else epoch for epoch in epochs}
    lacking = sorted(wanted - {*measured})
    if lacking or not wanted:
        named = f"did not measure epoch {lacking[0]}" if lacking else "needs an epoch to keep"
        raise LogError(
            f"{run} {named}; choose among {', '.join(map(str, measured))} (-1 is the last)"
        )
    return sorted(wanted)


def _with_columns(
    filters: pd.DataFrame, columns: Sequence[str] | None, spec: RunSpec, run: Path
) -> pd.DataFrame:
    """The rows with some of their columns, and of these what a filter is known by."""
    if columns is None:
        return filters
    held = [str(name) for name in filters if name not in _KEYS and filters[name].notna().any()]
    before = spec.extra.get(THINNED, {})
    for name in columns:
        if name not in filters and not schema.is_filter_column(name):
            raise LogError(unknown_name("column", name, list(map(str, filters.columns))))
        if name not in held and name not in _KEYS:
            why = ", which it left out" if name in before.get("columns_left_out", ()) else ""
            raise LogError(
                f"{run} has no values of {name}{why} at these epochs; choose among "
                f"{', '.join(held) or 'none'}"
            )
    if not {*columns} & {*held, "kept"}:
        raise LogError(f"{run} needs a column to keep; choose among {', '.join(held)}")
    return filters[[name for name in filters.columns if name in {*_KEYS, *columns}]]


def _left_out(
    spec: RunSpec, filters: pd.DataFrame, kept: pd.DataFrame
) -> tuple[int, dict[str, Any]]:
    """The number of recorded epochs, and the fact `thinned`; a thin run is thinned further."""
    before: dict[str, Any] = spec.extra.get(THINNED, {})
    recorded = int(before.get("of_epochs", filters["epoch"].nunique()))
    had, has = (
        [str(name) for name in rows if rows[name].notna().any()] for rows in (filters, kept)
    )
    epochs = sorted(map(int, kept["epoch"].unique()))
    facts = {
        **_words_of(epochs, _measured_in_full(spec, filters)),
        "epochs": len(epochs),
        "of_epochs": recorded,
        "rows_left_out": before.get("rows_left_out", 0) + len(filters) - len(kept),
    }
    columns = [*before.get("columns_left_out", []), *(name for name in had if name not in has)]
    return recorded, facts | ({"columns_left_out": columns} if columns else {})


def _lacks(left_out: dict[str, Any]) -> bool:
    return bool(left_out["rows_left_out"] or left_out.get("columns_left_out"))


def _words_of(epochs: list[int], measured: list[int]) -> dict[str, Any]:
    """What the filters table holds, in words and as lists of epochs."""
    gone = [epoch for epoch in measured if epoch not in epochs]
    also = f", and so are measured epochs: {', '.join(map(str, gone))}" if gone else ""
    return {
        "filters": f"epochs without derivatives are left out{also}",
        "kept_epochs": epochs,
        "measured_epochs": measured,
    }


def _measured_in_full(spec: RunSpec, filters: pd.DataFrame) -> list[int]:
    """The measured epochs of the run, or of the full run where this one is thin already."""
    held = sorted(map(int, filters["epoch"].unique()))
    if THINNED not in spec.extra:
        return _with_derivatives(filters)
    recorded = range(int(spec.epochs) + 1) if spec.epochs is not None else held
    return measured_epochs(spec.to_dict(), recorded, held)


def _full_spec(run: Path, further: bool) -> RunSpec:
    """The spec of a finished run, which may be thin only if it is thinned further."""
    spec = read_spec(run)
    if not is_sealed(run):
        raise LogError(f"{run} is unfinished; finish its recording first, then thin it")
    if THINNED in spec.extra and not further:
        raise LogError(
            f"{run} is thin already: {_in_words(spec.extra[THINNED])}; to leave out more, name the "
            "epochs or columns to keep"
        )
    return spec


def _in_words(facts: Any) -> str:
    return f"it holds the filters at {facts['epochs']} of {facts['of_epochs']} epochs"


def _measured_epochs(filters: pd.DataFrame, spec: RunSpec, run: Path) -> list[int]:
    """Epochs at which a derivative column has a value, or of a thin copy, all that it holds.

    Raises:
        LogError: If there are none.
    """
    thin_already = sorted(map(int, filters["epoch"].unique())) if THINNED in spec.extra else []
    found = thin_already or _with_derivatives(filters)
    if not found:
        raise LogError(
            f"{run} measured no derivative at any epoch, so a thin copy would be empty; "
            "ship it as it is"
        )
    return found


def _with_derivatives(filters: pd.DataFrame) -> list[int]:
    derived = [name for name in filters.columns if name not in CHEAP]
    measured = filters.loc[filters[derived].notna().any(axis=1), "epoch"]
    return sorted(map(int, measured.unique()))


def _file(run: Path, table: str) -> Path:
    return run / f"{table}.parquet"
