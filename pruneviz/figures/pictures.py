"""The kinds of pictures: what each module of a kind offers, and which module a kind's name stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.figures import correlation_curve, scatter
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.options import DrawOptions
from pruneviz.runlog import Runs


class Picture(Protocol):
    """A kind of picture: numbers first, then the picture and the words that are made of those numbers alone."""

    @property
    def NEEDS(self) -> tuple[str, ...]:  # noqa: N802
        """Columns of the filters table that the numbers are made of."""

    @property
    def OPTIONS(self) -> tuple[str, ...]:  # noqa: N802
        """The choices of `DrawOptions` that the picture depends on."""

    def table(self, runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
        """The numbers of the picture."""

    def draw(self, table: pd.DataFrame, options: DrawOptions) -> Figure:
        """The picture of those numbers."""

    def drawn(self, table: pd.DataFrame, options: DrawOptions) -> str:
        """What the picture shows, in words."""

    def values(self, table: pd.DataFrame, options: DrawOptions) -> list[str]:
        """The computed values, in lines."""

    def finding(self, table: pd.DataFrame, options: DrawOptions) -> str:
        """What the recordings say to the paper's claim."""


PICTURES: Mapping[str, Picture] = {"scatter": scatter, "correlation_curve": correlation_curve}
