"""Parts of an unfinished run that are damaged, lost, or of another epoch or run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.epoch_parts import complete_epochs, part_file
from pruneviz.log.faulty_tables import key_columns, row_faults
from pruneviz.log.faulty_values import ImpossibleValues
from pruneviz.log.parquet import check_pages
from pruneviz.log.part_chain import links_of
from pruneviz.log.regular_files import is_something
from pruneviz.log.run_lock import recorded_so_far
from pruneviz.log.run_spec import RunSpec


def faults_of_parts(path: Path, spec: RunSpec) -> Iterator[str]:
    """What is wrong with the parts of an unfinished run.

    Args:
        path: Run directory.
        spec: Its facts.
    """
    run_id, last = recorded_so_far(path)
    try:
        older = spec.schema_version < schema.RECORDS_SINCE
        damage = links_of(path, run_id, last, older=older).damage
    except LogError as error:
        yield str(error)
    except OSError as error:
        yield f"{error.filename} cannot be read ({error.strerror}); restore it from a backup"
    else:
        if damage is not None:
            yield (
                f"{damage.fault}; restore it from a backup, or repeat the command or training loop "
                "that recorded the run"
            )
    for epoch in complete_epochs(path):
        for table in schema.TABLES:
            part = part_file(path, table, epoch)
            if is_something(part):
                yield from _faults_of(part, table, epoch, spec.run)


def _faults_of(part: Path, table: str, epoch: int, run: str) -> Iterator[str]:
    try:
        values = ImpossibleValues(table)
        check_pages(part, table, values.look)
        rows = key_columns(part, table)
    except LogError as error:
        yield str(error)
        return
    for fault in [*values.told(), *row_faults(rows, table, run)]:
        yield f"{part} {fault}"
    others = sorted(set(map(int, rows["epoch"].unique())) - {epoch})
    if others:
        yield f"{part} holds rows of epoch {others[0]}; restore it from a backup"
