"""Copies of remote files have the URLs of what they are copies of, and URLs their slashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.console.shown_text import visible
from pruneviz.console.url_names import mirror_folder, with_urls
from pruneviz.errors import LogError


def test_a_copy_is_named_by_its_url_in_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "my cache"))
    folder = mirror_folder("0123456789abcdef", "s3", "bucket/sets/run0")
    assert str(LogError(f"{folder / 'spec.json'} is corrupt")) == (
        "s3://bucket/sets/run0/spec.json is corrupt"
    )
    assert visible(folder) == "s3://bucket/sets/run0"
    other = "/elsewhere/pruneviz-mirror/0123456789abcdef/s3/bucket"
    assert with_urls(other) == other


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"in {Path('s3://bucket/run')}", "in s3://bucket/run"),
        ("in s3://bucket/run", "in s3://bucket/run"),
        ("/data/s3:/x and C:/Users and lr:/0.1", "/data/s3://x and C:/Users and lr:/0.1"),
    ],
)
def test_a_url_that_was_made_a_path_has_both_slashes_again(text: str, shown: str) -> None:
    assert with_urls(text) == shown
