"""Runs that are recorded into a store, whose folders lie in that of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.stores import background
from tests.support.stores import new_bucket


@pytest.fixture
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror and the spool lie in the folder of the test, and failures are soon tried again."""
    monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(background, "_FIRST", 0.01)


@pytest.fixture
def url(own_spool: None) -> str:
    """Where a run is recorded."""
    return f"{new_bucket()}/sets/run"
