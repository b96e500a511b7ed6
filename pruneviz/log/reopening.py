"""A finished run, made unfinished again, so that a longer training can continue it."""

from __future__ import annotations

from pathlib import Path

from pruneviz.log import older_columns
from pruneviz.log.epoch_parts import PARTS, is_of_parts
from pruneviz.log.files import disk_errors, make_folder
from pruneviz.log.parquet import arrow_table, joined
from pruneviz.log.part_chain import PartChain
from pruneviz.log.recordings import recordings_at
from pruneviz.log.run_lock import RunLock
from pruneviz.log.run_spec import PRUNED, RunSpec
from pruneviz.log.spec_file import is_sealed, read_spec, write_spec
from pruneviz.log.spooled_runs import own_copy


def reopen(path: str | Path) -> None:
    """Make a finished run unfinished again.

    Does nothing where there is no finished run. An interrupted call leaves a run that can be
    reopened.

    Raises:
        LogError: If a file is corrupt, another process records the run, or the disk cannot be
            written to.
    """
    path = Path(path)
    if not is_sealed(path):
        return
    own_copy(path)
    older_columns.check_continues(read_spec(path), path)
    lock = RunLock(path)
    try:
        if is_sealed(path):
            _reopen(path, lock)
    finally:
        lock.release()


def _reopen(path: Path, lock: RunLock) -> None:
    (recording,) = recordings_at([path])
    spec = read_spec(path)  # with the name of the run, which a recording may have another of
    tables = {name: joined(recording.read(name), name) for name in spec.tables}
    if spec.extra.get(PRUNED) is True and not spec.rounds:
        # seen in the last epoch, which may be dropped; it is seen again at the end
        facts = spec.to_dict()
        del facts[PRUNED]
        spec = RunSpec.from_dict(facts)
    with disk_errors(path):
        make_folder(path / PARTS)
        for part in list((path / PARTS).iterdir()):  # of a call that was interrupted
            if is_of_parts(part.name):
                part.unlink()
        parts = PartChain.begin(path, lock)
        for epoch in map(int, tables["epochs"]["epoch"]):
            rows = {name: table[table["epoch"] == epoch] for name, table in tables.items()}
            parts.append(
                epoch, {name: arrow_table(name, held) for name, held in rows.items() if len(held)}
            )
        write_spec(path, spec)
        for name in spec.tables:
            (path / f"{name}.parquet").unlink(missing_ok=True)
