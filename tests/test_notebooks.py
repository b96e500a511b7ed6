"""The notebooks run from top to bottom as they are shipped."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


# the kernel's own messages pass through event loops and sockets whose warnings are not ours
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_promises(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no picture was drawn"
    assert any("text/html" in output.get("data", {}) for output in outputs), "no table was shown"
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]


def test_there_is_a_quickstart() -> None:
    assert "quickstart" in [path.stem for path in NOTEBOOKS]
    assert all(not cell.get("outputs") for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells), "committed with outputs"
