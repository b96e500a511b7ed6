"""One run directory: create, append, seal and resume.

```
<run>/spec.json  epochs.parquet  filters.parquet  rounds.parquet  correlations.parquet   sealed
<run>/spec.json  parts/filters-00010.parquet  ...  .lock                         being recorded
```
A run with flow also has flow.parquet.

Files are written atomically, so a killed process leaves no half-written ones. The epochs part of an
epoch is written last: an epoch without it is incomplete and not read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log import older_columns, schema
from pruneviz.log.checkpoint_names import CHECKPOINTS
from pruneviz.log.checksums import FileSum
from pruneviz.log.epoch_parts import PARTS, complete_epochs, part_file, parts_of
from pruneviz.log.files import disk_errors, is_unfinished, make_folder, remove_unfinished
from pruneviz.log.flow_epochs import check_free, warn_of_left_out
from pruneviz.log.leftovers import remove_recording
from pruneviz.log.noted_facts import read_noted, write_noted
from pruneviz.log.parquet import TablePart, arrow_table, joined, read_file, sort_rows, write_table
from pruneviz.log.part_chain import PartChain
from pruneviz.log.planned_epochs import check_planned
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.log.run_lock import LOCK_FILE, RunLock, check_idle, released_on_error
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.spec_file import (
    SPEC_FILE,
    as_json,
    check_room,
    is_sealed,
    read_spec,
    stored_facts,
    write_spec,
)


class RunLog:
    """A run directory that is open for writing: one `append` per epoch, then `seal`.

    Use `RunLog.create` or `RunLog.resume` to open one.

    Raises:
        LogError: On misuse, or if the disk cannot be written to. Appended epochs stay.
    """

    def __init__(self, path: Path, spec: RunSpec, parts: PartChain | None = None) -> None:
        self.path, self.spec = path, spec
        self.planned: Collection[int] | None = None  # epochs without which it is not sealed
        self._parts = parts
        self._noted = read_noted(path / CHECKPOINTS)
        self.flow: dict[int, set[str]] = {}  # layers by epoch, of this process

    @classmethod
    def create(cls, path: str | Path, spec: RunSpec) -> RunLog:
        """Start a new run in `path`, which must be empty or missing."""
        path = Path(path).absolute()  # the same folder, also after a change of the working one
        _check_free(path)
        check_room(spec.to_dict())  # before anything is written
        with disk_errors(path):
            make_folder(path)
            lock = RunLock(path)
            try:
                _check_free(path)  # another process may have been faster
                write_spec(path, spec)
                make_folder(path / PARTS)
                return cls(path, spec, PartChain.begin(path, lock))
            except BaseException:
                # another process may have finished it meanwhile, which needs no lock any more
                lock.release(remove=_is_free(path) or is_sealed(path))
                raise

    @classmethod
    def resume(cls, path: str | Path, spec: RunSpec) -> RunLog:
        """Continue an unfinished run; `spec` must agree with its original spec."""
        path = Path(path).absolute()
        _check_unfinished(path)
        before = check_same_options(path, spec.to_dict())
        older_columns.check_continues(before, path)
        lock = RunLock(path)
        try:
            _check_unfinished(path)  # another process may have finished it meanwhile
        except LogError:
            lock.release(remove=True)
            raise
        with released_on_error(lock.release), disk_errors(path):
            remove_unfinished(path)
            # missing if the process was killed during creation
            make_folder(path / PARTS)
            parts = PartChain(path, lock, before.schema_version)
            parts.warn_of_damage()
            return cls(path, before, parts)

    @property
    def epochs(self) -> list[int]:
        """Complete epochs, ascending; after a damage none."""
        return complete_epochs(self.path) if self._parts is None else self._parts.epochs

    @property
    def lost(self) -> str | None:
        """What was lost or damaged of the epochs after `epochs`, in words; None if nothing was."""
        damage = self._parts.damage if self._parts is not None else None
        return None if damage is None else damage.fault

    @property
    def checkpoint(self) -> Path:
        """Folder for the checkpoint of a training loop; removed when the run is sealed.

        Raises:
            LogError: If another recorder or process has taken over the run.
        """
        if self._parts is not None and not is_sealed(self.path):
            self._parts.lock.check_not_taken()
        return self.path / CHECKPOINTS

    def take(self) -> None:
        """Take the run to write into it, if it was released and nobody else took it."""
        self._writing()

    def release(self) -> None:
        """Let other processes record the run; the next write takes it back, if none did."""
        if self._parts is not None:
            self._parts.lock.release()

    def _writing(self) -> PartChain:
        """The parts, if the run is still this log's to write."""
        if self._parts is None:
            lock = RunLock(self.path)
            with released_on_error(lock.release):
                self._parts = PartChain(self.path, lock, self.spec.schema_version)
        self._parts.lock.check()
        return self._parts

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
        parts = self._writing()
        if epoch in parts.epochs:
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
            parts.append(epoch, tables)

    def replace(
        self,
        epoch: int,
        *,
        epochs: pd.DataFrame,
        filters: pd.DataFrame,
        correlations: pd.DataFrame | None = None,
        halves: pd.DataFrame | None = None,
    ) -> None:
        """Write rows of the last epoch anew; tables that are not given stay."""
        parts = self._writing()
        if epoch != max(parts.epochs, default=None):
            raise LogError(f"{self.path}: only the last epoch can be written anew, not {epoch}")
        given = {
            "filters": filters,
            "correlations": correlations,
            "halves": halves,
            "epochs": epochs,
        }
        with disk_errors(self.path):
            parts.replace(self._tables(given))

    def add_flow(self, epoch: int, rows: pd.DataFrame) -> None:
        """Write rows of a table of flow, beside those that this process took before.

        Raises:
            LogError: If a later epoch is recorded, or a layer has flow at this epoch.
        """
        if is_sealed(self.path):
            raise LogError(f"{self.path} is closed; take the flow before the recorder is closed")
        parts, layers = self._writing(), set(rows["layer"])
        check_free(self.path, epoch, layers, self.flow)
        added = rows.assign(run=self.spec.run)
        if epoch in self.flow:  # else there may be rows of a process that was killed
            before = self.rows_at("flow", epoch).astype({"run": str, "layer": str})
            added = pd.concat([before, added])
        with disk_errors(self.path):
            parts.add_flow(epoch, arrow_table("flow", added))
        self.flow.setdefault(epoch, set()).update(layers)

    def _tables(self, given: Mapping[str, pd.DataFrame | None]) -> dict[str, pa.Table]:
        return {
            name: arrow_table(name, frame.assign(run=self.spec.run))
            for name, frame in given.items()
            if frame is not None
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the run that are known, with those that were noted."""
        known = {**self.spec.to_dict(), **self._noted}
        return {name: value for name, value in known.items() if value is not None}

    def note(self, facts: Mapping[str, Any], *, of_pruneviz: bool = False) -> None:
        """Add facts to the spec; they are written to `spec.json` when the run is sealed.

        Until then they are on disk beside the checkpoint, so a run that is resumed has them. An
        earlier note of the same name is replaced. There is always room for those of pruneviz.

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
        noted = {**self._noted, **facts}
        check_room(RunSpec.from_dict({**spec, **noted}).to_dict(), of_pruneviz=of_pruneviz)
        with disk_errors(self.path):
            self._writing()
            write_noted(self.path / CHECKPOINTS, noted)
        self._noted = noted

    def read(self, table: str) -> pd.DataFrame:
        """All rows appended to a table."""
        return joined(
            [read_file(part, table) for part in parts_of(self.path, table, self.epochs)], table
        )

    def rows_at(self, table: str, epoch: int) -> pd.DataFrame:
        """The rows of a recorded epoch in a table."""
        part = self.part(table, epoch)
        return joined([read_file(part, table)] if part.exists() else [], table)

    def drop_after(self, epoch: int) -> None:
        """Delete the epochs after `epoch`, to resume from an earlier checkpoint."""
        parts = self._writing()
        with disk_errors(self.path):
            parts.drop_after(epoch)
        self.flow = {known: layers for known, layers in self.flow.items() if known <= epoch}

    def seal(self) -> None:
        """Write one file per table and mark the run finished.

        An interrupted seal can be repeated. A warning names epochs with flow alone.

        Raises:
            LogError: If a part is lost or damaged, a planned epoch is missing, or the disk cannot
                be written to. Nothing is lost by it.
        """
        with disk_errors(self.path):
            if not is_sealed(self.path):
                self._writing().check()
                check_planned(self.path, self.epochs, self.planned, self.spec.epochs)
                warn_of_left_out(self.path, set(self.flow) - set(self.epochs))
                self._write_whole_tables()
            remove_recording(self.path)
        if self._parts is not None:
            self._parts.lock.release(remove=True)

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
    sums = {}
    for table, rows in tables.items():
        whole, file = arrow_table(table, sort_rows(rows, table)), path / f"{table}.parquet"
        write_table(file, whole, level=level)
        sums[table] = FileSum.of_file(file)
    write_spec(path, spec, sums)


def last_epoch_of(path: str | Path) -> int | None:
    """The last complete epoch of a run, finished or not; None if there is no such run or epoch."""
    if is_sealed(path):
        whole = read_file(Path(path) / "epochs.parquet", "epochs", TablePart(("epoch",)))
        return max(whole["epoch"].to_pylist(), default=None)
    return max(complete_epochs(path), default=None)


def check_same_options(path: str | Path, options: Mapping[str, Any]) -> RunSpec:
    """Check that a run was started with these options.

    Returns:
        The spec of the run.

    Raises:
        LogError: If an option differs; names it and both values.
    """
    before, stored = read_spec(path), stored_facts(Path(path))
    now = RunSpec.from_dict({"run": before.run, **json.loads(as_json(options))})
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


def _check_free(path: Path) -> None:
    """Check that a run may start in a folder."""
    if not _is_free(path):
        check_idle(path)
        raise LogError(
            f"{path} already holds {_content_of(path)}; choose another folder, or delete it first"
        )


def _is_free(path: Path) -> bool:
    """Whether there is nothing, or a folder with nothing but what a killed process left."""
    if not path.exists():
        return True
    inside = path.iterdir() if path.is_dir() else [path]
    return all(file.name == LOCK_FILE or is_unfinished(file) for file in inside)


def _check_unfinished(path: Path) -> None:
    if is_sealed(path):
        nothing = "there is nothing to resume, choose another folder or delete it"
        raise LogError(f"{path} is a finished run; {nothing}")


def _content_of(path: Path) -> str:
    if path.is_file():
        return "a file"
    if not (path / SPEC_FILE).exists():
        return "other files"
    run = read_spec(path).run
    if is_sealed(path):
        return f"the finished run {run}"
    return f"the unfinished run {run} (continue it with resume=True, or 'auto')"
