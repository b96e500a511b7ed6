"""The notebooks run from top to bottom, on the recordings of the embedded experiment."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from pruneviz.figures.catalogue import find
from pruneviz.plans.needs import FIGURE_NEEDS

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def recordings(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded recordings, for notebooks that read recordings; one thread, as in all tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if "PRUNEVIZ_RECORDINGS" in path.read_text(encoding="utf-8"):
        monkeypatch.setenv(
            "PRUNEVIZ_RECORDINGS", str(request.getfixturevalue("embedded_recordings"))
        )


def read(stem: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)


# Event loops and sockets of the kernel emit warnings of their own.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("recordings")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_promises(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no picture was drawn"
    assert any("text/html" in output.get("data", {}) for output in outputs), "no table was shown"
    assert not [
        output for output in outputs if output.output_type == "stream" and output.name == "stderr"
    ]


def test_the_notebooks_are_there_without_outputs() -> None:
    assert {"quickstart", "reproduce_figures", "explore_correlations"} <= {
        path.stem for path in NOTEBOOKS
    }
    assert all(
        not cell.get("outputs")
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
    ), "committed with outputs"


def test_every_figure_has_its_section_with_its_claim() -> None:
    cells = read("reproduce_figures").cells
    for name in FIGURE_NEEDS:
        at = next(
            i for i, cell in enumerate(cells) if cell.source.startswith(f"## Figure {name}\n")
        )
        claim = find(name).claim
        assert f"**Claim.** {claim[0].upper()}{claim[1:]}." in cells[at].source
        assert cells[at + 1].source == f'show("{name}")'
