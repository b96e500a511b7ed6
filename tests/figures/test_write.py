"""Files are written whole, and a folder that cannot be written is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.draw import save_figure
from pruneviz.figures.write import write_text
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]}, seeds=(0,), epochs=4)


def test_a_folder_that_cannot_be_written_is_named(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FigureError, match=r"cannot write to .*figure03.pdf.*--out"):
        save_figure("3", runs, tmp_path / "file")


def test_an_unknown_format_is_refused_before_anything_is_drawn(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(FigureError, match=r"format 'gif' is unknown.*pdf, png, svg"):
        save_figure("3", runs, tmp_path, formats=["png", "gif"])
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure.txt"
    for text in ("before", "after"):
        assert write_text(text, path) == path
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]
