"""From recordings to one figure, numbers, picture and caption, and to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.figures.caption import caption
from pruneviz.figures.catalogue import Entry, file_stem, find
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import COMPANIONS, PICTURES
from pruneviz.figures.write import check_format, write_picture, write_table, write_text
from pruneviz.log.runs import Runs


@dataclass(frozen=True)
class Drawn:
    """One figure: its `picture`, the `numbers` in it, further `tables` by name, what they say to the claim of `entry`, and the caption."""

    entry: Entry
    picture: Figure
    numbers: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    finding: str
    caption: str


def compose(runs: Runs, figure: str, options: DrawOptions | None = None) -> Drawn:
    """One figure of the catalogue, drawn from recordings, in memory: for notebooks, and for `draw_figure` to write.

    Errors: `FigureError` for an unknown figure and for missing recordings.
    """
    entry = find(figure)
    picture, options = PICTURES[entry.kind], (options or DrawOptions()).for_kind(entry.need.kind)
    spec = chosen_spec(runs.spec, entry, options)
    table = picture.table(runs, entry, options)
    beside = COMPANIONS[entry.kind].tables(runs, entry, options) if entry.kind in COMPANIONS else {}
    finding = [
        picture.finding(table, options),
        *([COMPANIONS[entry.kind].finding(beside, options)] if beside else []),
    ]
    text = caption(figure, entry, table, beside, spec, options)
    return Drawn(entry, picture.draw(table, options), table, beside, " ".join(finding), text)


def draw_figure(
    runs: Runs,
    figure: str,
    options: DrawOptions,
    out: Path,
    formats: Sequence[str] = ("pdf", "png"),
) -> list[Path]:
    """Draw one figure of the catalogue and write it, its numbers (CSV) and its caption (text) into the folder `out`.

    Returns the paths written: one picture per format, the numbers, further tables of that kind of picture, and the caption. Nothing is
    written unless all of it could be computed. Errors: `FigureError` for an unknown figure or format, missing recordings, and a folder
    that cannot be written.
    """
    endings = [check_format(name) for name in dict.fromkeys(formats)]
    drawn, stem = compose(runs, figure, options), file_stem(figure)
    pictures = [write_picture(drawn.picture, out / f"{stem}.{ending}") for ending in endings]
    tables = {"": drawn.numbers, **{f"_{name}": table for name, table in drawn.tables.items()}}
    numbers = [write_table(table, out / f"{stem}{name}.csv") for name, table in tables.items()]
    return [*pictures, *numbers, write_text(drawn.caption, out / f"{stem}.txt")]
