"""The interface of the modules in `pruneviz.figures.kinds`, and their registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.figures.catalogue import Entry
from pruneviz.figures.kinds import (
    accuracy_curve,
    convergence_notes,
    correlation_curve,
    layer_ratios,
    scatter,
)
from pruneviz.figures.options import DrawOptions
from pruneviz.log.runs import Runs


class Picture(Protocol):
    """A kind of picture; picture and text depend only on the numbers."""

    @property
    def NEEDS(self) -> tuple[str, ...]:  # noqa: N802
        """Columns of the log's tables that the numbers are computed from."""

    @property
    def OPTIONS(self) -> tuple[str, ...]:  # noqa: N802
        """Fields of `DrawOptions` that the picture depends on."""

    def table(self, runs: Runs, entry: Entry, options: DrawOptions) -> pd.DataFrame:
        """The numbers of the picture."""

    def draw(self, table: pd.DataFrame, options: DrawOptions) -> Figure:
        """The picture of these numbers."""

    def drawn(self, table: pd.DataFrame, options: DrawOptions) -> str:
        """Description of the picture, in words."""

    def values(self, table: pd.DataFrame, options: DrawOptions) -> list[str]:
        """Lines with the computed values."""


class Companion(Protocol):
    """Further numbers for a kind of picture, computed from the same runs."""

    def tables(self, runs: Runs, entry: Entry, options: DrawOptions) -> Mapping[str, pd.DataFrame]:
        """Further tables, by the suffix of their file names."""

    def values(self, tables: Mapping[str, pd.DataFrame], options: DrawOptions) -> list[str]:
        """Lines with the numbers."""


PICTURES: Mapping[str, Picture] = {
    "accuracy_curve": accuracy_curve,
    "correlation_curve": correlation_curve,
    "scatter": scatter,
    "layer_ratios": layer_ratios,
}
COMPANIONS: Mapping[str, Companion] = {"accuracy_curve": convergence_notes}
