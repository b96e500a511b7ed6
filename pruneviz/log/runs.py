"""Many runs as tables: `load` reads them, `Runs` holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pruneviz.errors import LogError, unknown_name
from pruneviz.log import schema
from pruneviz.log.parquet import TablePart, check_file, joined, read_file, rows_of_runs
from pruneviz.log.run_directory import SPEC_FILE, is_sealed, parts_of, read_spec, run_paths
from pruneviz.log.run_spec import SPEC_FACTS, RunSpec

# facts with a fixed set of values, of which a set of runs need not have all
_WORDS = ("unit", "bn", "dtype", "precision", "device", "mask_score")
_CORRELATIONS_SINCE = 2  # first schema version with that table in sealed runs


@dataclass(frozen=True)
class Recording:
    """A run on disk."""

    path: Path
    spec: RunSpec

    def files(self, table: str) -> list[Path]:
        """The files of a table in a finished run: one, or none in an older schema."""
        file = self.path / f"{table}.parquet"
        older = self.spec.schema_version < _CORRELATIONS_SINCE
        if table == "correlations" and older and not file.exists():
            return []
        return [file]


@dataclass(frozen=True)
class Runs:
    """A set of recordings as five tables.

    Tables are read on first use and kept. `read` reads only a part of a table, for large recordings
    that would not fit into memory.

    Attributes:
        spec: One row per run, with the facts in its `spec.json`.
        epochs: One row per run and epoch.
        filters: One row per run, measured epoch and filter (or single weight).
        rounds: One row per run, pruning round and layer.
        correlations: Correlations over all single weights, per run and epoch.
        unfinished: Names of the skipped runs.

    Raises:
        LogError: If a file is corrupt; raised when it is read.
    """

    spec: pd.DataFrame
    epochs: pd.DataFrame
    filters: pd.DataFrame
    rounds: pd.DataFrame
    correlations: pd.DataFrame = field(default_factory=lambda: joined([], "correlations"))
    unfinished: tuple[str, ...] = ()
    _recordings: tuple[Recording, ...] = field(default=(), init=False)

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name not in schema.TABLES:
            known = f"spec, {', '.join(schema.TABLES)} and unfinished"
            raise AttributeError(f"Runs has no attribute {name!r}; it has {known}")
        vars(self)[name] = frame = self.read(name)
        return frame

    def __repr__(self) -> str:
        first = ", ".join(self.spec["run"].astype(str).head(3))
        more = ", ..." if len(self) > 3 else ""
        return f"<{len(self)} runs: {first}{more}>"

    def __len__(self) -> int:
        return len(self.spec)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        epochs: Sequence[int] | None = None,
        complete: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Read a part of a table.

        Args:
            table: Table name, such as "filters".
            columns: Columns to read. Default: all.
            epochs: Epochs to read. Default: all.
            complete: Columns that must not be null in the selected rows.

        Raises:
            LogError: If no run has a column, or a file is corrupt.
        """
        named = None if columns is None else tuple(columns)
        needed = [*(named or ()), *complete]
        # A table in memory may have columns of its own.
        own = vars(self)[table].columns if table in vars(self) else ()
        schema.arrow_schema(
            table, [name for name in needed if name not in own]
        )  # raises if unknown
        part = TablePart(named, None if epochs is None else tuple(epochs), tuple(complete))
        if table not in vars(self):
            parts = [read_file(file, table, part) for file in self.files(table)]
            return joined(parts, table, named)
        frame = vars(self)[table]
        repair = "record the runs with what is needed"
        schema.check_columns(frame, needed, f"the {table} table", repair)
        return part.of(frame)

    def files(self, table: str) -> list[Path]:
        """The files of a table; none if the runs were not loaded from disk."""
        return [file for recording in self._recordings for file in recording.files(table)]

    def with_spec(self, table: str, *facts: str) -> pd.DataFrame:
        """A table with run facts as further columns.

        Args:
            table: Table name, such as "filters".
            facts: Columns of `spec`, such as "network" and "seed".

        Raises:
            LogError: If the spec has no such column.
        """
        schema.check_columns(self.spec, list(facts), "the spec of these runs", "choose among these")
        frame: pd.DataFrame = getattr(self, table)
        runs, by_run = frame["run"].astype("str"), self.spec.set_index("run")
        return frame.assign(**{fact: runs.map(by_run[fact]) for fact in facts})

    def select(self, **facts: Any) -> Runs:
        """Select the runs whose spec has these values; the result may be empty.

        Raises:
            LogError: If the spec has no such column, or no run has a given name, such as a network.

        Example:
            >>> runs.select(network="resnet56", seed=0)
        """
        schema.check_columns(self.spec, list(facts), "the spec of these runs", "choose among these")
        chosen = self.spec
        for fact, value in facts.items():
            known = list(dict.fromkeys(self.spec[fact].dropna()))
            if isinstance(value, str) and value not in known and fact not in _WORDS:
                raise LogError(unknown_name(f"run with the {fact}", value, list(map(str, known))))
            chosen = chosen[chosen[fact] == value]
        return self.named(chosen["run"])

    def named(self, runs: Iterable[str]) -> Runs:
        """Select runs by name. Unread tables stay unread."""
        chosen = self.spec[self.spec["run"].isin(set(runs))].reset_index(drop=True)
        names = chosen["run"]
        held = {
            table: rows_of_runs(vars(self)[table], names)
            for table in schema.TABLES
            if table in vars(self)
        }
        recordings = [found for found in self._recordings if found.spec.run in set(names)]
        return _runs(chosen, held, recordings, self.unfinished)


def load(path: str | Path, unfinished: str = "error") -> Runs:
    """Load one run directory, or every run below a folder.

    Tables of finished runs are read on first use. If unfinished runs are included, all tables are
    read at once, because these runs may change.

    Args:
        path: Run directory, or folder with run directories.
        unfinished: What to do with a run that is not sealed: "error", "skip" (its name is in
            `Runs.unfinished`) or "include" (its complete epochs).

    Returns:
        The runs as tables.

    Raises:
        LogError: If there are no runs, one is unfinished, corrupt or of a newer schema, or two have
            the same name.
    """
    if unfinished not in ("error", "skip", "include"):
        raise LogError(f"unfinished={unfinished!r}; choose 'error', 'skip' or 'include'")
    found = run_paths(path)
    opened = [run for run in found if not is_sealed(run)]
    if opened and unfinished == "error":
        raise LogError(
            f"{opened[0]} is unfinished; finish its recording, or load it with "
            "unfinished='include' (or 'skip')"
        )
    if opened and unfinished == "include":
        return _read_at_once(recordings_at(found))
    runs = finished(path)
    for table in schema.TABLES:
        for file in runs.files(table):
            check_file(file, table)
    return runs


def finished(path: str | Path) -> Runs:
    """The finished runs in a folder.

    Like `load` with unfinished="skip", but a corrupt table raises only when it is read.
    """
    found = run_paths(path)
    recordings = recordings_at([run for run in found if is_sealed(run)])
    left_out = tuple(read_spec(run).run for run in found if not is_sealed(run))
    return _runs(spec_table([run.spec for run in recordings]), {}, recordings, left_out)


def recordings_at(paths: Iterable[Path]) -> list[Recording]:
    """Open several run directories.

    Raises:
        LogError: If a spec cannot be read, or two runs have the same name.
    """
    found: dict[str, Recording] = {}
    for path in paths:
        spec = read_spec(path)
        if spec.run in found:
            raise LogError(
                f"{found[spec.run].path} and {path} are both called {spec.run}; "
                f"read one folder alone, or rename one run in its {SPEC_FILE}"
            )
        found[spec.run] = Recording(path, spec)
    return list(found.values())


def spec_table(specs: Sequence[RunSpec]) -> pd.DataFrame:
    """The table `Runs.spec`: one row per run, one column per fact; lists become tuples."""
    rows = [spec.to_dict() for spec in specs]
    names = dict.fromkeys([*SPEC_FACTS, *(name for row in rows for name in row)])
    hashable = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]
    return pd.DataFrame(hashable, columns=list(names))


def _read_at_once(runs: Sequence[Recording]) -> Runs:
    tables = {
        name: joined([_whole_table(run, name) for run in runs], name) for name in schema.TABLES
    }
    return _runs(spec_table([run.spec for run in runs]), tables, (), ())


def _whole_table(run: Recording, table: str) -> pa.Table:
    files = run.files(table) if is_sealed(run.path) else parts_of(run.path, table)
    empty = schema.arrow_schema(table, []).empty_table()
    parts = [empty, *(read_file(file, table) for file in files)]
    rows = pa.concat_tables(parts, promote_options="default")
    keys = [(key, "ascending") for key in schema.SORT_KEYS[table] if key != "run"]
    return rows.sort_by(keys)  # stable


def _runs(
    spec: pd.DataFrame,
    held: Mapping[str, pd.DataFrame],
    recordings: Sequence[Recording],
    unfinished: tuple[str, ...],
) -> Runs:
    """Runs with the tables `held` in memory; others are read on first use."""
    runs = object.__new__(Runs)  # not through __init__, which needs all tables
    vars(runs).update(held, spec=spec, _recordings=tuple(recordings), unfinished=unfinished)
    return runs
