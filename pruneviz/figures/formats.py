"""Formats of pictures; without matplotlib, so that commands can check them at once."""

from __future__ import annotations

from collections.abc import Mapping

from pruneviz.errors import FigureError

# Metadata of every file. None carries a date, so that equal pictures are equal bytes.
FORMATS: Mapping[str, Mapping[str, str | None]] = {
    "pdf": {"CreationDate": None},
    "png": {},
    "svg": {"Date": None},
}


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
