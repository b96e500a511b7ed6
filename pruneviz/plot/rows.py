"""Rows and epochs of the filters table that a picture is drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import Measure
from pruneviz.analysis.run_facts import facts_known, with_facts_needed
from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.log.schema import FILTER_KEYS
from pruneviz.plot.words import listed


def filters_of(
    runs: Runs,
    spec: pd.DataFrame,
    columns: Sequence[str] | None,
    epochs: Sequence[int] | None = None,
    complete: Sequence[str] = (),
) -> pd.DataFrame:
    """Filters-table rows of some runs.

    Args:
        runs: Recordings.
        spec: One row per run to read.
        columns: Columns to read besides the keys; None: all.
        epochs: Epochs to read. Default: all.
        complete: Columns that must not be null; rows with a null are left out.

    Raises:
        LogError: If a column was not recorded; names it.
    """
    names = None if columns is None else list(dict.fromkeys([*FILTER_KEYS, *columns]))
    return runs.named(spec["run"]).read("filters", names, epochs, complete)


def kept_in(rows: pd.DataFrame) -> np.ndarray:
    """Whether each row of a filters table is of a filter that is not pruned; a null counts as kept.

    Args:
        rows: The rows; without a column `kept`, all are kept.
    """
    if "kept" not in rows:
        return np.ones(len(rows), dtype=bool)
    return ~rows["kept"].eq(False).fillna(False).to_numpy(dtype=bool)


def rows_for(
    runs: Runs,
    spec: pd.DataFrame,
    quantities: Sequence[Measure],
    columns: Sequence[str] = (),
    epochs: Sequence[int] | None = None,
    *,
    together: bool = False,
) -> pd.DataFrame:
    """Filters-table rows of some runs that have everything some quantities need.

    Args:
        runs: Recordings.
        spec: One row per run to read.
        quantities: Columns and pruning measures.
        columns: Columns to read besides, which may be null.
        epochs: Epochs to read. Default: all.
        together: Whether to return all rows of a run and epoch that has such rows.

    Raises:
        LogError: If a column was not recorded; names it.
    """
    needs = [quantity.needs for quantity in quantities]
    if any(needed is None for needed in needs):  # a function that does not say what it reads
        rows = filters_of(runs, spec, None, epochs)
        return with_facts_needed(rows, runs.spec, quantities)
    complete = _columns_needed(quantities)
    optional = [name for quantity in quantities for name in quantity.optional]
    held = runs.recorded("filters") if optional else []
    there = set(runs.named(spec["run"]).columns("filters")) if columns else set()
    beside = [name for name in columns if name in there]  # other runs may have the rest
    read = [*complete, *(name for name in optional if name in held), *beside]
    rows = filters_of(runs, spec, read, epochs, () if together else complete)
    rows = rows.assign(**{name: np.nan for name in columns if name not in rows})
    if together:
        whole = rows[complete].notna().all(axis="columns")
        keys = [rows["run"], rows["epoch"]]
        rows = rows[whole.groupby(keys, observed=True).transform("any")]
    return with_facts_needed(rows, runs.spec, quantities)


def with_facts_held(
    filters: pd.DataFrame, spec: pd.DataFrame, quantities: Sequence[Measure]
) -> pd.DataFrame:
    """A filters table with the run facts that some quantities need, null where no run has them.

    Args:
        filters: Filters table with a column `run`.
        spec: One row per run.
        quantities: Columns and pruning measures.
    """
    mine = spec[spec["run"].astype(str).isin(set(map(str, filters["run"].unique())))]
    known = facts_known(mine) if any(each.facts for each in quantities) else set()
    there = [each for each in quantities if set(each.facts) <= known]
    rows = with_facts_needed(filters, mine, there)
    lacking = {name for each in quantities for name in each.facts} - set(rows)
    return rows.assign(**dict.fromkeys(lacking, np.nan))


def held_epochs(runs: Runs, spec: pd.DataFrame, quantities: Sequence[Measure]) -> pd.DataFrame:
    """The epochs at which each run holds all of some quantities, of filters that are not pruned.

    Returns:
        Columns run and epoch.
    """
    if any(quantity.needs is None for quantity in quantities):
        rows = rows_for(runs, spec, quantities)
        known = pd.DataFrame({quantity.name: quantity.of(rows) for quantity in quantities})
        rows = rows[known.notna().all(axis="columns")]
    else:
        kept = [name for name in ("kept",) if name in runs.columns("filters")]
        rows = filters_of(runs, spec, kept, complete=_columns_needed(quantities))
    rows = rows[kept_in(rows)]
    return rows[["run", "epoch"]].drop_duplicates().astype({"run": "str"})


def _columns_needed(quantities: Sequence[Measure]) -> list[str]:
    return list(dict.fromkeys(name for quantity in quantities for name in quantity.columns))


def runs_with(
    spec: pd.DataFrame, held: pd.DataFrame, quantities: Sequence[Measure], *, named: bool
) -> pd.DataFrame:
    """The runs that hold some quantities at any epoch.

    Args:
        spec: One row per run.
        held: What `held_epochs` found.
        quantities: The quantities.
        named: Whether the runs were asked for, so that all of them must hold the quantities.

    Raises:
        FigureError: If no run does, or one of those that were asked for does not.
    """
    has = spec["run"].astype(str).isin(set(held["run"]))
    both = listed(each.name for each in quantities)
    if not has.any():
        raise FigureError(
            f"no epoch of {listed(spec['run'])} holds both {both}; record derivative columns at "
            "some epoch after the first, or choose other quantities"
        )
    if named and not has.all():
        raise FigureError(
            f"there is no {both} in {listed(spec.loc[~has, 'run'])}; choose among "
            f"{listed(spec.loc[has, 'run'])}"
        )
    return spec[has]


def common_epochs(filters: pd.DataFrame, spec: pd.DataFrame) -> list[int]:
    """Epochs at which a filters table has rows for all runs in `spec`, ascending."""
    runs = filters.groupby("epoch")["run"].nunique()
    return [int(epoch) for epoch in runs.index[runs == len(spec)]]
