"""Many runs as tables: `load` reads them, `Runs` holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.parquet import Recording, Wanted, check_file, joined, read_file, rows_of_runs
from pruneviz.log.run_directory import SPEC_FILE, is_sealed, parts_of, read_spec, run_paths
from pruneviz.log.schema import RunSpec


@dataclass(frozen=True)
class Runs:
    """A set of recordings as five tables; columns in `pruneviz.log.schema`. `unfinished` names the runs that were left out.

    Of recordings on disk, as `load` gives them, a table is read when it is first used, and kept; `read` reads a part of one, which of
    large recordings is quick where the whole would not fit into memory. Errors: `LogError`, on reading, for a file that is corrupt.
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
            raise AttributeError(
                f"Runs has no attribute {name!r}; it has spec, {', '.join(schema.TABLES)} and unfinished"
            )
        vars(self)[name] = frame = self.read(name)
        return frame

    def __repr__(self) -> str:
        return f"<{len(self)} runs: {', '.join(self.spec['run'].astype(str).head(3))}{', ...' if len(self) > 3 else ''}>"

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        epochs: Sequence[int] | None = None,
        complete: Sequence[str] = (),
    ) -> pd.DataFrame:
        """A part of a table: these columns (all by default), of the rows of these epochs (all) in which no column of `complete` is null.

        Errors: `LogError` for a column that no run has, and for a file that is corrupt.
        """
        named = None if columns is None else tuple(columns)
        schema.arrow_schema(
            table, [*(named or ()), *complete]
        )  # refuses columns that the log does not know
        wanted = Wanted(named, None if epochs is None else tuple(epochs), tuple(complete))
        if table not in vars(self):
            return joined(
                [read_file(file, table, wanted) for file in self.files(table)], table, named
            )
        frame = vars(self)[table]
        schema.check_columns(
            frame,
            [*(named or ()), *complete],
            f"the {table} table",
            "record the runs with what is needed",
        )
        return wanted.of(frame)

    def files(self, table: str) -> list[Path]:
        """The files that a table is read from; none where the runs were not loaded from the disk."""
        return [file for recording in self._recordings for file in recording.files(table)]

    def with_spec(self, table: str, *facts: str) -> pd.DataFrame:
        """A table with facts of the runs' specs beside every row, such as `runs.with_spec("filters", "network", "seed")`."""
        schema.check_columns(self.spec, list(facts), "the spec of these runs", "choose among these")
        frame: pd.DataFrame = getattr(self, table)
        by_run = self.spec.set_index("run")
        return frame.assign(
            **{fact: frame["run"].astype("str").map(by_run[fact]) for fact in facts}
        )

    def select(self, **facts: Any) -> Runs:
        """The runs whose spec has these values, such as `runs.select(network="resnet56", seed=0)`; may be empty."""
        schema.check_columns(self.spec, list(facts), "the spec of these runs", "choose among these")
        chosen = self.spec
        for fact, value in facts.items():
            chosen = chosen[chosen[fact] == value]
        return self.named(chosen["run"])

    def named(self, runs: Iterable[str]) -> Runs:
        """The runs of these names; of their tables nothing more is read than was before."""
        chosen = self.spec[self.spec["run"].isin(set(runs))].reset_index(drop=True)
        held = {
            name: rows_of_runs(vars(self)[name], chosen["run"])
            for name in schema.TABLES
            if name in vars(self)
        }
        recordings = [found for found in self._recordings if found.spec.run in set(chosen["run"])]
        return _runs(chosen, held, recordings, self.unfinished)

    def __len__(self) -> int:
        return len(self.spec)


def load(path: str | Path, unfinished: str = "error") -> Runs:
    """Load one run directory, or every run below a folder.

    Args: `unfinished`: what to do with a run that is not sealed: "error", "skip" (named in `Runs.unfinished`) or "include"
    (what is whole on disk). Tables of finished runs are read when they are used; where unfinished ones are included everything is read
    at once, for they go on. Errors: `LogError` for a folder without runs, a run that is unfinished, corrupt or of a newer
    schema, and two runs of one name.
    """
    if unfinished not in ("error", "skip", "include"):
        raise LogError(f"unfinished={unfinished!r}; choose 'error', 'skip' or 'include'")
    found = run_paths(path)
    opened = [p for p in found if not is_sealed(p)]
    if opened and unfinished == "error":
        raise LogError(
            f"{opened[0]} is unfinished; finish its recording, or load it with unfinished='include' (or 'skip')"
        )
    if opened and unfinished == "include":
        return _read_at_once(found)
    runs = finished(path)
    for table in schema.TABLES:
        for file in runs.files(table):
            check_file(file, table)
    return runs


def finished(path: str | Path) -> Runs:
    """The finished runs of a folder, as `load` with unfinished="skip", but a corrupt table is an error only once it is read."""
    found = run_paths(path)
    recordings = [Recording(p, read_spec(p)) for p in found if is_sealed(p)]
    _check_names(recordings)
    left_out = tuple(read_spec(p).run for p in found if not is_sealed(p))
    return _runs(
        _spec_table([recording.spec for recording in recordings]), {}, recordings, left_out
    )


def _read_at_once(paths: Sequence[Path]) -> Runs:
    runs = [Recording(path, read_spec(path)) for path in paths]
    _check_names(runs)
    tables = {
        name: joined([_whole_table(run, name) for run in runs], name) for name in schema.TABLES
    }
    return _runs(_spec_table([run.spec for run in runs]), tables, (), ())


def _whole_table(run: Recording, table: str) -> pa.Table:
    files = run.files(table) if is_sealed(run.path) else parts_of(run.path, table)
    empty = schema.arrow_schema(table, []).empty_table()
    rows = pa.concat_tables(
        [empty, *(read_file(file, table) for file in files)], promote_options="default"
    )
    return rows.sort_by(
        [(key, "ascending") for key in schema.SORT_KEYS[table] if key != "run"]
    )  # stable


def _runs(
    spec: pd.DataFrame,
    held: Mapping[str, pd.DataFrame],
    recordings: Sequence[Recording],
    unfinished: tuple[str, ...],
) -> Runs:
    """Runs of whose tables those in `held` are in memory, and the others are read when they are used."""
    runs = object.__new__(Runs)  # not through __init__, which takes all tables
    vars(runs).update(held, spec=spec, _recordings=tuple(recordings), unfinished=unfinished)
    return runs


def _spec_table(specs: list[RunSpec]) -> pd.DataFrame:
    rows = [spec.to_dict() for spec in specs]
    names = dict.fromkeys(name for row in (RunSpec(run="none").to_dict(), *rows) for name in row)
    hashable = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]
    return pd.DataFrame(hashable, columns=list(names))


def _check_names(recordings: Sequence[Recording]) -> None:
    seen: dict[str, Path] = {}
    for path, run in ((found.path, found.spec.run) for found in recordings):
        if run in seen:
            raise LogError(
                f"{seen[run]} and {path} are both called {run}; load one folder alone, or rename one in its {SPEC_FILE}"
            )
        seen[run] = path
