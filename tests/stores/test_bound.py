"""The mirror stays within its bound: what was used longest ago goes, what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.stores.bound import bounded_mirror
from pruneviz.stores.listing import RemoteRun, files_below
from pruneviz.stores.mirror import MARKER, copied, fetched
from tests.support.stores import new_bucket

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def folder() -> Path:
    url = f"{new_bucket()}/run"
    for name in "abc":
        fsspec.filesystem("memory").pipe_file(f"{url}/{name}", bytes(1000))
    folder = copied(RemoteRun(url, files_below(url))).folder
    for age, name in enumerate("abc"):
        fetched(folder / name)
        used = time.time() - 1000 * (age + 1)
        os.utime(folder / name, (used, used))
    return folder


def test_files_go_by_their_last_use_and_are_fetched_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNEVIZ_MIRROR_GB", "0.0000025")
    fetched(folder / "c")  # used now
    bounded_mirror()
    assert {file.name for file in folder.iterdir()} == {"a", "c", MARKER}
    fetched(folder / "b")
    assert (folder / "b").stat().st_size == 1000


def test_what_is_in_use_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEVIZ_MIRROR_GB", "0")
    fetched(folder / "b")
    bounded_mirror()
    assert {file.name for file in folder.iterdir()} == {"b", MARKER}


def test_a_copy_that_nobody_used_for_long_goes_whole(folder: Path) -> None:
    bounded_mirror()
    assert (folder / "a").exists()
    long_ago = time.time() - 31 * 86_400
    os.utime(folder / MARKER, (long_ago, long_ago))
    bounded_mirror()
    assert not folder.exists()


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_bound_that_is_no_number_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEVIZ_MIRROR_GB", given)
    with pytest.raises(LogError, match=r"\$PRUNEVIZ_MIRROR_GB is .* give a number of GB"):
        bounded_mirror()
