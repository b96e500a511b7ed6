"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruneviz.errors import FigureError
from pruneviz.figures.draw import save_figure
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]})


def test_a_folder_that_cannot_be_written_is_named(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FigureError, match=r"cannot write to .*figure03.pdf.*--out"):
        save_figure("3", runs, tmp_path / "file")
    with pytest.raises(FigureError, match=r"format 'gif' is unknown.*pdf, png, svg"):
        save_figure("3", runs, tmp_path, formats=["gif"])
