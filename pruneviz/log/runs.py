"""Many runs as tables: `load` reads them, `Runs` holds them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pruneviz.errors import LogError, unknown_name
from pruneviz.log import schema
from pruneviz.log.arguments import as_tuple, is_whole
from pruneviz.log.described_runs import in_html, in_words
from pruneviz.log.found_runs import Where, run_paths
from pruneviz.log.parquet import TablePart, joined, rows_of_runs
from pruneviz.log.recordings import (
    Recording,
    check_all_sizes,
    files_here,
    recordings_at,
    rows_of_all,
    spec_table,
)
from pruneviz.log.spec_file import is_sealed
from pruneviz.log.thin_copies import ThinCopy, lacks_epochs, thin_copy, thin_rows

# facts with a fixed set of values, of which a set of runs need not have all
_WORDS = ("unit", "bn", "dtype", "precision", "device", "mask_score")
_SEVERAL = (list, tuple, range, set, frozenset)  # ways to give several values of a fact

Unfinished = Literal["include", "skip", "error"]

_logger = logging.getLogger("pruneviz")


@dataclass(frozen=True)
class Runs:
    """A set of recordings as tables.

    Tables are read on first use and kept. `read` reads only a part of a table, for large recordings
    that would not fit into memory.

    Attributes:
        spec: One row per run, with the facts in its `spec.json`.
        epochs: One row per run and epoch.
        filters: One row per run, measured epoch and filter (or single weight).
        rounds: One row per run, pruning round and layer.
        correlations: Correlations over all single weights, per run and epoch.
        halves: Columns measured on half samples A and B, of runs with samples=2; as filters.
        flow: Changes of norms over steps of training and their predictions, per run, epoch and
            filter; recorded by `pruneviz.FlowMeter`.
        unfinished: Names of the runs that were not finished when they were loaded, included (up to
            their last complete epoch) or skipped.

    Raises:
        LogError: If a file is corrupt; raised when it is read.
    """

    spec: pd.DataFrame
    epochs: pd.DataFrame
    filters: pd.DataFrame
    rounds: pd.DataFrame
    correlations: pd.DataFrame = field(default_factory=lambda: joined([], "correlations"))
    halves: pd.DataFrame = field(default_factory=lambda: joined([], "halves"))
    flow: pd.DataFrame = field(default_factory=lambda: joined([], "flow"))
    unfinished: tuple[str, ...] = ()
    _recordings: tuple[Recording, ...] = field(default=(), init=False)

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name not in schema.TABLES:
            known = f"spec, {', '.join(schema.TABLES)} and unfinished"
            raise AttributeError(f"Runs has no attribute {name!r}; it has {known}")
        vars(self)[name] = frame = self.read(name)
        return frame

    def __repr__(self) -> str:
        return in_words(self.spec, self.unfinished)

    def _repr_html_(self) -> str:
        recorded = {table: self.recorded(table) for table in ("filters", "epochs")}
        return in_html(self.spec, self.read("epochs", ["run", "epoch"]), recorded, self.unfinished)

    def __len__(self) -> int:
        return len(self.spec)

    def read(
        self,
        table: str,
        columns: str | Sequence[str] | None = None,
        epochs: int | Sequence[int] | None = None,
        complete: str | Sequence[str] = (),
    ) -> pd.DataFrame:
        """Read a part of a table.

        Args:
            table: Table name, such as "filters".
            columns: Columns to read. Default: all.
            epochs: Epochs to read. Default: all.
            complete: Columns that must not be null in the selected rows.

        Raises:
            LogError: If no run has a column, an epoch is no whole number, or a file is corrupt.
        """
        named = None if columns is None else as_tuple(columns)
        whole = as_tuple(complete)
        needed = [*(named or ()), *whole]
        # A table in memory may have columns of its own.
        own = vars(self)[table].columns if table in vars(self) else ()
        self._check_known(table, [name for name in needed if name not in own])
        part = TablePart(named, None if epochs is None else _checked_epochs(epochs), whole)
        if table not in vars(self):
            return joined(rows_of_all(self._recordings, table, part), table, named)
        frame = vars(self)[table]
        repair = "record the runs with what is needed"
        schema.check_columns(frame, needed, f"the {table} table", repair)
        return part.of(frame)

    def with_columns(self, table: str, columns: Sequence[str]) -> pd.DataFrame:
        """A table with at least these columns: of one on disk only they are read.

        Args:
            table: Table name.
            columns: Column names; with one that the table lacks, the whole table is read.
        """
        if table in vars(self) or not set(columns) <= set(self.columns(table)):
            frame: pd.DataFrame = getattr(self, table)
            return frame
        return self.read(table, [name for name in self.columns(table) if name in columns])

    def columns(self, table: str = "filters") -> list[str]:
        """Columns of a table in any run, in the order of the table; reads no rows.

        Args:
            table: Table name.
        """
        if table in vars(self):
            return [str(name) for name in vars(self)[table].columns]
        named = [name for recording in self._recordings for name in recording.columns(table)]
        return list(schema.arrow_schema(table, named).names)

    def recorded(self, table: str = "filters") -> list[str]:
        """Columns of a table that have a value in any run, in the order of the table.

        Of finished runs each column is read up to its first value.

        Args:
            table: Table name.
        """
        if table in vars(self):
            frame = vars(self)[table]
            return [str(name) for name in frame.columns if frame[name].notna().any()]
        found = [recording.columns_with_values(table) for recording in self._recordings]
        named = [name for names in found for name in names]
        order = schema.arrow_schema(table, named).names
        return [name for name in order if name in named]

    def filters_at(self, epoch: int) -> pd.DataFrame:
        """The filters table at one epoch; other epochs are not read.

        Args:
            epoch: Number of epochs trained; -1 is the last epoch that any run recorded, and so on.
                An epoch that a thin copy left out counts.

        Returns:
            Rows of the runs that hold this epoch, with all columns.

        Raises:
            LogError: If it is no whole number, or no run holds filters of this epoch; names the
                epochs that there are.

        Example:
            >>> pv.load("data/cifar-mini").filters_at(16)
        """
        if not is_whole(epoch):
            raise LogError(f"epoch={epoch!r}; give one epoch, a whole number, such as 16")
        there = [] if epoch >= 0 else self._epochs_recorded()
        at = there[epoch] if -len(there) <= epoch < 0 else epoch
        found = self.read("filters", epochs=[at])
        if found.empty:
            held = self._epochs_held("filters")
            left_out = lacks_epochs(self.spec) and at in self._epochs_recorded()
            known = f"{at}, which thin copies left out" if left_out else at
            raise LogError(
                f"no run has filters of epoch {known}; the epochs are "
                f"{', '.join(map(str, held)) or 'none'}"
            )
        return found

    def thin_copies(self) -> list[ThinCopy]:
        """What the thin copies among the runs hold of their filters; full runs are not read."""
        rows = thin_rows(self.spec)
        if rows.empty:
            return []
        mine = self.named(rows["run"])
        epochs = mine.read("epochs", ["run", "epoch", "kept_fraction"]).astype({"run": "str"})
        held = mine.read("filters", ["run", "epoch"]).drop_duplicates().astype({"run": "str"})
        return [
            thin_copy(
                facts,
                epochs[epochs["run"] == facts["run"]],
                list(held.loc[held["run"] == facts["run"], "epoch"]),
            )
            for facts in rows.to_dict("records")
        ]

    def _epochs_recorded(self) -> list[int]:
        """Epochs of the filters table, and those that thin copies left out of theirs."""
        left_out = self._epochs_held("epochs") if lacks_epochs(self.spec) else []
        return sorted({*self._epochs_held("filters"), *left_out})

    def _epochs_held(self, table: str) -> list[int]:
        return sorted(map(int, self.read(table, ["epoch"])["epoch"].unique()))

    def _check_known(self, table: str, names: Sequence[str]) -> None:
        """Check that a table can have these columns."""
        if table != "epochs":
            schema.arrow_schema(table, names)
            return
        unknown = [name for name in names if name not in schema.EPOCHS]
        held = self.columns(table) if unknown else []
        for name in unknown:
            if name not in held:
                raise LogError(unknown_name("column of the epochs table", name, held))

    def files(self, table: str) -> list[Path]:
        """The files of a table in finished runs, of remote ones copies; none of tables given."""
        return files_here(self._recordings, table)

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

        A list, tuple, range, set or array of values selects the runs that have one of them, and
        None those without the fact. `rounds=0` leaves out runs that a loop of one's own pruned,
        whose spec says `pruned`.

        Raises:
            LogError: If the spec has no such column, or no run has a given name, such as a network.

        Example:
            >>> runs.select(network="resnet56", seed=[0, 1])
        """
        schema.check_columns(self.spec, list(facts), "the spec of these runs", "choose among these")
        chosen = self.spec
        for fact, value in facts.items():
            wanted = _values_in(value)
            self._check_names(fact, wanted)
            chosen = chosen[[any(_is_fact(held, one) for one in wanted) for held in chosen[fact]]]
            if fact == "rounds" and is_whole(value) and value == 0 and "pruned" in chosen:
                says = chosen["pruned"]  # True, or how in words
                chosen = chosen[says.isna() | says.isin([False, ""])]
        return self.named(chosen["run"])

    def _check_names(self, fact: str, wanted: Sequence[Any]) -> None:
        held = list(self.spec[fact])
        for name in wanted:
            if isinstance(name, str) and name not in held and fact not in _WORDS:
                known = [str(one) for one in dict.fromkeys(self.spec[fact].dropna())]
                raise LogError(unknown_name(f"run with the {fact}", name, known))

    def named(self, runs: str | Iterable[str]) -> Runs:
        """Select runs by name. Unread tables stay unread."""
        chosen = self.spec[self.spec["run"].isin(set(as_tuple(runs)))].reset_index(drop=True)
        names = chosen["run"]
        held = {
            table: rows_of_runs(vars(self)[table], names)
            for table in schema.TABLES
            if table in vars(self)
        }
        recordings = [found for found in self._recordings if found.name in set(names)]
        # Skipped runs stay named; included ones only where they were selected.
        gone = set(self.spec["run"]) - set(names)
        left = tuple(name for name in self.unfinished if name not in gone)
        return _runs(chosen, held, recordings, left)


def _values_in(value: Any) -> list[Any]:
    """The values that a selection names; a list or tuple may also be one value, as of lr_drops."""
    if isinstance(value, (np.ndarray, pd.Series, pd.Index)):
        return list(value.tolist())
    if not isinstance(value, _SEVERAL):
        return [value]
    named = list(value)
    if isinstance(value, (list, tuple)):
        named.append(tuple(tuple(one) if isinstance(one, list) else one for one in value))
    return [*named, *(tuple(one) for one in named if isinstance(one, list))]


def _is_fact(held: Any, wanted: Any) -> bool:
    if wanted is None:
        return held is None or (isinstance(held, float) and np.isnan(held))
    return bool(held == wanted)


def load(path: Where, unfinished: Unfinished = "include") -> Runs:
    """Load one run directory, every run below a folder, or the runs of several folders.

    Tables of finished runs are read on first use. Unfinished runs are read at once, because they
    may change, and a warning names them.

    Args:
        path: Run directory, folder with run directories, glob pattern such as "data/*/seed?", a
            URL of these such as "s3://bucket/sets/*", or several of these. Runs of one name in
            different folders are told apart by a part of their path, in all tables.
        unfinished: What to do with a run that is still being recorded, or was interrupted:
            "include" (its complete epochs), "skip" or "error". `Runs.unfinished` has their names.

    Returns:
        The runs as tables.

    Raises:
        LogError: If there are no runs, or one is corrupt or of a newer schema; with
            unfinished="error" also if one is unfinished.

    Example:
        >>> runs = pv.load(["data/mine", "data/cifar-*"])
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
    runs = _loaded(found, include=unfinished == "include")
    check_all_sizes(runs._recordings)
    if unfinished == "include" and runs.unfinished:
        _logger.warning("%s", _unfinished_line(runs))
    return runs


def _checked_epochs(epochs: int | Sequence[int]) -> tuple[int, ...]:
    given = as_tuple(epochs)
    wrong = [epoch for epoch in given if not is_whole(epoch)]
    if wrong:
        raise LogError(f"epochs={wrong[0]!r}; give epochs, whole numbers, such as [0, 16]")
    return tuple(map(int, given))


def finished(path: Where) -> Runs:
    """The finished runs in some folders.

    Like `load` with unfinished="skip", but a corrupt table raises only when it is read.
    """
    return _loaded(run_paths(path), include=False)


def as_they_are(path: Where) -> Runs:
    """The runs in some folders, unfinished ones included, without a warning about these."""
    return _loaded(run_paths(path), include=True)


def _loaded(paths: Sequence[Path], *, include: bool) -> Runs:
    recordings = recordings_at(paths, include=include)
    used = [run for run in recordings if include or run.sealed]
    unfinished = tuple(run.name for run in recordings if not run.sealed)
    return _runs(spec_table([(run.name, run.spec) for run in used]), {}, used, unfinished)


def _unfinished_line(runs: Runs) -> str:
    """What was loaded of the unfinished runs."""
    last = runs.read("epochs", ["run", "epoch"]).groupby("run", observed=True)["epoch"].max()
    told = ", ".join(
        f"{run} up to epoch {last[run]}" if run in last.index else f"{run} without an epoch"
        for run in runs.unfinished
    )
    return f"unfinished runs are included: {told}; pass unfinished='skip' to leave them out"


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
