"""Thin copies of finished runs: the filters table at measured epochs, all other tables whole.

Derivative columns exist only at measured epochs, so at the epochs between them the filters table
holds just cheap columns. A figure needs these only for mask distances, which the epochs table logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.files import disk_errors, whole_folder
from pruneviz.log.parquet import joined, read_file
from pruneviz.log.run_directory import is_sealed, read_spec, write_sealed
from pruneviz.log.run_spec import RunSpec

THINNED = "thinned"  # fact in the spec of a thin copy
_LEVEL = 19  # of zstd: a fifth smaller than by default, written once and read as fast
_CHEAP = frozenset(
    {*schema.FILTER_KEYS, "weight", "kept", "theta", "theta_delta", "sigma_delta"}
    | {*schema.CHEAP_COLUMNS, *schema.CHANGE_COLUMNS}
)


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


def thin(run: str | Path, out: str | Path) -> Thinned:
    """Copy a finished run without the filters at epochs at which no derivative was measured.

    The rows that stay, and all other tables, are unchanged. The fact `thinned` in the spec of the
    copy says what was left out.

    Args:
        run: Run directory of a finished run. It does not change.
        out: Folder for the copy, which is named after the run.

    Raises:
        LogError: If the run is unfinished, is thin already, or measured no derivative; if the
            folder already holds a run of this name, or the disk cannot be written to.
    """
    run, target = Path(run), Path(out) / Path(run).name
    spec = _full_spec(run)
    if target.exists():
        raise LogError(f"{target} already exists; choose another folder, or delete it first")
    tables = {name: joined([read_file(_file(run, name), name)], name) for name in spec.tables}
    filters, every_epoch = tables["filters"], tables["filters"]["epoch"].nunique()
    measured = _measured_epochs(filters, run)
    kept = filters[filters["epoch"].isin(measured)]
    tables["filters"] = kept
    left_out = {
        "filters": "epochs without derivatives are left out",
        "epochs": len(measured),
        "of_epochs": every_epoch,
        "rows_left_out": len(filters) - len(kept),
    }
    thin_spec = RunSpec.from_dict(
        {**spec.to_dict(), THINNED: left_out, "schema_version": schema.SCHEMA_VERSION}
    )
    with disk_errors(target), whole_folder(target) as folder:
        write_sealed(folder, thin_spec, tables, level=_LEVEL)
    sizes = [sum(_file(path, name).stat().st_size for name in tables) for path in (target, run)]
    return Thinned(target, len(measured), every_epoch, *sizes)


def _full_spec(run: Path) -> RunSpec:
    spec = read_spec(run)
    if not is_sealed(run):
        raise LogError(f"{run} is unfinished; finish its recording first, then thin it")
    if THINNED in spec.extra:
        raise LogError(f"{run} is thin already: {_in_words(spec.extra[THINNED])}")
    return spec


def _in_words(facts: Any) -> str:
    return f"it holds the filters at {facts['epochs']} of {facts['of_epochs']} epochs"


def _measured_epochs(filters: pd.DataFrame, run: Path) -> list[int]:
    """Epochs at which a derivative column has a value."""
    derived = [name for name in filters.columns if name not in _CHEAP]
    measured = filters.loc[filters[derived].notna().any(axis=1), "epoch"]
    if measured.empty:
        raise LogError(
            f"{run} measured no derivative at any epoch, so a thin copy would be empty; "
            "ship it as it is"
        )
    return sorted(measured.unique().tolist())


def _file(run: Path, table: str) -> Path:
    return run / f"{table}.parquet"
