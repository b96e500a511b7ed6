"""Runs in a store are found in one listing, by folders and by patterns."""

from __future__ import annotations

import pytest

from pruneviz.errors import LogError
from pruneviz.stores.listing import RemoteFile, RemoteRun, runs_below, tag_of
from tests.support.stores import new_bucket, watched

fsspec = pytest.importorskip("fsspec")

RUNS = ("a/run0", "a/run1", "b/run0", "b/deep/er/run2")
MARKS = ("spec.json", "epochs.parquet")


@pytest.fixture(scope="module")
def bucket() -> str:
    url, store = new_bucket(), fsspec.filesystem("memory")
    for run in RUNS:
        store.pipe_file(f"{url}/{run}/spec.json", b"{}")
        store.pipe_file(f"{url}/{run}/parts/epochs-00000.parquet", b"123")
    store.pipe_file(f"{url}/a/notes.txt", b"mine")
    store.pipe_file(f"{url}/a/run0/inside/spec.json", b"{}")
    return url


@pytest.mark.parametrize(
    ("where", "runs"),
    [
        ("", RUNS),
        ("/a", ("a/run0", "a/run1")),
        ("/a/run1", ("a/run1",)),
        ("/*/run0", ("a/run0", "b/run0")),
        ("/**/run[12]", ("a/run1", "b/deep/er/run2")),
        ("/b*", ("b/run0", "b/deep/er/run2")),
        ("/a/run", ()),
    ],
)
def test_runs_are_found_by_folders_and_patterns(
    bucket: str, where: str, runs: tuple[str, ...]
) -> None:
    with watched() as requests:
        found, inside = runs_below(f"{bucket}{where}", MARKS)
    assert [run.url for run in found] == sorted(f"{bucket}/{run}" for run in runs)
    assert all({"spec.json", "parts/epochs-00000.parquet"} <= set(run.files) for run in found)
    assert set(inside) <= {f"{bucket}/a/run0/inside"}
    assert requests["find"] == 1


def test_a_run_inside_another_is_named_and_left_out(bucket: str) -> None:
    _, inside = runs_below(f"{bucket}/a", MARKS)
    assert inside == [f"{bucket}/a/run0/inside"]


def test_a_pattern_for_buckets_is_refused() -> None:
    with pytest.raises(LogError, match="a pattern in the name of its bucket"):
        runs_below("memory://b*/runs", MARKS)


def test_names_that_lead_out_of_a_folder_are_left_out(bucket: str) -> None:
    store = fsspec.filesystem("memory")
    store.store[f"/{bucket.removeprefix('memory://')}/a/../../x/spec.json"] = store.store[
        f"/{bucket.removeprefix('memory://')}/a/run0/spec.json"
    ]
    found, _ = runs_below(f"{bucket}/a", MARKS)
    assert [run.url for run in found] == [f"{bucket}/a/run0", f"{bucket}/a/run1"]


def test_ten_thousand_runs_are_one_listing() -> None:
    url, store = new_bucket(), fsspec.filesystem("memory")
    store.pipe_file(f"{url}/seed", b"{}")
    one = store.store[f"/{url.removeprefix('memory://')}/seed"]
    names = (f"/{url.removeprefix('memory://')}/sets/run{n:05d}/spec.json" for n in range(10_000))
    store.store.update(dict.fromkeys(names, one))
    paths = {path: {"size": 2, "created": 1.0} for path in store.store if "/sets/run" in path}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "find", lambda self, path, detail: paths)
        found, _ = runs_below(f"{url}/sets/*", MARKS)
    assert len(found) == 10_000


def test_a_generation_changes_with_any_file_and_never_repeats_without_versions() -> None:
    def of(*files: tuple[str, int, str]) -> str:
        return RemoteRun("s3://b/r", {n: RemoteFile(s, t) for n, s, t in files}).generation()

    assert of(("a", 1, "x")) == of(("a", 1, "x"))
    assert len({of(("a", 1, "x")), of(("a", 2, "x")), of(("a", 1, "y")), of(("b", 1, "x"))}) == 4
    assert of(("a", 1, "")) != of(("a", 1, ""))


def test_the_version_of_a_file_is_the_etag_else_a_time() -> None:
    from datetime import UTC, datetime

    assert tag_of({"ETag": '"abc"', "LastModified": 3.0}) == '"abc"'
    time = datetime(2026, 1, 1, tzinfo=UTC)
    assert tag_of({"created": time}) == tag_of({"created": time.timestamp()})
    assert tag_of({"size": 3}) == ""
