"""From recordings to a figure and its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from pruneviz.figures.catalogue import FIGURES
from pruneviz.figures.draw import draw_figure
from pruneviz.figures.kinds import scatter
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs
from tests.support.synthetic_runs import SMALL, make_runs

DEFAULT = DrawOptions()


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs({"resnet56": SMALL["resnet56"]})


def test_files_are_whole_reproducible_and_tell_all(runs: Runs, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    paths = draw_figure(runs, "3", DEFAULT, tmp_path / "new" / "folder")
    first = {path.name: path.read_bytes() for path in paths}
    assert (
        list(first)
        == ["figure03.pdf", "figure03.png", "figure03.csv", "figure03.txt"]
        == [p.name for p in _by_ending(tmp_path / "new" / "folder")]
    )
    again = {
        path.name: path.read_bytes()
        for path in draw_figure(runs, "3", DEFAULT, tmp_path, formats=["pdf", "svg"])
    }
    assert all(
        again[name] == first[name] for name in ("figure03.pdf", "figure03.csv", "figure03.txt")
    )
    assert b"<dc:date>" not in again["figure03.svg"]
    assert (
        b"CreationDate" not in first["figure03.pdf"]
        and b"/CIDFontType2" in first["figure03.pdf"]
        and b"/Type3" not in first["figure03.pdf"]
    )
    written = pd.read_csv(tmp_path / "figure03.csv")
    pd.testing.assert_frame_equal(
        written,
        scatter.table(runs, FIGURES["3"], DEFAULT),
        check_dtype=False,
        check_categorical=False,
        rtol=1e-12,
    )
    assert dict(matplotlib.rcParams) == before


def _by_ending(folder: Path) -> list[Path]:
    return sorted(
        folder.iterdir(), key=lambda path: [".pdf", ".png", ".csv", ".txt"].index(path.suffix)
    )


@pytest.mark.parametrize(
    "module", ["pruneviz.figures", "pruneviz.figures.__main__", "pruneviz.figures.draw"]
)
def test_drawing_loads_neither_torch_nor_pyplot(module: str) -> None:
    code = f"import sys, {module}; assert not {{'torch', 'matplotlib.pyplot'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
