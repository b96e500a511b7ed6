"""A run that is read while it is written shows whole epochs, the same ones in all tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.log.live_tables import tables_now
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load
from tests.log.test_run_directory import append
from tests.support.readers_beside_writer import read_beside_a_writer


def test_every_look_beside_a_writer_shows_whole_epochs(tmp_path: Path) -> None:
    assert read_beside_a_writer(tmp_path, reads=40, seed=1).startswith("40 looks, ")


@pytest.mark.soak
def test_many_looks_beside_a_writer_show_whole_epochs(tmp_path: Path) -> None:
    assert read_beside_a_writer(tmp_path, reads=20_000, seed=2).startswith("20000 looks, ")


@pytest.mark.parametrize(("table", "epoch"), [("filters", 1), ("epochs", 1), ("epochs", 0)])
def test_a_part_that_is_lost_is_no_part_that_is_not_written_yet(
    tmp_path: Path, table: str, epoch: int
) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r"))
    append(log, 0, 1, 2)
    log.part(table, epoch).unlink()
    with pytest.raises(LogError, match=rf"{table}-0000{epoch}\.parquet is missing"):
        load(log.path)


def test_a_finished_run_has_no_tables_of_parts(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r"))
    append(log, 0)
    now = tables_now(log.path)
    assert now is not None and len(now["filters"]) == 6
    log.seal()
    assert tables_now(log.path) is None
