"""Runs in an object store are read as those in folders are, to the bit, and named by their URLs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import pruneviz as pv
from pruneviz.check import app as check
from pruneviz.console.url_names import mirror_root
from pruneviz.errors import LogError
from pruneviz.log.found_runs import run_paths
from pruneviz.log.readable_runs import check_files, readable_runs
from tests.support.mutated_recordings import make_recordings
from tests.support.stores import new_bucket, put, watched

fsspec = pytest.importorskip("fsspec")

RUNS = {"whole", "pruned", "thin", "open"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def url(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.chdir(tmp_path)
    url = new_bucket()
    put(folder, f"{url}/sets")
    return f"{url}/sets"


def same(found: pv.Runs, expected: pv.Runs) -> None:
    pd.testing.assert_frame_equal(found.spec, expected.spec)
    for table in ("epochs", "filters", "rounds", "halves", "correlations"):
        pd.testing.assert_frame_equal(found.read(table), expected.read(table))


def test_a_remote_run_is_read_as_a_local_one(url: str, folder: Path, tmp_path: Path) -> None:
    finished = [folder / name for name in sorted(RUNS - {"open"})]
    same(pv.load(url, unfinished="skip"), pv.load(finished))
    same(pv.load([f"{url}/open"]), pv.load(folder / "open"))
    same(pv.load(f"{url}/[tw]h*", unfinished="skip"), pv.load([folder / "thin", folder / "whole"]))
    assert {entry.name for entry in tmp_path.iterdir()} == {"mirror"}


def test_only_what_is_read_is_fetched_and_only_once(url: str) -> None:
    with watched() as first:
        runs = pv.load(f"{url}/whole")
    assert (first["find"], first["get_file"]) == (1, 1)  # the spec
    with watched() as second:
        runs.read("epochs"), pv.load(f"{url}/whole").read("epochs")
    assert (second["find"], second["get_file"]) == (1, 1)
    with watched() as scanned:
        list(pv.scan(f"{url}/whole").blocks("theta_g"))
        list(pv.scan(Path(f"{url}/whole")).blocks("theta_g"))
    assert (scanned["find"], scanned["get_file"]) == (2, 1)


def test_a_copy_that_was_deleted_is_no_lost_recording(url: str) -> None:
    runs = pv.load(f"{url}/whole")
    shutil.rmtree(mirror_root())
    with pytest.raises(LogError, match=r"the local copy of .* is gone; load the recording again"):
        runs.read("filters")


def test_a_changed_run_is_read_anew_and_an_open_one_keeps_its_rows(
    url: str, folder: Path, tmp_path: Path
) -> None:
    before = pv.load(f"{url}/whole")
    held = before.read("filters")
    shutil.rmtree(tmp_path / "mirror" / "other", ignore_errors=True)
    put(folder / "pruned", f"{url}/whole")
    after = pv.load(f"{url}/whole")
    assert list(after.spec["run"]) == ["pruned"]
    pd.testing.assert_frame_equal(before.read("filters"), held)
    with pytest.raises(LogError, match=f"{url}/whole/epochs.parquet changed after it was listed"):
        before.read("epochs")


def test_faults_are_those_of_the_local_runs(url: str, folder: Path, tmp_path: Path) -> None:
    assert pv.faults(url).empty
    store = fsspec.filesystem("memory")
    content = store.cat_file(f"{url}/whole/filters.parquet")
    store.pipe_file(f"{url}/whole/filters.parquet", content[:-40] + bytes(8) + content[-32:])
    store.pipe_file(f"{url}/pruned/spec.json", b"{")
    store.rm_file(f"{url}/open/parts/filters-00001.parquet")
    local = tmp_path / "damaged"
    shutil.copytree(folder, local)
    for name in ("whole/filters.parquet", "pruned/spec.json"):
        (local / name).write_bytes(store.cat_file(f"{url}/{name}"))
    (local / "open/parts/filters-00001.parquet").unlink()
    found, expected = pv.faults(url), pv.faults(local)
    assert len(found) >= 3
    for column in ("path", "fault"):
        plain = expected[column].str.replace(str(local), url, regex=False)
        assert list(found[column]) == list(plain)


def test_runs_that_cannot_be_read_are_named_and_others_are_read(url: str) -> None:
    def refuse(method: str, path: str) -> None:
        if method == "get_file" and "whole" in path:
            raise PermissionError("Access Denied")

    with watched(refuse):
        found = readable_runs(url, check_files)
        faults = pv.faults(url)
    assert len(found.paths) == 3
    said = "whole/spec.json cannot be read (Access Denied); give credentials"
    assert len(found.damaged) == 1 and found.damaged[0].count(said) == 1
    assert list(faults["path"]) == [f"{url}/whole"] and "Access Denied" in faults["fault"][0]


def test_an_unfinished_run_is_read_as_it_was_when_its_lock_was(url: str, folder: Path) -> None:
    """The lock is read first, so an epoch that comes in between is not missing."""
    held = []

    def record_on(method: str, path: str) -> None:
        if method == "find" and not held and counted["cat_file"]:
            held.append(path)
            put(folder / "open", f"{url}/late")

    late = folder / "open"
    store = fsspec.filesystem("memory")
    for name in ("spec.json", ".lock"):
        store.pipe_file(f"{url}/late/{name}", (late / name).read_bytes())
    with watched(record_on) as counted:
        assert len(pv.load(f"{url}/late").epochs) == 4
    assert held


def test_a_store_without_recordings_says_so(url: str) -> None:
    with pytest.raises(LogError, match=rf"{url}/none holds no recordings \(no spec.json"):
        pv.load(f"{url}/none")
    with pytest.raises(LogError, match="write it as s3://bucket/run"):
        pv.load("s3:bucket/run")


def test_a_url_of_a_file_is_the_folder_itself(folder: Path) -> None:
    assert run_paths(f"file://{folder}/whole") == [folder / "whole"]


def test_the_command_names_remote_runs_by_their_urls(url: str) -> None:
    shown = CliRunner().invoke(check, [url])
    assert shown.exit_code == 0, shown.output
    assert f"{url}/open: unfinished, with 4 epochs" in shown.output
    assert "4 runs, 1 of them unfinished: no faults" in shown.output
