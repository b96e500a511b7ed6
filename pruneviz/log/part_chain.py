"""The parts of an unfinished run as a chain, so that one that is lost or changed is noticed.

The epochs part of an epoch is written last, and holds in its metadata a record: rows, bytes and
SHA-256 of the other parts of its epoch, and the number and SHA-256 of the epochs part before it.
While a part is exchanged, such as by a measurement at the end, the record names the old and the new
one, so that a killed process leaves a valid chain at every moment. The last epoch of all is kept in
the lock file: a chain does not tell that it was once longer.

Parts of a run that a pruneviz before schema 4 began have no records, and may stand at its start.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.checksums import FileSum, sha256_of
from pruneviz.log.epoch_parts import complete_epochs, mark_dropped, part_file, parts_after
from pruneviz.log.files import write_whole
from pruneviz.log.parquet import read_errors, read_file, table_bytes
from pruneviz.log.regular_files import is_something
from pruneviz.log.run_lock import RunLock
from pruneviz.log.table_files import footer_of

_logger = logging.getLogger("pruneviz")

_KEY = b"pruneviz"  # of the record in the metadata of an epochs part
_Sums: TypeAlias = tuple[FileSum | None, ...]


@dataclass(frozen=True)
class Record:
    """What an epochs part says of its epoch.

    Attributes:
        run_id: Tells the run from others of its name.
        epoch: Number of epochs trained.
        previous: Number and SHA-256 of the epochs part before; None at the first.
        parts: By table, what its part may be; None stands for no part.
    """

    run_id: str
    epoch: int
    previous: tuple[int, str] | None
    parts: Mapping[str, _Sums]

    @property
    def is_settled(self) -> bool:
        """Whether no part of the epoch is being exchanged."""
        return all(len(sums) == 1 for sums in self.parts.values())

    def to_json(self) -> str:
        """The record as text."""
        parts = {name: [s and s.to_facts() for s in sums] for name, sums in self.parts.items()}
        return json.dumps({**vars(self), "parts": parts})

    @classmethod
    def from_json(cls, text: bytes) -> Record:
        """The record of a text.

        Raises:
            ValueError: If it is none.
        """
        found = json.loads(text)
        try:
            previous = found["previous"]
            parts = {
                str(name): tuple(None if s is None else FileSum.from_facts(s) for s in sums)
                for name, sums in found["parts"].items()
            }
            at = None if previous is None else (int(previous[0]), str(previous[1]))
            return cls(str(found["run_id"]), int(found["epoch"]), at, parts)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"its record is no record: {error}") from error


@dataclass(frozen=True)
class Damage:
    """Where a chain of parts breaks.

    Attributes:
        epoch: The first epoch that cannot be used.
        fault: What is wrong.
        until: The last epoch that is known to be lost.
    """

    epoch: int
    fault: str
    until: int = -1


@dataclass(frozen=True)
class Links:
    """What is on disk of a chain.

    Attributes:
        sums: SHA-256 of the epochs part, by epoch, up to the damage.
        run_id: Id of the run in the records; "" without any.
        damage: Where it breaks; None if it is whole.
    """

    sums: Mapping[int, str]
    run_id: str
    damage: Damage | None


def links_of(path: Path, run_id: str, last: int | None, *, older: bool) -> Links:
    """Check all parts of an unfinished run.

    Args:
        path: Run directory.
        run_id: Id of the run; "" if it is not known.
        last: The last epoch that was recorded; None if it is not known.
        older: Whether an older pruneviz began the run, so that its first parts have no records.

    Raises:
        LogError: If a part belongs to another recording.
    """
    sums: dict[int, str] = {}
    damage = None
    for epoch in complete_epochs(path):
        file = part_file(path, "epochs", epoch)
        try:
            record = record_of(file)
        except LogError as error:
            damage = Damage(epoch, str(error).partition(";")[0])
            break
        if record is not None:
            run_id = run_id or record.run_id
            _check_same_run(file, record, run_id)
            damage = _broken_link(path, epoch, record, sums) or _damaged_part(path, epoch, record)
            older = False
        elif not older:
            damage = Damage(epoch, f"{file} is corrupt (it has no record of its epoch)")
        if damage:
            break
        sums[epoch] = sha256_of(file)
    held = max(sums, default=-1)
    if damage is None and last is not None and last > held:
        lost = part_file(path, "epochs", last)
        damage = Damage(held + 1, f"{lost} is missing", last)
    whole = {epoch: sum for epoch, sum in sums.items() if damage is None or epoch < damage.epoch}
    return Links(whole, run_id, damage)


def record_of(file: Path) -> Record | None:
    """The record in an epochs part; None if an older pruneviz wrote it.

    Raises:
        LogError: If the file is missing or corrupt.
    """
    with read_errors(file):
        text = (footer_of(file).metadata or {}).get(_KEY)
        return None if text is None else Record.from_json(text)


def _check_same_run(file: Path, record: Record, run_id: str) -> None:
    if record.run_id != run_id:
        raise LogError(
            f"{file} belongs to another recording; put the parts of this one back, or delete the "
            "run and record it again"
        )


def _broken_link(path: Path, epoch: int, record: Record, sums: Mapping[int, str]) -> Damage | None:
    last = max(sums, default=-1)
    named, sha256 = record.previous or (-1, "")
    if record.epoch != epoch:
        file = part_file(path, "epochs", epoch)
        return Damage(epoch, f"{file} is corrupt (it is of epoch {record.epoch})")
    if named > last:
        return Damage(last + 1, f"{part_file(path, 'epochs', named)} is missing", named)
    if named < last:
        extra = part_file(path, "epochs", last)
        return Damage(named + 1, f"{extra} was not there when epoch {epoch} was recorded")
    if sums and sha256 != sums[last]:
        changed = part_file(path, "epochs", last)
        return Damage(last, f"{changed} is corrupt (it is not what was recorded)")
    return None


def _damaged_part(path: Path, epoch: int, record: Record) -> Damage | None:
    """The damage of a part beside the epochs part."""
    for table in schema.TABLES:
        file = part_file(path, table, epoch)
        expected = record.parts.get(table, (None,))
        if table == "epochs":
            continue
        if not is_something(file):
            if None not in expected:
                return Damage(epoch, f"{file} is missing")
        elif sha256_of(file) not in {known.sha256 for known in expected if known}:
            return Damage(epoch, f"{file} is corrupt (it is not what was recorded)")
    return None


class PartChain:
    """The parts of an unfinished run, open for writing.

    Args:
        path: Run directory.
        lock: Its lock, held.
        schema_version: Of the pruneviz that began the run.

    Attributes:
        lock: As given.
        damage: What was lost before; the chain goes on before it. None without.

    Raises:
        LogError: If a part belongs to another recording.
    """

    def __init__(self, path: Path, lock: RunLock, schema_version: int) -> None:
        self._path, self.lock, self._older = path, lock, schema_version < schema.RECORDS_SINCE
        links = links_of(path, lock.run_id, lock.last, older=self._older)
        self._sums, self.damage = dict(links.sums), links.damage
        self._run_id = links.run_id or secrets.token_hex(16)
        if not lock.run_id and self.damage is None:
            self._keep_last()

    @classmethod
    def begin(cls, path: Path, lock: RunLock) -> PartChain:
        """Begin the chain of a new run, whose folder of parts is empty."""
        lock.keep(secrets.token_hex(16), -1)
        return cls(path, lock, schema.SCHEMA_VERSION)

    @property
    def epochs(self) -> list[int]:
        """The recorded epochs, ascending."""
        return sorted(self._sums)

    def append(self, epoch: int, tables: Mapping[str, pa.Table]) -> None:
        """Write the parts of a further epoch.

        Args:
            epoch: The epoch.
            tables: Rows by table, the epochs table among them.

        Raises:
            LogError: If an earlier epoch was lost.
        """
        if self.damage:
            if epoch > max(self.damage.epoch, self.damage.until):
                raise self._lost(self.damage)
            self.drop_after(max(self.epochs, default=-1))
        listed: dict[str, _Sums] = {}
        for name in schema.TABLES:
            file = part_file(self._path, name, epoch)
            if name == "epochs":
                continue
            if name in tables:
                content = table_bytes(tables[name])
                _write(file, content)
                listed[name] = (FileSum.of_content(content, len(tables[name])),)
            elif name == "flow" and is_something(file):  # taken before the epoch is recorded
                listed[name] = (FileSum.of_file(file),)
            else:
                file.unlink(missing_ok=True)  # of a process that was killed at this epoch
        self._commit(epoch, tables["epochs"], listed)
        self._keep_last()

    def replace(self, tables: Mapping[str, pa.Table]) -> None:
        """Write parts of the last epoch anew; others stay.

        Args:
            tables: Rows by table.
        """
        epoch = self.epochs[-1]
        file = part_file(self._path, "epochs", epoch)
        listed, row = self._listed(epoch), read_file(file, "epochs")
        contents = {name: table_bytes(rows) for name, rows in tables.items() if name != "epochs"}
        new = {
            name: FileSum.of_content(content, len(tables[name]))
            for name, content in contents.items()
        }
        # either part is right until the new ones are written
        either = {name: (*listed.get(name, (None,)), sum) for name, sum in new.items()}
        self._commit(epoch, row, listed | either)
        for name, content in contents.items():
            _write(part_file(self._path, name, epoch), content)
        self._commit(epoch, tables.get("epochs", row), listed | {n: (s,) for n, s in new.items()})

    def add_flow(self, epoch: int, rows: pa.Table) -> None:
        """Write the flow of the last epoch, or of one that is not recorded yet.

        Args:
            epoch: The epoch.
            rows: All rows of its flow.

        Raises:
            LogError: If a later epoch is recorded.
        """
        last = max(self.epochs, default=-1)
        if epoch == last:
            self.replace({"flow": rows})
        elif epoch > last:
            _write(part_file(self._path, "flow", epoch), table_bytes(rows))
        else:
            raise LogError(
                f"{self._path} holds epoch {last}, so the flow of epoch {epoch} is too late; take "
                "it before the next epoch is recorded"
            )

    def drop_after(self, epoch: int) -> None:
        """Delete the parts of the epochs after `epoch`.

        Raises:
            LogError: If the epoch itself was lost.
        """
        if self.damage and epoch >= self.damage.epoch:
            raise self._lost(self.damage)
        mark_dropped(self._path, epoch, self.lock.last)
        self._sums = {known: sum for known, sum in self._sums.items() if known <= epoch}
        self.damage = None
        self._keep_last()  # first, so that what is deleted now is not missing
        # Later epochs first, and their epochs part first, which marks them as complete.
        for file in parts_after(self._path, epoch):
            file.unlink(missing_ok=True)

    def check(self) -> None:
        """Check that all parts are as they were written.

        Raises:
            LogError: If one is not; names it.
        """
        run_id, last = self._run_id, self.lock.last
        found = links_of(self._path, run_id, last, older=self._older)
        damage = self.damage or found.damage
        if damage:
            raise self._lost(damage)
        if dict(found.sums) != self._sums:
            raise LogError(
                f"the parts in {self._path} are not those that were recorded; put those back, or "
                "delete the run and record it again"
            )

    def warn_of_damage(self) -> None:
        """Say what was lost, as it is recorded again where the network of the epoch before is."""
        if self.damage:
            before = max(self.epochs, default=None)
            _logger.warning(
                "%s, so %s goes on after epoch %s and what comes after is recorded again; to keep "
                "it, restore the file from a backup before the next epoch",
                *(self.damage.fault, self._path, before),
            )

    def _listed(self, epoch: int) -> dict[str, _Sums]:
        """The parts beside the epochs part of a recorded epoch."""
        record = record_of(part_file(self._path, "epochs", epoch))
        if record is not None:
            return dict(record.parts)
        files = {name: part_file(self._path, name, epoch) for name in schema.TABLES}
        del files["epochs"]
        return {
            name: (FileSum.of_file(file),) for name, file in files.items() if is_something(file)
        }

    def _commit(self, epoch: int, row: pa.Table, listed: Mapping[str, _Sums]) -> None:
        """Write the epochs part, which makes the parts beside it those of the epoch."""
        earlier = max((known for known in self._sums if known < epoch), default=None)
        previous = None if earlier is None else (earlier, self._sums[earlier])
        record = Record(self._run_id, epoch, previous, listed)
        content = table_bytes(row.replace_schema_metadata({_KEY: record.to_json()}))
        _write(part_file(self._path, "epochs", epoch), content)
        self._sums[epoch] = FileSum.of_content(content, len(row)).sha256

    def _keep_last(self) -> None:
        self.lock.keep(self._run_id, max(self._sums, default=-1))

    def _lost(self, damage: Damage) -> LogError:
        before = max((epoch for epoch in self._sums if epoch < damage.epoch), default=-1)
        if before < 0:
            return LogError(
                f"{damage.fault}; restore it from a backup, or delete the run and record it again"
            )
        return LogError(
            f"{damage.fault}, so {self._path} is whole up to epoch {before} only; restore it from "
            f"a backup, or restore the network of epoch {before} and call "
            f"recorder.rewind({before})"
        )


def _write(file: Path, content: bytes) -> None:
    write_whole(file, lambda temporary: temporary.write_bytes(content))
