"""`pruneviz figures --list`: what is recorded, what is missing, and what else can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pruneviz.console.words import counted
from pruneviz.errors import PrunevizError
from pruneviz.figures.catalogue import FIGURES, find

if TYPE_CHECKING:
    import pandas as pd

    from pruneviz.figures.options import DrawOptions
    from pruneviz.figures.tasks import Place


def lines_about(
    spec: pd.DataFrame, place: Place, options: DrawOptions, figures: Sequence[str]
) -> list[str]:
    """One line per figure, and per picture of other runs.

    Args:
        spec: Facts about the runs (`runs.spec`).
        place: The folder.
        options: Drawing options.
        figures: Figures that were asked for. Without any, all pictures that the folder allows.
    """
    from pruneviz.figures.missing import made_by_record, recordable
    from pruneviz.figures.own import own_pictures
    from pruneviz.figures.plot_texts import title_of

    complete = made_by_record(spec) or not len(spec)
    lines = [
        f"{name:>4}  {find(name).title}  [{state}]"
        for name in figures or [name for name in FIGURES if recordable(spec, name)]
        if (state := _state(name, spec, options)) and (figures or complete or _recorded(state))
    ]
    if figures:
        return lines
    return lines + [
        f"{picture.stem}  {title_of(picture.kind, picture.network, picture.arguments[0])}  "
        f"[{counted(len(picture.runs), 'run')}]"
        for picture in own_pictures(spec, place.data.resolve().name)
    ]


def _state(figure: str, spec: pd.DataFrame, options: DrawOptions) -> str:
    from pruneviz.figures.missing import status

    try:
        return status(spec, find(figure), options)
    except PrunevizError as error:
        return str(error)


def _recorded(state: str) -> bool:
    return not state.startswith("not recorded")
