"""Folders as the command names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import LogError
from pruneviz.figures.folder import RECORDED, check_recorded, folders, spec_in
from tests.support.synthetic_runs import make_runs, save_runs


def test_figures_go_beside_one_another_by_the_name_of_the_recordings(tmp_path: Path) -> None:
    assert folders(None, None) == (RECORDED, Path("figures/digits"))
    assert folders(tmp_path / "mine", None)[1] == Path("figures/mine")
    assert folders(tmp_path, tmp_path / "out") == (tmp_path, tmp_path / "out")


def test_a_folder_without_recordings_is_told_with_what_fills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "alone" / "empty"
    empty.mkdir(parents=True)
    with pytest.raises(LogError, match=r"holds no recordings\nRecord what is needed with: "):
        check_recorded(empty, ["3"])
    assert spec_in(empty)[0].empty


def test_a_misspelt_folder_is_told_with_those_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "mine"):
        save_runs(make_runs({"mine": (2,)}, seeds=(0,), epochs=1), tmp_path / name)
    (tmp_path / "empty").mkdir()
    beside = f"{tmp_path}/mine, {tmp_path}/digits"
    expected = rf"no folder {tmp_path}/mien; there are recordings in {beside}\nRecord"
    with pytest.raises(LogError, match=expected):
        check_recorded(tmp_path / "mien", [])
    with pytest.raises(LogError, match=r"no folder .*/a/b\nRecord"):
        check_recorded(tmp_path / "a" / "b", [])
