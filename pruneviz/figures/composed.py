"""A picture with its numbers and texts, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.figures.alt_text import AltText
from pruneviz.figures.caption import Caption
from pruneviz.figures.write import write_facts, write_picture, write_table, write_text


@dataclass(frozen=True, repr=False)
class Composed:
    """A picture with its numbers and texts.

    Attributes:
        picture: The matplotlib figure.
        numbers: The numbers in the picture.
        tables: Further tables by name, such as convergence numbers.
        words: The parts of the caption.
        alt: Alt text.
        details: Everything about the picture as data: values, options in force, runs, finding.
    """

    picture: Figure
    numbers: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    words: Caption
    alt: AltText
    details: Mapping[str, Any]

    @property
    def caption(self) -> str:
        """The caption, of at most 15 lines; `details` has the long form."""
        return self.words.text()


def save_composed(composed: Composed, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write a picture, its numbers and its texts.

    Args:
        composed: The picture.
        stem: Path of the files without extension.
        formats: Picture formats: pdf, png or svg.

    Returns:
        Paths of the files: one picture per format, the numbers (CSV), further tables (CSV), the
        caption (text) and its long form (JSON).

    Raises:
        FigureError: If a file cannot be written.
    """

    def beside(end: str) -> Path:
        return stem.with_name(f"{stem.name}{end}")

    pictures = [
        write_picture(composed.picture, beside(f".{ending}"), composed.alt) for ending in formats
    ]
    numbers = [write_table(composed.numbers, beside(".csv"))]
    for name, table in composed.tables.items():
        numbers.append(write_table(table, beside(f"_{name}.csv")))
    facts = write_facts(composed.details, beside(".json"))
    return [*pictures, *numbers, write_text(composed.words.text(facts.name), beside(".txt")), facts]
