"""The log of a run on disk: create, append, seal, resume and load a run directory.

```
<run>/spec.json  epochs.parquet  filters.parquet  rounds.parquet  correlations.parquet     a sealed run
<run>/spec.json  parts/filters-00010.parquet  ...                                           a run that is being recorded
```

Every file is written under a temporary name, flushed to the disk and renamed, so a killed process leaves whole files or
none. The epochs part of an epoch is written last: an epoch without it was cut off, and is not read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pruneviz import schema
from pruneviz.errors import LogError
from pruneviz.schema import RunSpec
from pruneviz.tables import (
    UNFINISHED,
    Recording,
    Wanted,
    arrow_table,
    check_file,
    corrupt,
    joined,
    read_file,
    rows_of_runs,
    sort_rows,
    write_table,
    write_whole,
)

_SPEC, _PARTS, _CHECKPOINT = "spec.json", "parts", "checkpoint"


class RunLog:
    """A run directory that is open for writing: one `append` an epoch, then `seal`.

    Made by `RunLog.create` or `RunLog.resume`. Errors: `LogError` on every misuse and on every failure of the disk; what was
    appended before stays.
    """

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path, self.spec = path, spec
        self._noted: dict[str, Any] = {}

    @classmethod
    def create(cls, path: str | Path, spec: RunSpec) -> RunLog:
        """Start a new run in `path`, which must not exist, or be empty."""
        path = Path(path)
        if path.is_file() or (path.is_dir() and not all(p.match(f".*{UNFINISHED}") for p in path.iterdir())):
            raise LogError(f"{path} already holds {_what_lies_in(path)}; choose another folder, or delete it first")
        _as_json(spec.to_dict())  # refuses what cannot be stored before anything is made
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            _write_spec(path, spec, sealed=False)
            (path / _PARTS).mkdir()
        return cls(path, spec)

    @classmethod
    def resume(cls, path: str | Path, spec: RunSpec) -> RunLog:
        """Go on with an unfinished run; `spec` must agree with the one it was started with."""
        path = Path(path)
        if is_sealed(path):
            raise LogError(f"{path} is a finished run; there is nothing to resume, choose another folder or delete it")
        before = check_same_options(path, spec.to_dict())
        with disk_errors(path):
            (path / _PARTS).mkdir(exist_ok=True)  # a run that was killed while it was created may lack it
        return cls(path, before)

    @property
    def epochs(self) -> list[int]:
        """The epochs that are wholly on disk, ascending."""
        return sorted(int(part.stem.rsplit("-", 1)[1]) for part in (self.path / _PARTS).glob("epochs-*.parquet"))

    @property
    def checkpoint(self) -> Path:
        """The folder in which a training loop may keep what it needs to go on; removed when the run is sealed."""
        return self.path / _CHECKPOINT

    def append(
        self,
        epoch: int,
        *,
        epochs: pd.DataFrame,
        filters: pd.DataFrame | None = None,
        rounds: pd.DataFrame | None = None,
        correlations: pd.DataFrame | None = None,
    ) -> None:
        """Write the rows of one epoch, all tables or none; an epoch can be appended once."""
        if is_sealed(self.path):
            raise LogError(f"{self.path} is closed; start a new run in another folder")
        if self._part("epochs", epoch).exists():
            raise LogError(f"{self.path} holds epoch {epoch} already; each epoch is appended once")
        # the epochs part, last, makes the others count
        given = {"filters": filters, "rounds": rounds, "correlations": correlations, "epochs": epochs}
        tables = {name: arrow_table(name, frame.assign(run=self.spec.run)) for name, frame in given.items() if frame is not None}
        with disk_errors(self.path):
            for name in set(given) - set(tables):
                self._part(name, epoch).unlink(missing_ok=True)  # left by a process that was killed at this epoch
            for name, table in tables.items():
                write_table(self._part(name, epoch), table)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the spec, which become part of `spec.json` when the run is sealed; one may be noted anew, as of a later time.

        Errors: `LogError` for a fact that the spec holds already, one that cannot be stored, and a run that is closed.
        """
        if is_sealed(self.path):
            raise LogError(f"{self.path} is closed; note facts before the run is sealed")
        held = [name for name, value in self.spec.to_dict().items() if name in facts and value is not None]
        if held:
            raise LogError(f"the spec of {self.spec.run} holds {', '.join(held)} already; note the fact under another name")
        _as_json(RunSpec.from_dict({**self.spec.to_dict(), **facts}).to_dict())
        self._noted |= facts

    def read(self, table: str) -> pd.DataFrame:
        """What has been appended to a table so far."""
        return joined([read_file(part, table) for part in _parts_of(self.path, table)], table)

    def drop_after(self, epoch: int) -> None:
        """Forget the epochs after `epoch`, which a training loop resumed from an earlier checkpoint will write again."""
        with disk_errors(self.path):
            for later in (e for e in self.epochs if e > epoch):
                for table in ("epochs", *schema.TABLES):  # the epochs part first: without it the others do not count
                    self._part(table, later).unlink(missing_ok=True)

    def seal(self) -> None:
        """Turn the parts into one file a table and mark the run finished; an interrupted seal can be repeated."""
        with disk_errors(self.path):
            if not is_sealed(self.path):
                for table in schema.TABLES:
                    write_table(self.path / f"{table}.parquet", arrow_table(table, sort_rows(self.read(table), table)))
                facts = {**self.spec.to_dict(), **self._noted, "schema_version": schema.SCHEMA_VERSION}
                _write_spec(self.path, RunSpec.from_dict(facts), sealed=True)
            for stray in self.path.glob(f".*{UNFINISHED}"):
                stray.unlink()
            for folder in (self.path / _PARTS, self.checkpoint):
                if folder.exists():
                    shutil.rmtree(folder)

    def _part(self, table: str, epoch: int) -> Path:
        return self.path / _PARTS / f"{table}-{epoch:05d}.parquet"


@dataclass(frozen=True)
class Runs:
    """A set of recordings as five tables; columns in `pruneviz.schema`. `unfinished` names the runs that were left out.

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
            raise AttributeError(f"Runs has no attribute {name!r}; it has spec, {', '.join(schema.TABLES)} and unfinished")
        vars(self)[name] = frame = self.read(name)
        return frame

    def __repr__(self) -> str:
        return f"<{len(self)} runs: {', '.join(self.spec['run'].astype(str).head(3))}{', ...' if len(self) > 3 else ''}>"

    def read(
        self, table: str, columns: Sequence[str] | None = None, epochs: Sequence[int] | None = None, complete: Sequence[str] = ()
    ) -> pd.DataFrame:
        """A part of a table: these columns (all by default), of the rows of these epochs (all) in which no column of `complete` is null.

        Errors: `LogError` for a column that no run has, and for a file that is corrupt.
        """
        named = None if columns is None else tuple(columns)
        schema.arrow_schema(table, [*(named or ()), *complete])  # refuses columns that the log does not know
        wanted = Wanted(named, None if epochs is None else tuple(epochs), tuple(complete))
        if table not in vars(self):
            return joined([read_file(file, table, wanted) for file in self.files(table)], table, named)
        frame = vars(self)[table]
        schema.check_columns(frame, [*(named or ()), *complete], f"the {table} table", "record the runs with what is needed")
        return wanted.of(frame)

    def files(self, table: str) -> list[Path]:
        """The files that a table is read from; none where the runs were not loaded from the disk."""
        return [file for recording in self._recordings for file in recording.files(table)]

    def with_spec(self, table: str, *facts: str) -> pd.DataFrame:
        """A table with facts of the runs' specs beside every row, such as `runs.with_spec("filters", "network", "seed")`."""
        schema.check_columns(self.spec, list(facts), "the spec of these runs", "choose among these")
        frame: pd.DataFrame = getattr(self, table)
        by_run = self.spec.set_index("run")
        return frame.assign(**{fact: frame["run"].astype("str").map(by_run[fact]) for fact in facts})

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
        held = {name: rows_of_runs(vars(self)[name], chosen["run"]) for name in schema.TABLES if name in vars(self)}
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
        raise LogError(f"{opened[0]} is unfinished; finish its recording, or load it with unfinished='include' (or 'skip')")
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
    return _runs(_spec_table([recording.spec for recording in recordings]), {}, recordings, left_out)


def run_paths(path: str | Path) -> list[Path]:
    """The run directories at or below `path`, sorted; `LogError` where there are none."""
    path = Path(path)
    if not path.is_dir():
        raise LogError(f"there is no folder {path}; record one with python -m pruneviz.record")
    found = sorted(spec.parent for spec in path.rglob(_SPEC))
    if not found:
        raise LogError(f"{path} holds no recordings (no {_SPEC} in it or below it); record some with python -m pruneviz.record")
    return found


def read_spec(path: str | Path) -> RunSpec:
    """The spec of a run directory; `LogError` when it is missing, corrupt, or of a newer schema."""
    facts = _read_spec_file(Path(path))
    facts.pop("sealed", None)
    try:
        return RunSpec.from_dict(facts)
    except (TypeError, LogError) as error:
        raise corrupt(Path(path) / _SPEC, error) from error


def is_sealed(path: str | Path) -> bool:
    """Whether a run directory holds a finished run."""
    return (Path(path) / _SPEC).exists() and bool(_read_spec_file(Path(path)).get("sealed"))


def check_same_options(path: str | Path, options: Mapping[str, Any]) -> RunSpec:
    """The spec of a run directory; `LogError` naming the options with which it was started and that differ from these."""
    before, stored = read_spec(path), _read_spec_file(Path(path))
    now = RunSpec.from_dict({"run": before.run, **json.loads(_as_json(options))})
    # an option that the run's pruneviz did not know yet cannot differ
    differing = [name for name in _FIXED if name in options and name in stored and getattr(before, name) != getattr(now, name)]
    if differing:
        told = "; ".join(f"{name} was {getattr(before, name)!r}, now {getattr(now, name)!r}" for name in differing)
        raise LogError(f"{path} was started with other options: {told}; use the old ones, or another folder")
    return before


_FIXED = (
    "network", "dataset", "seed", "width", "image_size", "epochs", "unit", "measure", "target", "rounds", "bn", "temperatures", "columns",
    "every", "lag", "mask_score", "mask_ratio", "weight_rows", "weight_rows_seed", "sample_size", "sample_seed", "dtype",
    "batch_size", "train_images", "lr", "lr_drops", "momentum", "weight_decay", "train_temperature", "augment", "schedule",
    "prune_at_start", "carry_momentum", "keep_at_least", "prune_phase_only", "flowandprune", "precision",
)  # fmt: skip


def _read_spec_file(path: Path) -> dict[str, Any]:
    file = path / _SPEC
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        version = int(facts["schema_version"])
    except FileNotFoundError:
        raise LogError(f"{path} is no run directory: it has no {_SPEC}; record one with python -m pruneviz.record") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise corrupt(file, error) from error
    if version > schema.SCHEMA_VERSION:
        raise LogError(f"{file} has schema {version}, this pruneviz reads up to {schema.SCHEMA_VERSION}; install a newer pruneviz")
    return facts


def _write_spec(path: Path, spec: RunSpec, *, sealed: bool) -> None:
    text = _as_json({**spec.to_dict(), "sealed": sealed})
    write_whole(path / _SPEC, lambda file: file.write_text(text + "\n", encoding="utf-8"))


def _as_json(facts: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    try:
        return json.dumps(dict(facts), indent=2, default=plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LogError(f"a fact of the run cannot be stored in {_SPEC} ({error}); give finite numbers, texts and lists of them") from error


def _parts_of(path: Path, table: str) -> list[Path]:
    """The files of a table of a run that is being recorded, of whole epochs alone."""
    whole = sorted(part.name.removeprefix("epochs-") for part in (path / _PARTS).glob("epochs-*.parquet"))
    parts = [path / _PARTS / f"{table}-{epoch}" for epoch in whole]
    return [part for part in parts if part.exists()]


def _read_at_once(paths: Sequence[Path]) -> Runs:
    runs = [Recording(path, read_spec(path)) for path in paths]
    _check_names(runs)
    tables = {name: joined([_whole_table(run, name) for run in runs], name) for name in schema.TABLES}
    return _runs(_spec_table([run.spec for run in runs]), tables, (), ())


def _whole_table(run: Recording, table: str) -> pa.Table:
    files = run.files(table) if is_sealed(run.path) else _parts_of(run.path, table)
    empty = schema.arrow_schema(table, []).empty_table()
    rows = pa.concat_tables([empty, *(read_file(file, table) for file in files)], promote_options="default")
    return rows.sort_by([(key, "ascending") for key in schema.SORT_KEYS[table] if key != "run"])  # stable


def _runs(spec: pd.DataFrame, held: Mapping[str, pd.DataFrame], recordings: Sequence[Recording], unfinished: tuple[str, ...]) -> Runs:
    """Runs of whose tables those in `held` are in memory, and the others are read when they are used."""
    runs = object.__new__(Runs)  # not through __init__, which takes all tables
    vars(runs).update(held, spec=spec, _recordings=tuple(recordings), unfinished=unfinished)
    return runs


def _spec_table(specs: list[RunSpec]) -> pd.DataFrame:
    rows = [spec.to_dict() for spec in specs]
    names = dict.fromkeys(name for row in (RunSpec(run="none").to_dict(), *rows) for name in row)
    hashable = [{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows]
    return pd.DataFrame(hashable, columns=list(names))


def _check_names(recordings: Sequence[Recording]) -> None:
    seen: dict[str, Path] = {}
    for path, run in ((found.path, found.spec.run) for found in recordings):
        if run in seen:
            raise LogError(f"{seen[run]} and {path} are both called {run}; load one folder alone, or rename one in its {_SPEC}")
        seen[run] = path


def _what_lies_in(path: Path) -> str:
    if path.is_file():
        return "a file"
    if (path / _SPEC).exists():
        return (
            f"the finished run {read_spec(path).run}"
            if is_sealed(path)
            else f"the unfinished run {read_spec(path).run} (go on with resume=True)"
        )
    return "other files"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn every failure to write to `path` into a `LogError` that says what to do."""
    try:
        yield
    except OSError as error:
        repair = "free some space, or choose a folder that you may write to"
        raise LogError(f"cannot write to {path}: {error.strerror or error}; {repair}") from error
