"""Atomic writing of pictures, tables, texts and facts: under a temporary name, then renamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.console.shown_text import in_cell
from pruneviz.errors import FigureError
from pruneviz.figures.alt_text import AltText, described
from pruneviz.figures.formats import FORMATS, check_format
from pruneviz.log.files import disk_errors, write_over
from pruneviz.plot import style


def write_picture(figure: Figure, path: Path, alt: AltText) -> Path:
    """Write a picture in the format given by the extension of `path`.

    Its alt text stands in the file's metadata, and in `<title>` and `<desc>` of an SVG. No file
    carries a date, so equal pictures give equal bytes.

    Raises:
        FigureError: If the format is unknown or the file cannot be written.
    """
    ending = check_format(path.suffix.lstrip("."))
    metadata = {**FORMATS[ending], **alt.metadata(ending)}
    settings: dict[str, Any] = {"format": ending, "metadata": metadata}
    if ending == "png":
        settings["dpi"] = style.PNG_DPI

    def save(part: Path) -> None:
        figure.savefig(part, **settings)
        if ending == "svg":
            svg = described(part.read_text(encoding="utf-8"), alt, path.stem)
            part.write_text(svg, encoding="utf-8")

    with style.paper():
        return _whole(path, save)


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write the numbers of a picture as CSV, with all digits that a float64 needs.

    A row is a line, and no text in it is a formula: see `pruneviz.console.shown_text.in_cell`.
    """
    shown = table.rename(columns=_cell).assign(
        **{
            _cell(name): table[name].map(_cell, na_action="ignore").astype(object)
            for name in table
            if not pd.api.types.is_numeric_dtype(table[name])
        }
    )
    return _whole(path, lambda part: shown.to_csv(part, index=False, lineterminator="\n"))


def write_text(text: str, path: Path) -> Path:
    """Write a caption as UTF-8 text; what that lacks is written as its escape, as JSON has it."""
    return _whole(
        path, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace")
    )


def write_facts(facts: Mapping[str, Any], path: Path) -> Path:
    """Write facts as JSON, rows of tables as a line each.

    Args:
        facts: Only what JSON has, so no NaN: see `pruneviz.figures.details.plain`.
        path: The file.
    """
    fields = (f" {_json(name)}: {_lines(value, 1)}" for name, value in facts.items())
    return write_text("{\n" + ",\n".join(fields) + "\n}\n", path)


def _cell(value: Any) -> Any:
    return in_cell(value) if isinstance(value, str) else value


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    with disk_errors(path, FigureError, "choose another folder with --out"):
        write_over(path, write, flush=False)  # a lost picture can be drawn again
    return path


def _lines(value: Any, depth: int) -> str:
    """A value as JSON; items of a list and fields of tables have a line each."""
    indent = " " * depth
    if isinstance(value, list) and value:
        rows = ",\n".join(f"{indent} {_json(row)}" for row in value)
        return f"[\n{rows}\n{indent}]"
    if isinstance(value, Mapping) and value:
        fields = (
            f"{indent} {_json(name)}: {_lines(item, depth + 1) if depth < 2 else _json(item)}"
            for name, item in value.items()
        )
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
