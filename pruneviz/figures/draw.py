"""From recordings to the files of one figure: numbers, picture, caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pruneviz.figures.caption import caption
from pruneviz.figures.catalogue import file_stem, find
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import PICTURES
from pruneviz.figures.selection import chosen_spec
from pruneviz.figures.write import check_format, write_picture, write_table, write_text
from pruneviz.runlog import Runs


def draw_figure(runs: Runs, figure: str, options: DrawOptions, out: Path, formats: Sequence[str] = ("pdf", "png")) -> list[Path]:
    """Draw one figure of the catalogue and write it, its numbers (CSV) and its caption (text) into the folder `out`.

    Returns the paths written: one picture per format, then the numbers and the caption. Nothing is written unless all of it could be
    computed. Errors: `FigureError` for an unknown figure or format, missing recordings, and a folder that cannot be written.
    """
    endings = [check_format(name) for name in dict.fromkeys(formats)]
    entry = find(figure)
    picture = PICTURES[entry.kind]
    spec = chosen_spec(runs.spec, entry, options)
    table = picture.table(runs, entry, options)
    drawing = picture.draw(table, options)
    text = caption(figure, entry, picture, table, spec, options)
    stem = file_stem(figure)
    pictures = [write_picture(drawing, out / f"{stem}.{ending}") for ending in endings]
    return [*pictures, write_table(table, out / f"{stem}.csv"), write_text(text, out / f"{stem}.txt")]
