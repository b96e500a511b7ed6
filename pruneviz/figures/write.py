"""Atomic writing of pictures, tables and texts: under a temporary name, then renamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.log.files import disk_errors, write_whole
from pruneviz.plot import style

# No file carries a date, so that equal pictures are equal bytes.
FORMATS: Mapping[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None},
    "png": {},
    "svg": {"Date": None},
}


def write_picture(figure: Figure, path: Path) -> Path:
    """Write a picture in the format given by the extension of `path`.

    No file carries a date, so equal pictures give equal bytes.

    Raises:
        FigureError: If the format is unknown or the file cannot be written.
    """
    ending = check_format(path.suffix.lstrip("."))
    settings: dict[str, Any] = {"format": ending, "metadata": FORMATS[ending]}
    if ending == "png":
        settings["dpi"] = style.PNG_DPI
    with style.paper():
        return _whole(path, lambda part: figure.savefig(part, **settings))


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write the numbers of a picture as CSV, with all digits that a float64 needs."""
    return _whole(path, lambda part: table.to_csv(part, index=False, lineterminator="\n"))


def write_text(text: str, path: Path) -> Path:
    """Write a caption as UTF-8 text."""
    return _whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def check_format(name: str) -> str:
    """Return the name of a picture format if it is known.

    Raises:
        FigureError: If it is unknown; lists the known ones.
    """
    if name not in FORMATS:
        raise FigureError(
            f"picture format {name!r} is unknown, expected one or more of {', '.join(FORMATS)}"
        )
    return name


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    with disk_errors(path, FigureError, "choose a folder that can be written, with --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, write, flush=False)  # a lost picture can be drawn again
    return path
