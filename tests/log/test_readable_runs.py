"""Damaged runs beside whole ones: the whole ones are read, and the damaged ones named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.log.readable_runs import check_files, check_spec, from_readable, readable_runs
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import make_runs, save_runs


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_runs(make_runs({"mine": (3, 4)}, seeds=(0, 1, 2), epochs=2, every=1), folder)
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "data"))


def damage_inside(file: Path) -> None:
    """Turn a byte of the first page; the footer at the end stays whole."""
    held = bytearray(file.read_bytes())
    held[40] ^= 0xFF
    file.write_bytes(bytes(held))


def test_a_corrupt_spec_or_footer_is_told_from_whole_runs(folder: Path) -> None:
    spec, table = folder / "mine-digits-s0/spec.json", folder / "mine-digits-s2/epochs.parquet"
    spec.write_text("{")
    table.write_bytes(table.read_bytes()[:-9])
    found = readable_runs(folder, check_files)
    assert [path.name for path in found.paths] == ["mine-digits-s1"]
    assert [str(file) in why for file, why in zip((spec, table), found.damaged, strict=True)] == [
        True,
        True,
    ]
    assert len(readable_runs(folder, check_spec).paths) == 2


def test_without_a_whole_run_all_are_named(folder: Path) -> None:
    for spec in folder.glob("*/spec.json"):
        spec.write_text("[]")
    with pytest.raises(LogError) as error:
        readable_runs(folder, check_spec)
    assert str(error.value).count("spec.json is corrupt") == 3


def test_the_name_of_a_folder_forges_no_line(folder: Path) -> None:
    odd = folder.rename(folder.with_name("a\n3 runs: no faults"))
    for spec in odd.glob("*/spec.json"):
        spec.write_text("[]")
    with pytest.raises(LogError) as error:
        readable_runs(odd, check_spec)
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and all(r"a\n3 runs" in line for line in lines)


def test_damage_that_shows_when_rows_are_read_leaves_its_run_out(folder: Path) -> None:
    damage_inside(folder / "mine-digits-s1/filters.parquet")

    def rows(runs: Runs) -> dict[str, int]:
        return runs.filters.groupby("run", observed=True).size().to_dict()

    assert len(readable_runs(folder, check_files).paths) == 3
    counts, damaged = from_readable(folder, rows)
    assert set(counts) == {"mine-digits-s0", "mine-digits-s2"}
    assert len(damaged) == 1 and "mine-digits-s1/filters.parquet is corrupt" in damaged[0]


def test_errors_of_the_work_stay(folder: Path) -> None:
    def work(runs: Runs) -> None:
        raise LogError("no such column")

    with pytest.raises(LogError, match="no such column"):
        from_readable(folder, work)
