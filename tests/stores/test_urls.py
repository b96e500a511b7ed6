"""URLs are told from folders, whatever was done to them, and errors of stores say what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pruneviz.errors import LogError, MissingExtraError
from pruneviz.stores.urls import file_system, local_path, store_errors, url_of

pytest.importorskip("fsspec")


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("s3://bucket/sets/*", "s3://bucket/sets/*"),
        ("S3://bucket/run/", "s3://bucket/run"),
        (Path("s3://bucket/run"), "s3://bucket/run"),
        ("s3:/bucket/run", "s3://bucket/run"),
        ("gs://bucket/run0", "gs://bucket/run0"),
        ("file:///data/mine", "file:///data/mine"),
        ("data/mine", None),
        ("C:/data/mine", None),
        (Path("/data/a:b/run"), None),
        (Path("oss://bucket/run"), "oss://bucket/run"),
        (Path("no:such/run"), None),
        ("lr:0.1/run", None),
    ],
)
def test_what_a_url_is(where: str | Path, url: str | None) -> None:
    assert url_of(where) == url


def test_a_url_of_a_file_is_a_folder() -> None:
    assert local_path("file:///data/mine") == Path("/data/mine")
    assert local_path("s3://bucket/run") is None and local_path("data/mine") is None


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("s3:bucket/run", "s3:bucket/run is no URL of recordings; write it as s3://bucket/run"),
        ("s3://", "s3:// is no URL of recordings; write it as s3://bucket/runs"),
        ("s3://bucket/../other", "has a part that is empty, '.' or '..'"),
        ("s3://bucket//run", "has a part that is empty, '.' or '..'"),
    ],
)
def test_what_is_no_url_and_no_folder_is_refused(where: str, said: str) -> None:
    with pytest.raises(LogError) as caught:
        url_of(where)
    assert said in str(caught.value)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert fsspec.filesystem("memory")
    with pytest.raises(MissingExtraError, match=r"s3:// needs s3fs.*pip install 'pruneviz\[s3\]'"):
        file_system("s3://bucket/run")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"memory:// needs fsspec.*'pruneviz\[s3\]'"):
        file_system("memory://bucket/run")
    assert isinstance(MissingExtraError(), ImportError)


def test_a_kind_of_url_that_nobody_knows_is_named() -> None:
    with pytest.raises(LogError, match="xx://bucket/run: Protocol not known: xx"):
        file_system("xx://bucket/run")


@pytest.mark.parametrize(
    ("failure", "repair"),
    [
        (FileNotFoundError("no such bucket"), "check the URL"),
        (PermissionError("Access Denied"), "give credentials that are valid"),
        (OSError("The provided token has expired."), "give credentials that are valid"),
        (ConnectionError("refused"), "check the network and the address of the store"),
        (RuntimeError(), r"\(RuntimeError\); check the network"),
    ],
)
def test_a_failure_of_a_store_says_what_to_do(failure: Exception, repair: str) -> None:
    with pytest.raises(LogError, match=repair) as caught, store_errors("s3://b cannot be listed"):
        raise failure
    assert str(caught.value).startswith("s3://b cannot be listed (")
