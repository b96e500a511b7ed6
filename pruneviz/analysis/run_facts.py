"""Facts of runs that pruning measures need beside the columns of filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.formulas import SAMPLE_SIZE
from pruneviz.analysis.measures import AnyMeasure, Measure, is_measure, resolve
from pruneviz.errors import ScoreError
from pruneviz.log.runs import Runs

# Fact of a run whose standard errors are over batches: their number.
BATCHES = "sample_batches"


def facts_needed(quantities: Sequence[AnyMeasure]) -> list[str]:
    """Facts of runs that some columns or measures need.

    Raises:
        ScoreError: If a measure does not exist.
    """
    measures = [resolve(q) for q in quantities if isinstance(q, Measure) or is_measure(q)]
    return list(dict.fromkeys(fact for measure in measures for fact in measure.facts))


def table_of(source: Runs | pd.DataFrame, quantities: Sequence[AnyMeasure]) -> pd.DataFrame:
    """The filters table of runs, with the facts that some columns or measures need; or the table.

    Args:
        source: Runs, or a filters table.
        quantities: Columns, or pruning measures as for `pruneviz.score`.

    Raises:
        ScoreError: As for `with_facts_needed`.
    """
    if not isinstance(source, Runs):
        return source
    return with_facts_needed(source.filters, source.spec, quantities)


def with_facts_needed(
    filters: pd.DataFrame, spec: pd.DataFrame, quantities: Sequence[AnyMeasure]
) -> pd.DataFrame:
    """A filters table with the run facts that some columns or measures need as columns.

    Args:
        filters: Filters table with a column `run`.
        spec: One row per run.
        quantities: Columns, or pruning measures as for `pruneviz.score`.

    Raises:
        ScoreError: If a measure does not exist; if the number of batches behind the standard errors
            of a run is not recorded.
    """
    runs, by_run = filters["run"].astype("str"), spec.set_index("run")
    facts = {name: runs.map(_fact(by_run, name)) for name in facts_needed(quantities)}
    return filters.assign(**{name: fact for name, fact in facts.items() if name not in filters})


def _fact(by_run: pd.DataFrame, name: str) -> pd.Series:
    if name != SAMPLE_SIZE:
        return by_run[name]
    batches = by_run.get(BATCHES, pd.Series(np.nan, index=by_run.index))
    unknown = by_run.index[(by_run["bn"] == "batch") & batches.isna()]
    if len(unknown):
        raise ScoreError(
            f"the standard errors of run {unknown[0]} are over batches (bn='batch'), and it does "
            "not say over how many; choose a measure that needs no sample_size"
        )
    return batches.where(batches.notna(), by_run[SAMPLE_SIZE]).astype("float64")
