"""The notebooks are articles: committed with outputs, which running them again gives anew."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import nbformat
import pytest

from pruneviz.figures.catalogue import find
from pruneviz.plans.needs import FIGURE_NEEDS
from tests.support.executed_notebooks import (
    LARGEST,
    NOTEBOOKS,
    ROOT,
    executed,
    outputs,
    pictures,
    structure,
)


@pytest.fixture
def recordings(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded recordings, for notebooks that read recordings; one thread, as in all tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if "PRUNEVIZ_RECORDINGS" in path.read_text(encoding="utf-8"):
        monkeypatch.setenv(
            "PRUNEVIZ_RECORDINGS", str(request.getfixturevalue("embedded_recordings"))
        )


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


# Event loops and sockets of the kernel emit warnings of their own.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("recordings")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_committed(path: Path) -> None:
    """Numbers may differ from machine to machine; cells, pictures and tables do not."""
    assert structure(executed(path)) == structure(read(path)), (
        f"write it anew with python -m tests.support.executed_notebooks {path.stem}"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_its_outputs_and_without_complaints(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {kind for output in outputs(notebook) for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds, "no picture, or no table"
    assert not {"error", "stderr"} & {o.get("name", o.output_type) for o in outputs(notebook)}
    assert str(ROOT) not in json.dumps(notebook), "a path of one machine"


def test_the_notebooks_are_there_and_small() -> None:
    stems = {path.stem for path in NOTEBOOKS}
    assert {"quickstart", "reproduce_figures", "explore_correlations"} <= stems
    assert "which_measure_is_right" in stems
    assert sum(path.stat().st_size for path in NOTEBOOKS) < LARGEST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_of_the_docs_are_those_of_the_notebooks(path: Path) -> None:
    for file, content in pictures(read(path)):
        assert file.read_bytes() == content, file


def test_every_figure_stands_with_its_claim_once() -> None:
    cells = read(ROOT / "notebooks" / "reproduce_figures.ipynb").cells
    shown = [cell.source for cell in cells if cell.source.startswith("show(")]
    names = [name for source in shown for name in re.findall(r'"(\w+)"', source)]
    assert sorted(names) == sorted(FIGURE_NEEDS)
    for cell, after in itertools.pairwise(cells):
        for name in re.findall(r'"(\w+)"', after.source if after.source in shown else ""):
            assert _plain(find(name).claim) in _plain(cell.source), name


def _plain(text: str) -> str:
    """A claim without what sets its places apart: the case and the part in brackets."""
    return re.sub(r" \(stated for .*?\)", "", text).strip(".").lower()
