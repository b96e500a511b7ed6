"""What a plot is drawn from: recordings, or a table from anywhere, in one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from pruneviz.analysis.formulas import SAMPLE_SIZE
from pruneviz.analysis.noise import DEGREES, DRAWN_DEGREES
from pruneviz.analysis.settings import different
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.arguments import as_tuple, is_number
from pruneviz.log.parquet import joined
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.log.runs import Runs
from pruneviz.log.schema import TABLES
from pruneviz.plot.words import listed

Source: TypeAlias = Runs | pd.DataFrame
Chosen: TypeAlias = str | Iterable[str] | Mapping[str, Any] | None

_USUAL = "filter"  # the rows to draw of a training that was measured by single weights too
TABLE_RUN = "table"  # run name of the rows of a table that names none
# Columns that a table must have to be taken for one of the log, most telling first.
_TELLING: Mapping[str, tuple[str, ...]] = {
    "rounds": ("round", "layer", "filters", "kept"),
    "filters": ("layer", "filter"),
    "epochs": ("epoch",),
}


def runs_of(
    source: Source, chosen: Chosen = None, unit: str | None = None, one_unit: bool = True
) -> Runs:
    """The runs to draw.

    Args:
        source: Recordings as `pruneviz.load` returns them, or one table of the log: filters (as
            `pruneviz.measure` returns it, too), epochs or rounds. A table that names no run is one
            run, one that names no epoch is of epoch 0.
        chosen: Names of the runs to draw, or facts that they have, such as {"seed": 0}. Default:
            all.
        unit: What the rows are, such as "filter" or "head". Default: filters, else the only kind.
        one_unit: Whether the runs must have rows of one unit; not if only epochs are drawn.

    Raises:
        FigureError: If the source is neither, no run is left, or the runs have rows of several
            units, none of them filters.
    """
    runs = source if isinstance(source, Runs) else _runs_of_table(source)
    runs = _selected(runs, chosen)
    return _of_unit(runs, unit) if one_unit or unit is not None else runs


def _runs_of_table(table: object) -> Runs:
    if not isinstance(table, pd.DataFrame):
        raise FigureError(
            f"a plot takes recordings or a table, not {type(table).__name__}; pass what "
            "pruneviz.load or pruneviz.measure returns"
        )
    kind = next((kind for kind, names in _TELLING.items() if set(names) <= set(table)), None)
    if kind is None:
        raise FigureError(
            "this table is none of filters, epochs or rounds: it has the columns "
            f"[{', '.join(map(str, table.columns))}]; keep layer and filter (or epoch) beside the "
            "values"
        )
    added: dict[str, Any] = {"run": TABLE_RUN, "epoch": 0, "kept": True}
    if kind != "filters":
        added.pop("kept")
    rows = table.assign(**{name: value for name, value in added.items() if name not in table})
    rows = rows.assign(run=rows["run"].astype(str)).reset_index(drop=True)
    tables: dict[str, Any] = {name: joined([], name) for name in TABLES} | {kind: rows}
    return Runs(spec=_spec_of(rows), **tables)


def _spec_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Facts about the runs of a table: columns of it that spec tables have, its size and unit."""
    held = [name for name in SPEC_FACTS if name in rows and name not in ("run", "epochs", "kept")]
    spec = rows[["run", *held]].drop_duplicates("run").reset_index(drop=True)
    facts = (SAMPLE_SIZE, DEGREES, DRAWN_DEGREES)
    carried = [name for name in facts if name in rows.attrs and name not in spec]
    spec = spec.assign(**{name: rows.attrs[name] for name in carried})
    if "unit" not in spec:
        spec = spec.assign(unit=_unit_of(rows))
    return spec.reindex(columns=list(dict.fromkeys([*SPEC_FACTS, *spec.columns]))).astype(object)


def _unit_of(rows: pd.DataFrame) -> str:
    weights = "weight" in rows and bool(rows["weight"].notna().any())
    return "weight" if weights else "filter"


def _selected(runs: Runs, chosen: Chosen) -> Runs:
    if chosen is None:
        found = runs
    elif isinstance(chosen, Mapping):
        found = runs.select(**chosen)
    else:
        names = as_tuple(chosen)
        known = list(map(str, runs.spec["run"]))
        for name in names:
            if name not in known:
                raise FigureError(unknown_name("run", str(name), known))
        found = runs.named(names)
    if not len(found):
        raise FigureError("there is no run to draw; record one, or choose other runs")
    return found


def _of_unit(runs: Runs, unit: str | None) -> Runs:
    units = list(map(str, different(runs.spec["unit"])))
    if unit is not None and unit not in units:
        raise FigureError(f"no run has rows of unit {unit!r}; the runs have {listed(units)}")
    if unit is None and _USUAL in units:
        unit = _USUAL
    if unit is None and len(units) > 1:
        raise FigureError(
            f"these runs have rows of {listed(units)}; choose one with unit={units[0]!r}"
        )
    return runs.named(runs.spec.loc[runs.spec["unit"] == (unit or units[0]), "run"])


def asked_epochs(wanted: int | Iterable[int] | None) -> list[int] | None:
    """Epochs as they were asked for, as a list; None for all.

    Args:
        wanted: One epoch or several, as numbers of any library.

    Raises:
        FigureError: If one is not a whole number.
    """
    if wanted is None:
        return None
    asked = list(as_tuple(wanted))
    for epoch in asked:
        if not is_number(epoch) or epoch != epoch // 1:
            raise FigureError(
                f"epochs holds {epoch!r}, expected whole numbers of epochs trained, such as 16, or "
                "-1 for the last one"
            )
    return [int(epoch) for epoch in asked]


def asked_epoch(wanted: int | None) -> int | None:
    """One epoch as it was asked for; None for the default.

    Raises:
        FigureError: If it is not one whole number.
    """
    found = asked_epochs(wanted)
    if found is not None and len(found) != 1:
        raise FigureError(f"epoch={wanted!r}, expected one epoch, such as 16, or -1 for the last")
    return None if found is None else found[0]


def only_epochs(known: Sequence[int], wanted: int | Iterable[int] | None) -> list[int]:
    """The epochs to draw, ascending.

    Args:
        known: Epochs that have the values.
        wanted: Epochs that were asked for; negative numbers count from the last one. Default: all.

    Raises:
        FigureError: If one of them has no values; lists those that do.
    """
    there = sorted({int(epoch) for epoch in known})
    asked = asked_epochs(wanted)
    if asked is None:
        return there
    found = [there[epoch] if -len(there) <= epoch < 0 else epoch for epoch in asked]
    missing = [epoch for epoch in found if epoch not in there]
    if missing or not found:
        raise FigureError(
            f"epoch {listed(missing) if missing else asked} holds none of these values; the "
            f"epochs that do are {listed(there) if there else 'none'}"
        )
    return sorted(set(map(int, found)))
