"""The texts of a figure of the paper: short caption, alt text, and everything as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from pruneviz.analysis.settings import different
from pruneviz.figures.alt_text import AltText
from pruneviz.figures.brief import brief
from pruneviz.figures.caption import Caption
from pruneviz.figures.catalogue import Entry, same_figures
from pruneviz.figures.chosen_runs import missing_runs
from pruneviz.figures.details import SCHEMA, facts_of, plain, records, tables_of, values_of
from pruneviz.figures.long_caption import long_caption, made_from
from pruneviz.figures.missing import in_words
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.pictures import PICTURES
from pruneviz.figures.verdict_words import brief_of
from pruneviz.plot.words import dataset_title, listed, network_title


@dataclass(frozen=True, repr=False)
class FigureTexts:
    """What a figure's texts are made from.

    Attributes:
        heading: First words, such as "Figure 3".
        entry: What the figure shows.
        spec: Rows of `runs.spec` for the drawn runs.
        numbers: The drawn numbers.
        tables: Further tables, by name.
        verdicts: Verdicts on the claim, as `pruneviz.claims` gives them.
        finding: The verdicts in words, with their numbers and reasons.
        options: Drawing options.
    """

    heading: str
    entry: Entry
    spec: pd.DataFrame
    numbers: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    verdicts: pd.DataFrame
    finding: str
    options: DrawOptions

    @property
    def title(self) -> str:
        """Heading and title of the figure."""
        return f"{self.heading}. {self.entry.title}."

    def caption(self) -> Caption:
        """The parts of the short caption."""
        return Caption(
            title=self.title,
            drawn=self.drawn,
            found=f"These recordings: {self.brief}",
            claim=f"The paper (Lubana and Dick, ICLR 2021) claims: {self.entry.claim}.",
            absent=self.absent,
            made=made_from(self.spec, self.entry.kind, self.options),
        )

    def alt_text(self) -> AltText:
        """What the picture shows, with its main numbers."""
        networks = map(network_title, self.entry.networks)
        datasets = (dataset_title(str(name)) for name in different(self.spec["dataset"]))
        kind = self.entry.kind.replace("_", " ")
        return AltText(
            title=self.title,
            text=f"{self.drawn} {self.brief}",
            keywords=("neural-network pruning", kind, *networks, *datasets),
        )

    def details(self, name: str) -> dict[str, Any]:
        """Everything about the figure as data that JSON holds.

        Args:
            name: Name of the figure's files, without extension.
        """
        shared, runs = facts_of(self.spec)
        drawing = {key: getattr(self.options, key) for key in PICTURES[self.entry.kind].OPTIONS}
        text = long_caption(
            *(self.heading, self.entry, self.numbers, self.tables, self.spec, self.options),
            self.finding,
            self.absent,
        )
        return {
            "schema": SCHEMA,
            "name": name,
            "title": self.title,
            "kind": self.entry.kind,
            "description": self.drawn,
            "claim": self.entry.claim,
            "finding": self.finding,
            "verdicts": records(self.verdicts),
            "missing": self.absent or None,
            "values": values_of(self.entry.kind, self.numbers),
            "tables": tables_of(self.tables),
            "options": {"drawing": plain(drawing), "recording": shared},
            "runs": runs,
            "alt": f"{self.drawn} {self.brief}",
            "text": text.splitlines(),
        }

    @cached_property
    def drawn(self) -> str:
        """What is drawn, and which other figure of the paper is the same by definition."""
        words = PICTURES[self.entry.kind].drawn(self.numbers, self.options)
        same = [f"Figure {name}" for name in same_figures(self.entry)]
        others = [name for name in same if name != self.heading]
        if self.heading not in same or not others:
            return words
        return f"The same as {listed(others)} by definition. {words}"

    @cached_property
    def brief(self) -> str:
        """The verdicts and the main numbers."""
        numbers = brief(self.entry.kind, self.numbers, self.options)
        return f"{brief_of(self.verdicts)} {numbers}".strip()

    @cached_property
    def absent(self) -> str:
        """What is not recorded; empty if nothing is missing."""
        absent = missing_runs(self.spec, self.entry, self.options)
        return f"Not recorded, so not drawn: {in_words(absent)}." if absent else ""
