"""Recordings of every schema that was ever written are read with the numbers they had then."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.faults import faults
from pruneviz.log.run_directory import RunLog
from pruneviz.log.runs import load
from pruneviz.log.scan import scan
from pruneviz.log.spec_file import read_spec
from tests.support.edited_specs import edit_spec

FOLDER = Path(__file__).with_name("older_runs")
EXPECTED: dict[str, dict[str, dict[str, str]]] = json.loads(
    (FOLDER / "expected.json").read_text(encoding="utf-8")
)
RUNS = sorted(EXPECTED)
UNFINISHED = [run for run in RUNS if run.endswith("unfinished")]
# Standard errors of independent draws had these names before version 3.
NAMES_NOW = {"theta_g_se": "theta_g_se_iid", "theta_hg_se": "theta_hg_se_given_g_iid"}


def digest(values: pd.Series) -> str:
    """A digest of the values of a column, to their last bit."""
    plain = [None if pd.isna(value) else _plain(value) for value in values.astype("object")]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return float(value) if isinstance(value, float) or hasattr(value, "dtype") else int(value)


def digests(table: pd.DataFrame) -> dict[str, str]:
    held = [name for name in table if table[name].notna().any() and name != "seconds"]
    return {str(name): digest(table[name]) for name in held}


def expected(run: str, table: str) -> dict[str, str]:
    found = EXPECTED[run].get(table, {})
    if not run.startswith(("1", "2")) or table != "filters":
        return found
    return {NAMES_NOW.get(name, name): value for name, value in found.items()}


@pytest.mark.parametrize("run", RUNS)
def test_every_number_is_the_one_that_its_version_read(run: str) -> None:
    runs = load(FOLDER / run)
    for table in ("epochs", "filters", "rounds", "correlations"):
        assert digests(getattr(runs, table)) == expected(run, table), table
    assert runs.spec["schema_version"][0] == int(run[0])
    assert bool(runs.unfinished) == (run in UNFINISHED)


def test_all_of_them_are_whole() -> None:
    assert list(faults(FOLDER)["fault"]) == []


@pytest.mark.parametrize("run", sorted({*RUNS} - {*UNFINISHED}))
def test_a_scan_reads_the_same_numbers(run: str) -> None:
    opened = scan(FOLDER / run)
    read = pd.concat(opened.blocks(opened.columns))
    assert digests(read) == expected(run, "filters")


@pytest.mark.parametrize("run", [run for run in UNFINISHED if not run.startswith(("1", "2"))])
def test_an_unfinished_one_goes_on_and_becomes_one_of_this_version(
    run: str, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(FOLDER / run, tmp_path / "run"))
    before = load(path)
    log = RunLog.resume(path, read_spec(path))
    log.append(2, epochs=pd.DataFrame({"epoch": [2], "phase": ["train"]}))
    log.seal()
    after = load(path)
    assert after.spec["schema_version"][0] == schema.SCHEMA_VERSION
    assert digests(after.filters) == digests(before.filters)
    assert digests(after.epochs[:2]) == digests(before.epochs)
    assert list(faults(path)["fault"]) == [
        f"{path / 'filters.parquet'} has no rows of epoch 2; restore it from a backup"
    ]


@pytest.mark.parametrize("run", [run for run in UNFINISHED if run.startswith(("1", "2"))])
def test_one_with_other_standard_errors_does_not_go_on_and_stays_as_it_is(
    run: str, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(FOLDER / run, tmp_path / "run"))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(LogError, match="so it cannot go on; finish it with pruneviz 0"):
        RunLog.resume(path, read_spec(path))
    assert before == {file: file.read_bytes() for file in before}
    assert sorted(before) == sorted(file for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"pruneviz": "7.2.1"}, "install pruneviz 7.2.1, which wrote it"),
        ({}, "install a newer pruneviz"),
        ([1], "install a newer pruneviz"),
    ],
)
def test_a_newer_one_is_refused_with_the_version_that_reads_it(
    tmp_path: Path, versions: object, said: str
) -> None:
    path = Path(shutil.copytree(FOLDER / "3" / "filters", tmp_path / "run"))
    edit_spec(path, schema_version=99, versions=versions)
    for read in (load, scan):
        with pytest.raises(LogError, match=rf"has schema 99, this pruneviz reads up to .*; {said}"):
            read(path)
