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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.files import UNFINISHED, disk_errors, remove_unfinished, write_whole
from pruneviz.log.parquet import arrow_table, corrupt, joined, read_file, sort_rows, write_table
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.log.schema import RunSpec

SPEC_FILE, _PARTS, _CHECKPOINT = "spec.json", "parts", "checkpoint"


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
        if path.is_file() or (
            path.is_dir() and not all(p.match(f".*{UNFINISHED}") for p in path.iterdir())
        ):
            raise LogError(
                f"{path} already holds {_what_lies_in(path)}; choose another folder, or delete it first"
            )
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
            raise LogError(
                f"{path} is a finished run; there is nothing to resume, choose another folder or delete it"
            )
        before = check_same_options(path, spec.to_dict())
        with disk_errors(path):
            remove_unfinished(path)
            # a run that was killed while it was created may lack it
            (path / _PARTS).mkdir(exist_ok=True)
        return cls(path, before)

    @property
    def epochs(self) -> list[int]:
        """The epochs that are wholly on disk, ascending."""
        return sorted(
            int(part.stem.rsplit("-", 1)[1])
            for part in (self.path / _PARTS).glob("epochs-*.parquet")
        )

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
        given = {
            "filters": filters,
            "rounds": rounds,
            "correlations": correlations,
            "epochs": epochs,
        }
        tables = {
            name: arrow_table(name, frame.assign(run=self.spec.run))
            for name, frame in given.items()
            if frame is not None
        }
        with disk_errors(self.path):
            for name in set(given) - set(tables):
                self._part(name, epoch).unlink(
                    missing_ok=True
                )  # left by a process that was killed at this epoch
            for name, table in tables.items():
                write_table(self._part(name, epoch), table)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the spec, which become part of `spec.json` when the run is sealed; one may be noted anew, as of a later time.

        Errors: `LogError` for a fact that the spec holds already, one that cannot be stored, and a run that is closed.
        """
        if is_sealed(self.path):
            raise LogError(f"{self.path} is closed; note facts before the run is sealed")
        held = [
            name
            for name, value in self.spec.to_dict().items()
            if name in facts and value is not None
        ]
        if held:
            raise LogError(
                f"the spec of {self.spec.run} holds {', '.join(held)} already; note the fact under another name"
            )
        _as_json(RunSpec.from_dict({**self.spec.to_dict(), **facts}).to_dict())
        self._noted |= facts

    def read(self, table: str) -> pd.DataFrame:
        """What has been appended to a table so far."""
        return joined([read_file(part, table) for part in parts_of(self.path, table)], table)

    def drop_after(self, epoch: int) -> None:
        """Forget the epochs after `epoch`, which a training loop resumed from an earlier checkpoint will write again."""
        with disk_errors(self.path):
            for later in (e for e in self.epochs if e > epoch):
                for table in (
                    "epochs",
                    *schema.TABLES,
                ):  # the epochs part first: without it the others do not count
                    self._part(table, later).unlink(missing_ok=True)

    def seal(self) -> None:
        """Turn the parts into one file a table and mark the run finished; an interrupted seal can be repeated."""
        with disk_errors(self.path):
            if not is_sealed(self.path):
                for table in schema.TABLES:
                    write_table(
                        self.path / f"{table}.parquet",
                        arrow_table(table, sort_rows(self.read(table), table)),
                    )
                facts = {
                    **self.spec.to_dict(),
                    **self._noted,
                    "schema_version": schema.SCHEMA_VERSION,
                }
                _write_spec(self.path, RunSpec.from_dict(facts), sealed=True)
            remove_unfinished(self.path)
            for folder in (self.path / _PARTS, self.checkpoint):
                if folder.exists():
                    shutil.rmtree(folder)

    def _part(self, table: str, epoch: int) -> Path:
        return self.path / _PARTS / f"{table}-{epoch:05d}.parquet"


def run_paths(path: str | Path) -> list[Path]:
    """The run directories at or below `path`, sorted; `LogError` where there are none."""
    path = Path(path)
    if not path.is_dir():
        raise LogError(f"there is no folder {path}; record one with python -m pruneviz.record")
    found = sorted(spec.parent for spec in path.rglob(SPEC_FILE))
    if not found:
        raise LogError(
            f"{path} holds no recordings (no {SPEC_FILE} in it or below it); record some with python -m pruneviz.record"
        )
    return found


def read_spec(path: str | Path) -> RunSpec:
    """The spec of a run directory; `LogError` when it is missing, corrupt, or of a newer schema."""
    facts = _read_spec_file(Path(path))
    facts.pop("sealed", None)
    try:
        return RunSpec.from_dict(facts)
    except (TypeError, LogError) as error:
        raise corrupt(Path(path) / SPEC_FILE, error) from error


def is_sealed(path: str | Path) -> bool:
    """Whether a run directory holds a finished run."""
    return (Path(path) / SPEC_FILE).exists() and bool(_read_spec_file(Path(path)).get("sealed"))


def check_same_options(path: str | Path, options: Mapping[str, Any]) -> RunSpec:
    """The spec of a run directory; `LogError` naming the options with which it was started and that differ from these."""
    before, stored = read_spec(path), _read_spec_file(Path(path))
    now = RunSpec.from_dict({"run": before.run, **json.loads(_as_json(options))})
    was, are = before.to_dict(), now.to_dict()
    # an option that the run's pruneviz did not know yet cannot differ
    differing = [
        name for name in _FIXED if name in options and name in stored and was[name] != are[name]
    ]
    if differing:
        told = "; ".join(f"{name} was {was[name]!r}, now {are[name]!r}" for name in differing)
        raise LogError(
            f"{path} was started with other options: {told}; use the old ones, or another folder"
        )
    return before


_FIXED = (
    "network", "dataset", "seed", "width", "image_size", "epochs", "unit", *OPTION_NAMES, "bn", "temperatures", "columns",
    "every", "lag", "mask_score", "mask_ratio", "weight_rows", "weight_rows_seed", "sample_size", "sample_seed", "dtype",
    "batch_size", "train_images", "lr", "lr_drops", "momentum", "weight_decay", "train_temperature", "augment", "precision",
)  # fmt: skip


def _read_spec_file(path: Path) -> dict[str, Any]:
    file = path / SPEC_FILE
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        version = int(facts["schema_version"])
    except FileNotFoundError:
        raise LogError(
            f"{path} is no run directory: it has no {SPEC_FILE}; record one with python -m pruneviz.record"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise corrupt(file, error) from error
    if version > schema.SCHEMA_VERSION:
        raise LogError(
            f"{file} has schema {version}, this pruneviz reads up to {schema.SCHEMA_VERSION}; install a newer pruneviz"
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
            f"a fact of the run cannot be stored in {SPEC_FILE} ({error}); give finite numbers, texts and lists of them"
        ) from error


def parts_of(path: Path, table: str) -> list[Path]:
    """The files of a table of a run that is being recorded, of whole epochs alone."""
    whole = sorted(
        part.name.removeprefix("epochs-") for part in (path / _PARTS).glob("epochs-*.parquet")
    )
    parts = [path / _PARTS / f"{table}-{epoch}" for epoch in whole]
    return [part for part in parts if part.exists()]


def _what_lies_in(path: Path) -> str:
    if path.is_file():
        return "a file"
    if (path / SPEC_FILE).exists():
        return (
            f"the finished run {read_spec(path).run}"
            if is_sealed(path)
            else f"the unfinished run {read_spec(path).run} (go on with resume=True)"
        )
    return "other files"
