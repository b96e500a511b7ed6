"""Recordings of an older schema: their standard errors come under names of their own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.reopening import reopen
from pruneviz.log.run_directory import RunLog, check_same_options
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load
from pruneviz.log.scan import scan
from pruneviz.log.thinning import thin
from tests.support.edited_specs import edit_spec

MEASURED = ("theta_g", "theta_hg", *schema.STANDARD_ERRORS)
OLD = ("theta_g", "theta_hg", "theta_g_se", "theta_hg_se")
VALUES = {"theta_g": 1.0, "theta_hg": -2.0}


def rows(epoch: int, **values: float) -> pd.DataFrame:
    keys = {"epoch": epoch, "layer": ["a", "a"], "filter": [0, 1], "kept": True}
    return pd.DataFrame({**keys, "theta_norm2": 1.0, **VALUES, **values})


def record(path: Path, *, seal: bool = True) -> RunLog:
    log = RunLog.create(path, RunSpec(path.name, columns=MEASURED, sample_size=50))
    for epoch in (0, 1):
        errors = dict.fromkeys(schema.STANDARD_ERRORS, 0.5)
        log.append(epoch, epochs=pd.DataFrame({"epoch": [epoch]}), filters=rows(epoch, **errors))
    if seal:
        log.seal()
    return log


def make_older(path: Path, version: int = 2) -> None:
    """Write a run as version 2 of the schema did."""
    edit_spec(path, schema_version=version, columns=OLD)
    for file in path.glob("parts/epochs-*.parquet"):  # without a record of the other parts
        pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    for file in (*path.glob("filters.parquet"), *path.glob("parts/filters-*.parquet")):
        table = pq.read_table(file).drop_columns(["theta_g_se_iid"])
        names = {"theta_hg_se_given_g": "theta_hg_se"}
        pq.write_table(table.rename_columns([names.get(n, n) for n in table.column_names]), file)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    record(tmp_path / "older")
    make_older(tmp_path / "older")
    return tmp_path / "older"


@pytest.mark.parametrize("version", [1, 2])
def test_standard_errors_are_those_of_independent_draws(tmp_path: Path, version: int) -> None:
    record(tmp_path / "older")
    make_older(tmp_path / "older", version)
    runs = load(tmp_path / "older")
    assert runs.spec["columns"][0] == (
        *("theta_g", "theta_hg", "theta_g_se_iid", "theta_hg_se_given_g_iid"),
    )
    recorded = runs.recorded("filters")
    assert {"theta_g_se_iid", "theta_hg_se_given_g_iid"} <= set(recorded)
    assert not {"theta_g_se", "theta_hg_se", "theta_hg_se_given_g"} & set(recorded)
    lazily = runs.read("filters", ["epoch", "theta_g_se_iid"], [1], ["theta_hg_se_given_g_iid"])
    assert lazily.to_dict("list") == {"epoch": [1, 1], "theta_g_se_iid": [0.5, 0.5]}
    assert (runs.filters["theta_hg_se_given_g_iid"] == 0.5).all()
    assert runs.filters[["theta_g_se", "theta_hg_se_given_g"]].isna().all(axis=None)


def test_they_stand_beside_those_of_newer_runs(older: Path) -> None:
    record(older.parent / "newer")
    found = load(older.parent).filters
    old = found["run"] == "older"
    assert found.loc[~old, "theta_g_se"].eq(0.5).all() and found.loc[old, "theta_g_se"].isna().all()
    assert found["theta_g_se_iid"].eq(0.5).all()
    blocks = pd.concat(scan(older.parent).blocks(list(MEASURED)))
    for name in schema.STANDARD_ERRORS:
        assert list(blocks[name].fillna(-1)) == list(found[name].fillna(-1)), name
    assert "theta_g_se" not in scan(older).columns


def test_unfinished_ones_are_read_too_and_do_not_go_on(tmp_path: Path) -> None:
    record(tmp_path / "older", seal=False)
    make_older(tmp_path / "older")
    found = load(tmp_path / "older").filters
    assert found["theta_g_se_iid"].eq(0.5).all() and found["theta_g_se"].isna().all()
    now = RunSpec("older", columns=MEASURED, sample_size=50)
    with pytest.raises(LogError, match=r"has schema 2, in which theta_g_se is another.*finish it"):
        RunLog.resume(tmp_path / "older", now)


def test_finished_ones_stay_finished(older: Path) -> None:
    options = RunSpec("older", columns=MEASURED, sample_size=50).to_dict()
    assert check_same_options(older, options).sample_size == 50
    with pytest.raises(LogError, match="columns was"):
        check_same_options(older, {**options, "columns": (*MEASURED, "synflow")})
    before = {file: file.read_bytes() for file in older.iterdir()}
    with pytest.raises(LogError, match="cannot go on"):
        reopen(older)
    assert before == {file: file.read_bytes() for file in older.iterdir()}


def test_a_run_of_an_older_schema_without_errors_goes_on(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r", columns=("theta_g",)))
    log.append(0, epochs=pd.DataFrame({"epoch": [0]}), filters=rows(0))
    edit_spec(log.path, schema_version=2)
    again = RunLog.resume(log.path, RunSpec("r", columns=("theta_g",)))
    again.append(1, epochs=pd.DataFrame({"epoch": [1]}), filters=rows(1))
    again.seal()
    assert load(log.path).spec["schema_version"][0] == schema.SCHEMA_VERSION


def test_a_thin_copy_keeps_their_names(older: Path, tmp_path: Path) -> None:
    copy = thin(older, tmp_path / "thin").path
    found, whole = load(copy), load(older)
    pd.testing.assert_frame_equal(found.filters, whole.filters)
    assert found.spec["columns"][0] == whole.spec["columns"][0]
    assert found.spec["schema_version"][0] == schema.SCHEMA_VERSION
