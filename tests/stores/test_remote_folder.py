"""Files of a store are written whole, and a place is taken by one of two."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.stores.remote_folder import RemoteFolder
from pruneviz.stores.urls import file_system
from tests.support.stores import names_at, new_bucket, watched

pytest.importorskip("fsspec")


def test_files_are_put_read_listed_and_deleted(tmp_path: Path) -> None:
    remote, file = RemoteFolder(f"{new_bucket()}/run"), tmp_path / "a"
    file.write_bytes(b"123")
    assert remote.files() == {} and remote.content("parts/a", 10) is None
    remote.put("parts/a", file)
    assert remote.content("parts/a", 10) == b"123"
    assert remote.files() == {"parts/a": remote.version("parts/a")}
    for _ in range(2):  # a file that is gone is no error
        remote.delete("parts/a")
    assert names_at(remote.url) == set()


def test_a_new_file_is_written_by_one_of_two() -> None:
    remote = RemoteFolder(f"{new_bucket()}/run")
    assert remote.write("lock", b"first", new=True)
    assert not remote.write("lock", b"second", new=True)
    assert remote.content("lock", 10) == b"first"
    assert remote.write("lock", b"third") and remote.content("lock", 10) == b"third"


def test_renewed_credentials_are_read_by_new_connections() -> None:
    remote = RemoteFolder(new_bucket())
    before = file_system(remote.url)
    assert file_system(remote.url) is before
    remote.renew()
    assert file_system(remote.url) is not before


def test_failures_tell_the_file_of_which_disk(tmp_path: Path) -> None:
    remote = RemoteFolder(f"{new_bucket()}/run")
    with pytest.raises(FileNotFoundError):
        remote.put("a", tmp_path / "missing")

    def refuse(method: str, path: str) -> None:
        raise ConnectionError("refused")

    with watched(refuse), pytest.raises(LogError, match=rf"{remote.url}/a cannot be written"):
        remote.write("a", b"")
