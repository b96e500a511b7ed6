"""Every URL has a folder in the spool, from which it is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.stores.spool import spool_folder, spool_root, spool_url


def test_a_url_is_found_again_from_its_folder(tmp_path: Path) -> None:
    folder = spool_folder("s3://bucket/sets/run0")
    assert folder == spool_root() / "s3" / "bucket" / "sets" / "run0"
    assert spool_url(folder) == "s3://bucket/sets/run0"
    assert spool_url(folder.parent) == "s3://bucket/sets"
    assert spool_url(tmp_path) is None and spool_url(spool_root()) is None


def test_the_spool_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRUNEVIZ_SPOOL")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/.local/state")
    assert spool_root() == Path("/home/me/.local/state/pruneviz/pruneviz-spool")
