"""Folders as the command names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.figures.folder import RECORDED, check_recorded, folders, spec_in


def test_figures_go_beside_one_another_by_the_name_of_the_recordings(tmp_path: Path) -> None:
    assert folders(None, None) == (RECORDED, Path("figures/digits"))
    assert folders(tmp_path / "mine", None)[1] == Path("figures/mine")
    assert folders(tmp_path, tmp_path / "out") == (tmp_path, tmp_path / "out")


def test_a_folder_without_recordings_is_told_with_what_fills_it(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"holds no recordings\nRecord what is needed with: "):
        check_recorded(tmp_path, ["3"])
    assert spec_in(tmp_path).empty
