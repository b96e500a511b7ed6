"""A copy is filled when it is read, is of one version, and links what stayed the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.stores.listing import RemoteRun, files_below
from pruneviz.stores.mirror import (
    copied,
    copy_at,
    fetch_together,
    fetched,
    listed_file,
    listed_names,
    whole_copy,
)
from tests.support.stores import new_bucket, watched

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def url() -> str:
    url, store = f"{new_bucket()}/run", fsspec.filesystem("memory")
    for name in ("spec.json", "filters.parquet", "weights/e0"):
        store.pipe_file(f"{url}/{name}", name.encode())
    return url


def run_at(url: str) -> RemoteRun:
    return RemoteRun(url, files_below(url))


def test_files_are_fetched_when_they_are_read_and_once(url: str) -> None:
    folder = copied(run_at(url)).folder
    assert not (folder / "spec.json").exists()
    assert listed_names(folder / "weights") == ["e0"] and not listed_names(folder / "parts")
    assert listed_file(folder / "weights" / "e0") and not listed_file(folder / "nothing")
    with watched() as requests:
        for _ in range(2):
            fetched(folder / "spec.json")
            fetched(folder / "weights" / "e0")
            fetched(folder / "nothing")
    assert requests["get_file"] == 2
    assert (folder / "weights" / "e0").read_bytes() == b"weights/e0"


def test_a_folder_that_is_no_copy_is_left_alone(tmp_path: Path) -> None:
    with watched() as requests, whole_copy(tmp_path):
        fetched(tmp_path / "spec.json")
    assert copy_at(tmp_path) is None and not requests


def test_a_changed_run_has_another_copy_that_shares_what_stayed(url: str) -> None:
    first = copied(run_at(url)).folder
    fetch_together([first / "spec.json", first / "filters.parquet"])
    fsspec.filesystem("memory").pipe_file(f"{url}/spec.json", b"changed")
    second = copied(run_at(url)).folder
    assert second != first and (first / "spec.json").read_bytes() == b"spec.json"
    assert (first / "filters.parquet").samefile(second / "filters.parquet")
    fetched(second / "spec.json")
    assert (second / "spec.json").read_bytes() == b"changed"


@pytest.mark.parametrize("content", [b"of another size", b"spec.jsoN"])
def test_a_file_that_changed_after_it_was_listed_is_refused(url: str, content: bytes) -> None:
    folder = copied(run_at(url)).folder
    fsspec.filesystem("memory").pipe_file(f"{url}/spec.json", content)
    with pytest.raises(LogError, match=f"{url}/spec.json changed after it was listed"):
        fetched(folder / "spec.json")
    assert [file.name for file in folder.iterdir()] == [".pruneviz-remote.json"]


def test_a_failed_read_leaves_nothing_and_is_repeated(url: str) -> None:
    folder = copied(run_at(url)).folder

    def refuse(method: str, path: str) -> None:
        if method == "get_file":
            raise ConnectionError("refused")

    with watched(refuse):
        fetch_together([folder / "spec.json", folder / "filters.parquet"])  # told when it is read
        with pytest.raises(LogError, match=rf"{url}/spec.json cannot be read \(refused\); check"):
            fetched(folder / "spec.json")
    fetched(folder / "spec.json")
    assert (folder / "spec.json").read_bytes() == b"spec.json"


def test_a_whole_copy_is_held_only_while_it_is_needed(url: str) -> None:
    folder = copied(run_at(url)).folder
    fetched(folder / "spec.json")
    with whole_copy(folder):
        assert (folder / "filters.parquet").exists() and (folder / "weights" / "e0").exists()
    assert (folder / "spec.json").exists() and not (folder / "filters.parquet").exists()


def test_a_disk_that_is_too_small_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(run_at(url)).folder
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1})())
    with pytest.raises(LogError, match=r"has 0\.0 GB free; free some space"):
        fetched(folder / "spec.json")
