"""One run directory: create, append, seal, resume, and read the spec.

```
<run>/spec.json  epochs.parquet  filters.parquet  rounds.parquet  correlations.parquet   sealed
<run>/spec.json  parts/filters-00010.parquet  ...                                being recorded
```
A run with flow also has flow.parquet.

Files are written atomically, so a killed process leaves no half-written ones. The epochs part of an
epoch is written last: an epoch without it is incomplete and not read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log import older_columns, schema
from pruneviz.log.epoch_parts import PARTS, complete_epochs, mark_dropped, part_file, parts_of
from pruneviz.log.files import UNFINISHED, disk_errors, remove_unfinished, write_whole
from pruneviz.log.flow_epochs import warn_of_left_out
from pruneviz.log.parquet import (
    TablePart,
    arrow_table,
    corrupt,
    joined,
    read_file,
    sort_rows,
    write_table,
)
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.log.run_spec import RunSpec

SPEC_FILE, _CHECKPOINT = "spec.json", "checkpoint"


class RunLog:
    """A run directory that is open for writing: one `append` per epoch, then `seal`.

    Use `RunLog.create` or `RunLog.resume` to open one.

    Raises:
        LogError: On misuse, or if the disk cannot be written to. Appended epochs stay.
    """

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path, self.spec = path, spec
        self._noted: dict[str, Any] = {}
        self.flow: dict[int, set[str]] = {}  # layers by epoch, of this process

    @classmethod
    def create(cls, path: str | Path, spec: RunSpec) -> RunLog:
        """Start a new run in `path`, which must be empty or missing."""
        path = Path(path)
        if not _is_free(path):
            raise LogError(
                f"{path} already holds {_content_of(path)}; "
                "choose another folder, or delete it first"
            )
        _as_json(spec.to_dict())  # raises for facts that cannot be stored, before writing
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            _write_spec(path, spec, sealed=False)
            (path / PARTS).mkdir()
        return cls(path, spec)

    @classmethod
    def resume(cls, path: str | Path, spec: RunSpec) -> RunLog:
        """Continue an unfinished run; `spec` must agree with its original spec."""
        path = Path(path)
        if is_sealed(path):
            raise LogError(
                f"{path} is a finished run; there is nothing to resume, "
                "choose another folder or delete it"
            )
        before = check_same_options(path, spec.to_dict())
        older_columns.check_continues(before, path)
        with disk_errors(path):
            remove_unfinished(path)
            # missing if the process was killed during creation
            (path / PARTS).mkdir(exist_ok=True)
        return cls(path, before)

    @property
    def epochs(self) -> list[int]:
        """Complete epochs on disk, ascending."""
        return complete_epochs(self.path)

    @property
    def checkpoint(self) -> Path:
        """Folder for the checkpoint of a training loop; removed when the run is sealed."""
        return self.path / _CHECKPOINT

    def append(
        self,
        epoch: int,
        *,
        epochs: pd.DataFrame,
        filters: pd.DataFrame | None = None,
        rounds: pd.DataFrame | None = None,
        correlations: pd.DataFrame | None = None,
        halves: pd.DataFrame | None = None,
    ) -> None:
        """Write the rows of one epoch, all tables or none; an epoch can be appended only once."""
        if is_sealed(self.path):
            raise LogError(f"{self.path} is closed; start a new run in another folder")
        if self.part("epochs", epoch).exists():
            raise LogError(
                f"{self.path} already holds epoch {epoch}; an epoch can be appended only once"
            )
        given = {
            "filters": filters,
            "rounds": rounds,
            "correlations": correlations,
            "halves": halves,
        }
        tables = self._tables({**given, "epochs": epochs})
        with disk_errors(self.path):
            for name in set(schema.TABLES) - {*tables, "flow"}:
                # May be left by a process that was killed at this epoch.
                self.part(name, epoch).unlink(missing_ok=True)
            self._write_parts(epoch, tables)

    def replace(
        self,
        epoch: int,
        *,
        epochs: pd.DataFrame,
        filters: pd.DataFrame,
        correlations: pd.DataFrame | None = None,
        halves: pd.DataFrame | None = None,
    ) -> None:
        """Write rows of a recorded epoch anew; tables that are not given stay."""
        given = {
            "filters": filters,
            "correlations": correlations,
            "halves": halves,
            "epochs": epochs,
        }
        tables = self._tables(given)
        with disk_errors(self.path):
            self._write_parts(epoch, tables)

    def _tables(self, given: Mapping[str, pd.DataFrame | None]) -> dict[str, pa.Table]:
        return {
            name: arrow_table(name, frame.assign(run=self.spec.run))
            for name, frame in given.items()
            if frame is not None
        }

    def _write_parts(self, epoch: int, tables: Mapping[str, pa.Table]) -> None:
        # The epochs part comes last, because it marks the epoch as complete.
        for name in sorted(tables, key=lambda name: name == "epochs"):
            write_table(self.part(name, epoch), tables[name])

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the spec; they are written to `spec.json` when the run is sealed.

        An earlier note of the same name is replaced.

        Raises:
            LogError: If the spec already has the fact, it cannot be stored, or the run is closed.
        """
        if is_sealed(self.path):
            raise LogError(f"{self.path} is closed; note facts before the run is sealed")
        spec = self.spec.to_dict()
        held = [name for name in spec if name in facts and spec[name] is not None]
        if held:
            raise LogError(
                f"the spec of {self.spec.run} already holds {', '.join(held)}; "
                "note the fact under another name"
            )
        _as_json(RunSpec.from_dict({**spec, **facts}).to_dict())  # raises if not storable
        self._noted |= facts

    def read(self, table: str) -> pd.DataFrame:
        """All rows appended to a table."""
        return joined([read_file(part, table) for part in parts_of(self.path, table)], table)

    def rows_at(self, table: str, epoch: int) -> pd.DataFrame:
        """The rows of a recorded epoch in a table."""
        part = self.part(table, epoch)
        return joined([read_file(part, table)] if part.exists() else [], table)

    def drop_after(self, epoch: int) -> None:
        """Delete the epochs after `epoch`, to resume from an earlier checkpoint."""
        self.flow = {known: layers for known, layers in self.flow.items() if known <= epoch}
        with disk_errors(self.path):
            mark_dropped(self.path, epoch)
            for later in self.epochs:
                if later <= epoch:
                    continue
                # The epochs part first, because it marks the epoch as complete.
                for table in ("epochs", *schema.TABLES):
                    self.part(table, later).unlink(missing_ok=True)

    def seal(self) -> None:
        """Write one file per table and mark the run finished.

        An interrupted seal can be repeated. A warning names epochs with flow alone.
        """
        if not is_sealed(self.path):
            warn_of_left_out(self.path, set(self.flow) - set(self.epochs))
        with disk_errors(self.path):
            if not is_sealed(self.path):
                self._write_whole_tables()
            remove_unfinished(self.path)
            for folder in (self.path / PARTS, self.checkpoint):
                if folder.exists():
                    shutil.rmtree(folder)

    def _write_whole_tables(self) -> None:
        version = {"schema_version": schema.SCHEMA_VERSION}
        spec = RunSpec.from_dict({**self.spec.to_dict(), **self._noted, **version})
        write_sealed(self.path, spec, {table: self.read(table) for table in spec.tables})

    def part(self, table: str, epoch: int) -> Path:
        """The file of a table's rows of one epoch, while the run is recorded."""
        return part_file(self.path, table, epoch)


def write_sealed(
    path: Path, spec: RunSpec, tables: Mapping[str, pd.DataFrame], *, level: int | None = None
) -> None:
    """Write the whole tables of a run and then its spec, which marks the run finished.

    Args:
        path: Existing run directory.
        spec: Facts of the run.
        tables: Rows by table name.
        level: Compression level of zstd, up to 22. Default: a quick one.
    """
    for table, rows in tables.items():
        whole = arrow_table(table, sort_rows(rows, table))
        write_table(path / f"{table}.parquet", whole, level=level)
    _write_spec(path, spec, sealed=True)


def read_spec(path: str | Path) -> RunSpec:
    """The spec of a run directory.

    Raises:
        LogError: If it is missing, corrupt, or of a newer schema.
    """
    facts = _read_spec_file(Path(path))
    facts.pop("sealed", None)
    try:
        return RunSpec.from_dict(older_columns.facts_now(facts))
    except (TypeError, LogError) as error:
        raise corrupt(Path(path) / SPEC_FILE, error) from error


def last_epoch_of(path: str | Path) -> int | None:
    """The last complete epoch of a run, finished or not; None if there is no such run or epoch."""
    if is_sealed(path):
        whole = read_file(Path(path) / "epochs.parquet", "epochs", TablePart(("epoch",)))
        return max(whole["epoch"].to_pylist(), default=None)
    return max(complete_epochs(path), default=None)


def reopen(path: str | Path) -> None:
    """Make a finished run unfinished again, so that a longer training can continue it.

    Does nothing where there is no finished run. An interrupted call leaves a run that can be
    reopened.

    Raises:
        LogError: If a file is corrupt, or the disk cannot be written to.
    """
    path = Path(path)
    if not is_sealed(path):
        return
    spec = read_spec(path)
    older_columns.check_continues(spec, path)
    log = RunLog(path, spec)
    whole = {name: path / f"{name}.parquet" for name in spec.tables}
    tables = {name: joined([read_file(file, name)], name) for name, file in whole.items()}
    with disk_errors(path):
        (path / PARTS).mkdir(exist_ok=True)
        for name, rows in tables.items():
            for epoch in rows["epoch"].unique():
                part = arrow_table(name, rows[rows["epoch"] == epoch])
                write_table(log.part(name, int(epoch)), part)
        _write_spec(path, spec, sealed=False)
        for file in whole.values():
            file.unlink(missing_ok=True)


def is_sealed(path: str | Path) -> bool:
    """Whether a run directory holds a finished run."""
    return (Path(path) / SPEC_FILE).exists() and bool(_read_spec_file(Path(path)).get("sealed"))


def check_same_options(path: str | Path, options: Mapping[str, Any]) -> RunSpec:
    """Check that a run was started with these options.

    Returns:
        The spec of the run.

    Raises:
        LogError: If an option differs; names it and both values.
    """
    before, stored = read_spec(path), _read_spec_file(Path(path))
    now = RunSpec.from_dict({"run": before.run, **json.loads(_as_json(options))})
    was, given = before.to_dict(), now.to_dict()
    # Options added by a later pruneviz version are not stored and cannot differ.
    compared = [name for name in _FIXED if name in options and name in stored]
    changed = [name for name in compared if was[name] != given[name]]
    if older_columns.same_but_errors(before, now):
        changed = [name for name in changed if name != "columns"]
    # other rows follow from another network; alone they are a choice of layers or units
    changed = [name for name in changed if name != "rows"] or changed
    if changed:
        differing = (f"{name} was {was[name]!r}, now {given[name]!r}" for name in changed)
        raise LogError(
            f"{path} was started with other options: {'; '.join(differing)}; "
            "use the old ones, or another folder"
        )
    return before


# Facts of a spec that may not change while a run is recorded.
_FIXED = (
    *("network", "dataset", "seed", "width", "image_size", "epochs", "unit"),
    *OPTION_NAMES,
    *("bn", "temperatures", "columns", "every", "lag", "mask_score", "mask_ratio"),
    *("weight_rows", "weight_rows_seed", "sample_size", "sample_seed", "samples", "dtype"),
    *("batch_size", "train_images", "lr", "lr_drops", "momentum", "weight_decay"),
    *("train_temperature", "augment", "precision", "rows", "kept"),
    *("oracle", "request_at", "draw_seed", "probes", "strata", "population"),
)


def _read_spec_file(path: Path) -> dict[str, Any]:
    file = path / SPEC_FILE
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        version = int(facts["schema_version"])
    except FileNotFoundError:
        raise LogError(
            f"{path} is no run directory: it has no {SPEC_FILE}; record one with pruneviz record"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise corrupt(file, error) from error
    if version > schema.SCHEMA_VERSION:
        raise LogError(
            f"{file} has schema {version}, this pruneviz reads up to {schema.SCHEMA_VERSION}; "
            "install a newer pruneviz"
        )
    return facts


def _write_spec(path: Path, spec: RunSpec, *, sealed: bool) -> None:
    text = _as_json({**spec.to_dict(), "sealed": sealed})
    write_whole(path / SPEC_FILE, lambda file: file.write_text(text + "\n", encoding="utf-8"))


def _as_json(facts: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    try:
        return json.dumps(dict(facts), indent=2, default=plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LogError(
            f"a fact of the run cannot be stored in {SPEC_FILE} ({error}); "
            "give finite numbers, texts and lists of them"
        ) from error


def _is_free(path: Path) -> bool:
    """Whether a run may start here: no file, and nothing but half-written files in a folder."""
    if not path.exists():
        return True
    return path.is_dir() and all(file.match(f".*{UNFINISHED}") for file in path.iterdir())


def _content_of(path: Path) -> str:
    if path.is_file():
        return "a file"
    if not (path / SPEC_FILE).exists():
        return "other files"
    run = read_spec(path).run
    if is_sealed(path):
        return f"the finished run {run}"
    return f"the unfinished run {run} (continue it with resume=True, or 'auto')"
