"""Copies of remote runs and runs to upload lie in the folder of the test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEVIZ_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("PRUNEVIZ_SPOOL", str(tmp_path / "spool"))
