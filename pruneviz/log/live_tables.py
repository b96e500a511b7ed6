"""The tables of an unfinished run, all up to the same epoch, while another process writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.checksums import sha256_of
from pruneviz.log.epoch_parts import complete_epochs, part_file
from pruneviz.log.parquet import corrupt, read_errors, read_file
from pruneviz.log.part_chain import Record, record_of
from pruneviz.log.regular_files import is_something
from pruneviz.log.run_lock import recorded_so_far
from pruneviz.log.spec_file import is_sealed

_TRIES, _PAUSE = 50, 0.02
_SETTLES = 5  # tries in which a part is exchanged, unless the process that did so was killed

Choose: TypeAlias = Callable[[pa.Table], Sequence[int]]


def tables_now(path: Path, choose: Choose | None = None) -> dict[str, pa.Table] | None:
    """All tables of an unfinished run, as they were at one moment.

    Args:
        path: Run directory.
        choose: Tells from the epochs table which epochs of the filters to read. Default: all.

    Returns:
        Rows by table, up to the last complete epoch; None if the run was finished meanwhile.

    Raises:
        LogError: If a part is lost or corrupt, and not just replaced by the process that writes.
    """
    for tries in range(_TRIES):
        _, last = recorded_so_far(path)
        before, fault, tables, settled = _marks(path), None, {}, True
        try:
            _check_last(path, before, last)
            records = {epoch: record_of(part_file(path, "epochs", epoch)) for epoch in before}
            settled = all(record is None or record.is_settled for record in records.values())
            tables = _tables(path, records, choose)
        except LogError as error:
            fault = error
        if is_sealed(path):
            return None
        after = _marks(path)
        rewound = fault is not None and recorded_so_far(path)[1] != last
        if not rewound and all(after.get(epoch) == mark for epoch, mark in before.items()):
            if fault is not None:
                raise fault
            if settled or tries >= _SETTLES:
                return tables
        time.sleep(_PAUSE)
    raise LogError(f"{path} changed whenever it was read; read it when it is recorded more slowly")


def _marks(path: Path) -> dict[int, tuple[int, int, int]]:
    """What tells whether the epochs part of each complete epoch is still the same file."""
    found = {}
    for epoch in complete_epochs(path):
        with suppress(OSError):  # dropped meanwhile
            facts = part_file(path, "epochs", epoch).stat()
            found[epoch] = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
    return found


def _tables(
    path: Path, records: dict[int, Record | None], choose: Choose | None
) -> dict[str, pa.Table]:
    _check_unbroken(path, records)
    tables = {"epochs": _rows(path, "epochs", records, records)}
    for table in schema.TABLES:
        if table != "epochs":
            chosen = choose(tables["epochs"]) if choose and table == "filters" else records
            tables[table] = _rows(path, table, records, [e for e in records if e in chosen])
    return tables


def _check_unbroken(path: Path, records: dict[int, Record | None]) -> None:
    last = None
    for epoch, record in records.items():
        before = None if record is None or record.previous is None else record.previous[0]
        if record is not None and record.epoch != epoch:
            file = part_file(path, "epochs", epoch)
            raise corrupt(file, ValueError(f"it is of epoch {record.epoch}"))
        if record is not None and before != last:
            lost = part_file(path, "epochs", epoch if before is None else before)
            raise LogError(
                f"{lost} is missing, or others were added; restore it from a backup, or delete the "
                "run and record it again"
            )
        if record is not None and record.previous is not None:
            file = part_file(path, "epochs", record.previous[0])
            _check_sum(file, {record.previous[1]})
        last = epoch


def _check_last(path: Path, held: Collection[int], last: int | None) -> None:
    if not held and is_something(path / "epochs.parquet"):
        raise LogError(
            f"{path} holds whole tables and no parts, and its spec says that it is unfinished; "
            "restore the spec, or the folder parts, from a backup"
        )
    if last is not None and last > max(held, default=-1):
        lost = part_file(path, "epochs", last)
        raise LogError(
            f"{lost} is missing; restore it from a backup, or repeat the command or training loop "
            "that recorded the run"
        )


def _check_sum(file: Path, expected: Collection[str]) -> None:
    with read_errors(file):
        if expected and sha256_of(file) not in expected:
            raise ValueError("it is not what was recorded")


def _rows(
    path: Path, table: str, records: dict[int, Record | None], epochs: Iterable[int]
) -> pa.Table:
    parts = [schema.arrow_schema(table, []).empty_table()]
    for epoch in epochs:
        file, record = part_file(path, table, epoch), records[epoch]
        if table != "epochs" and not _is_expected(file, table, record):
            continue
        named = () if record is None else record.parts.get(table, ())
        _check_sum(file, {known.sha256 for known in named if known is not None})
        parts.append(read_file(file, table))
    found = pa.concat_tables(parts, promote_options="default")
    keys = [(key, "ascending") for key in schema.SORT_KEYS[table] if key != "run"]
    return found.sort_by(keys)  # stable


def _is_expected(file: Path, table: str, record: Record | None) -> bool:
    """Whether to read a part: one that is named and missing is an error when it is read."""
    if record is None:  # of an older pruneviz, which names none
        return is_something(file)
    named = record.parts.get(table, (None,))
    return None not in named or (len(named) > 1 and is_something(file))
