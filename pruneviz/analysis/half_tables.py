"""Values of quantities on two samples of the same filters, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, names, quantity, resolve
from pruneviz.analysis.pairs import values_of
from pruneviz.analysis.run_facts import COUNTED, with_facts_needed
from pruneviz.errors import AnalysisError
from pruneviz.log import schema
from pruneviz.log.runs import Runs

TwoSamples: TypeAlias = Runs | Sequence[pd.DataFrame]

_KEYS = ("run", "epoch", "layer", "filter", "weight")
# Columns of the filters table that are the same on every sample.
_SAME = (
    *("kept", "theta", "theta_delta", "sigma_delta", "synflow", "fpgm"),
    *(*schema.CHEAP_COLUMNS, *schema.CHANGE_COLUMNS),
)


@dataclass(frozen=True, repr=False)
class Halves:
    """Two tables of the same filters in the same order, each measured on a sample of its own.

    Attributes:
        first: Filters measured on the first sample.
        second: The same filters measured on the second sample.
        times: Size of the sample whose reliability is asked for, as a multiple of one of the two,
            for every row.
    """

    first: pd.DataFrame
    second: pd.DataFrame
    times: pd.Series

    def values(self, what: AnyMeasure) -> tuple[np.ndarray, np.ndarray]:
        """A quantity on the two samples, null where it is on either.

        Raises:
            AnalysisError: If it is unknown.
            ScoreError: If it needs a column that half samples do not have.
        """
        one, other = values_of(self.first, what), values_of(self.second, what)
        gone = np.isnan(one) | np.isnan(other)
        return np.where(gone, np.nan, one), np.where(gone, np.nan, other)

    def beside(self, **columns: np.ndarray) -> pd.DataFrame:
        """The keys of the filters with columns of values."""
        keys = [name for name in self.first if name not in schema.MEASURED_COLUMNS]
        return self.first[keys].assign(**columns)


def halves_of(source: TwoSamples, quantities: Sequence[AnyMeasure] = ()) -> Halves:
    """Two tables of the same filters, of half samples or of two samples.

    Args:
        source: Runs recorded with samples=2, or two tables of `pruneviz.measure`.
        quantities: Measures whose facts of the runs are needed.

    Raises:
        AnalysisError: If there are no half samples, or the two tables hold other filters.
    """
    if isinstance(source, Runs):
        return _of_runs(source, quantities)
    if isinstance(source, pd.DataFrame) or len(source) != 2:
        raise AnalysisError(
            "two samples are needed: runs recorded with samples=2, or a pair of tables that "
            "pruneviz.measure returned, one for each sample"
        )
    first, second = source
    keys = [name for name in _KEYS if name in first and name in second]
    if not first[keys].reset_index(drop=True).equals(second[keys].reset_index(drop=True)):
        raise AnalysisError(
            "the two tables hold other filters; measure the same network with equal options"
        )
    first, second = (table.reset_index(drop=True) for table in (first, second))
    return Halves(first, second, pd.Series(2.0, index=first.index))


def measures_of_sample(halves: Halves) -> list[str]:
    """The columns theta_g and theta_hg and all measures whose values depend on the sample."""
    held = [name for name in halves.first if halves.first[name].notna().any()]
    measured = set(held) - {*_KEYS, *_SAME}
    found: list[str] = [name for name in ("theta_g", "theta_hg") if name in measured]
    for name in names():
        needs = resolve(name).needs
        if needs is not None and set(needs) <= set(held) and set(needs) & measured:
            found.append(name)
    return found


def name_of(what: AnyMeasure, halves: Halves) -> str:
    """Name of a quantity in tables."""
    try:
        return quantity(what, list(map(str, halves.first.columns))).name
    except KeyError:
        return str(what)  # `values_of` names what there is


def _of_runs(runs: Runs, quantities: Sequence[AnyMeasure]) -> Halves:
    rows = runs.halves
    if rows.empty:
        raise AnalysisError(
            "these runs have no half samples; record them with samples=2 (pruneviz record "
            "--samples 2, or of runs with kept weights pruneviz remeasure --samples 2)"
        )
    keys = [name for name in _KEYS if name in rows]
    known = runs.columns("filters")
    same = runs.read("filters", [name for name in (*keys, *_SAME) if name in known])
    # as text: categories of two tables may be in another order
    texts = {"run": "str", "layer": "str"}
    rows, same = rows.astype(texts), same.astype(texts)
    first = rows[rows["half"] == "A"].drop(columns="half").reset_index(drop=True)
    second = first[keys].merge(rows[rows["half"] == "B"].drop(columns="half"), on=keys, how="left")
    tables = [
        with_facts_needed(
            own.merge(same, on=keys, how="left", validate="1:1"), runs.spec, [*quantities]
        )
        for own in (first, second)
    ]
    spec = runs.spec.set_index("run")
    counted = spec["sample_size"].astype("float64")
    if COUNTED in spec:  # examples without a weight are in neither half
        counted = spec[COUNTED].astype("float64").fillna(counted)
    sizes = counted / spec["half_size"].astype("float64")
    return Halves(tables[0], tables[1], tables[0]["run"].map(sizes))
