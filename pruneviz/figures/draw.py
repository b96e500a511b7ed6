"""Draw a figure of the paper from recordings: picture, numbers and caption, or their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.figures.catalogue import Entry, file_stem, find
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.composed import Composed, save_composed
from pruneviz.figures.figure_texts import FigureTexts
from pruneviz.figures.formats import check_format
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import COMPANIONS, PICTURES
from pruneviz.figures.verdict_words import finding_of, verdicts_on
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import figure_name


@dataclass(frozen=True)
class ComposedFigure(Composed):
    """A figure of the paper with its numbers and texts.

    Attributes:
        entry: Description of the figure, with the paper's claim.
        verdicts: Verdicts on the claim, as `pruneviz.claims` gives them.
        finding: The verdicts in words, with their numbers and reasons.
    """

    entry: Entry
    verdicts: pd.DataFrame
    finding: str

    @property
    def long_caption(self) -> str:
        """The long form of the caption: all values, options in force and runs."""
        return "".join(f"{line}\n" for line in self.details["text"])

    def __repr__(self) -> str:
        return f"<{self.entry.title}: {len(self.numbers)} rows drawn>"


def draw(
    figure: str | int,
    runs: Runs,
    *,
    networks: Sequence[str] | None = None,
    options: DrawOptions | None = None,
) -> Figure:
    """Draw a figure of the paper from recordings.

    Args:
        figure: Figure name: 1 to 17, "H1a", "H1b" or "I1".
        runs: Recordings, as `pruneviz.load` returns them.
        networks: Networks to draw instead of the figure's own, by their name in `runs.spec`.
        options: Drawing options. Default: `DrawOptions()`.

    Returns:
        The picture. It is not registered with pyplot; write it with its `savefig`.

    Raises:
        FigureError: If the figure is unknown, its recordings are missing, or they cannot be
            averaged or compared.

    Examples:
        >>> draw("13", runs)
        >>> draw("3", runs, networks=["mine"], options=DrawOptions(method="spearman"))
    """
    return compose(figure, runs, networks=networks, options=options).picture


def compose(
    figure: str | int,
    runs: Runs,
    *,
    networks: Sequence[str] | None = None,
    options: DrawOptions | None = None,
) -> ComposedFigure:
    """Draw a figure of the paper, with its numbers and its caption.

    Args:
        figure: Figure name: 1 to 17, "H1a", "H1b" or "I1".
        runs: Recordings, as `pruneviz.load` returns them.
        networks: Networks to draw instead of the figure's own, by their name in `runs.spec`.
        options: Drawing options. Default: `DrawOptions()`.

    Returns:
        The picture, its numbers, further tables, the verdicts on the claim and the caption.

    Raises:
        FigureError: If the figure is unknown, its recordings are missing, or they cannot be
            averaged or compared.
    """
    _check_runs(runs)
    entry = find(figure)
    heading = f"Figure {figure_name(figure)}"
    if networks is not None:
        entry, heading = entry.with_networks(networks), f"As {heading}"
    picture, options = PICTURES[entry.kind], options or DrawOptions()
    spec = chosen_spec(runs.spec, entry, options)
    options = options.for_unit(str(spec["unit"].iloc[0]))
    numbers = picture.table(runs, entry, options)
    tables: Mapping[str, pd.DataFrame] = {}
    if entry.kind in COMPANIONS:
        tables = COMPANIONS[entry.kind].tables(runs, entry, options)
    verdicts = verdicts_on(entry.kind, runs, spec["run"])
    finding = finding_of(verdicts)
    texts = FigureTexts(heading, entry, spec, numbers, tables, verdicts, finding, options)
    return ComposedFigure(
        picture=picture.draw(numbers, options),
        numbers=numbers,
        tables=tables,
        words=texts.caption(),
        alt=texts.alt_text(),
        details=texts.details(file_stem(figure)),
        entry=entry,
        verdicts=verdicts,
        finding=finding,
    )


def save_figure(
    figure: str | int,
    runs: Runs,
    out: Path,
    *,
    options: DrawOptions | None = None,
    formats: Sequence[str] = ("pdf", "png"),
) -> list[Path]:
    """Draw a figure of the paper and write it, its numbers and its caption into a folder.

    Nothing is written unless everything could be computed.

    Args:
        figure: Figure name: 1 to 17, "H1a", "H1b" or "I1".
        runs: Recordings, as `pruneviz.load` returns them.
        out: Folder for the files; created if missing.
        options: Drawing options. Default: `DrawOptions()`.
        formats: Picture formats: pdf, png or svg.

    Returns:
        Paths of the files: one picture per format, the numbers (CSV), further tables (CSV), the
        caption (text) and its long form (JSON).

    Raises:
        FigureError: If the figure or a format is unknown, recordings are missing, or the folder is
            not writable.
    """
    endings = [check_format(name) for name in dict.fromkeys(formats)]
    composed = compose(figure, runs, options=options)
    return save_composed(composed, out / file_stem(figure), endings)


def _check_runs(runs: object) -> None:
    if not isinstance(runs, Runs):
        raise FigureError(
            f"runs is a {type(runs).__name__}, expected loaded recordings; load them first: "
            "draw('3', pruneviz.load('data/mine'))"
        )
