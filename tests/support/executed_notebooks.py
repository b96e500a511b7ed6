"""Notebooks with their outputs: run, made small for the repository, and compared in structure.

`python -m tests.support.executed_notebooks [NAME ...]` runs notebooks and writes their outputs, and
the pictures of docs/pictures that come from them. It needs the recordings of `make record`.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RECORDINGS = ROOT / "data" / "digits"
LARGEST = 1_500_000  # bytes of all notebooks together

_KEPT = ("image/png", "text/html", "text/plain", "text/markdown")
_OWN = ("picture", "mystnb")  # metadata of cells: a file of docs/pictures; alt texts of the site
_COLOURS = 256  # of a picture; more cannot be told apart and make it three times as large


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of running it where it is, made small."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without times, process numbers and needless weight."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in _OWN if key in cell.metadata}
        for output in cell.get("outputs", []):
            if "data" in output:
                output.metadata = {}
                output.data = _small(output.data)
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """All outputs in order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def structure(notebook: nbformat.NotebookNode) -> list[tuple[str, list[str]]]:
    """What every cell holds and shows, without its numbers: the text of the cell and, for each
    output, its kind, the head of a table, or the size of a picture in hundreds of pixels."""
    return [
        (cell.source, [_described(output) for output in cell.get("outputs", [])])
        for cell in notebook.cells
    ]


def pictures(notebook: nbformat.NotebookNode) -> Iterator[tuple[Path, bytes]]:
    """Files of docs/pictures, by the cells whose metadata name them as `picture`."""
    for cell in notebook.cells:
        name = cell.metadata.get("picture")
        if name:
            shown = [output.data["image/png"] for output in cell.outputs if "data" in output]
            yield ROOT / "docs" / "pictures" / name, base64.b64decode(shown[0])


def _small(data: Any) -> dict[str, Any]:
    """The kinds of an output that GitHub and Jupyter show, with a picture of few colours."""
    kept = {kind: data[kind] for kind in _KEPT if kind in data}
    if "image/png" in kept:
        kept["image/png"] = _few_colours(kept["image/png"])
    return kept


def _few_colours(encoded: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    target = io.BytesIO()
    picture.quantize(_COLOURS).save(target, format="PNG", optimize=True)
    return base64.b64encode(target.getvalue()).decode()


def _described(output: Any) -> str:
    if "data" not in output:
        return str(output.output_type)
    if "image/png" in output.data:
        size = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).size
        return f"picture of {size[0] / 100:.0f} x {size[1] / 100:.0f}"
    if "text/html" in output.data:
        head, _, _ = output.data["text/html"].partition("<tbody")
        return f"table {[name for name in re.findall(r'<th[^>]*>([^<]*)</th>', head) if name]}"
    return "text"


def main(names: list[str]) -> None:
    """Run notebooks, and write them with their outputs."""
    os.environ.setdefault("PRUNEVIZ_RECORDINGS", str(RECORDINGS))
    for path in NOTEBOOKS:
        if not names or path.stem in names:
            notebook = executed(path)
            nbformat.write(notebook, path)
            for file, content in pictures(notebook):
                file.write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1:])
