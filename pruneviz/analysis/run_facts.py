"""The filters table that an analysis needs of runs, with the facts of these runs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import pandas as pd

from pruneviz.analysis.formulas import SAMPLE_SIZE
from pruneviz.analysis.measures import RUN_FACTS, AnyMeasure, Measure, is_measure, resolve
from pruneviz.errors import AnalysisError, ScoreError
from pruneviz.log.runs import Runs
from pruneviz.log.scan import Scan
from pruneviz.log.thin_copies import thin_rows, why_left_out

# Fact of a run whose standard errors are over batches: their number.
BATCHES = "sample_batches"
COUNTED = "sample_counted"  # examples with a weight in the loss, where some have none
BATCH_SIZE = "sample_batch_size"


def facts_needed(quantities: Sequence[AnyMeasure]) -> list[str]:
    """Facts of runs that some columns or measures need.

    Raises:
        ScoreError: If a measure does not exist.
    """
    return list(dict.fromkeys(fact for one in _measures(quantities) for fact in one.facts))


def table_of(
    source: Runs | pd.DataFrame,
    quantities: Sequence[AnyMeasure] | None = None,
    keys: Sequence[str] = (),
) -> pd.DataFrame:
    """The filters table that an analysis needs: of runs, as little as it takes; or the table given.

    Args:
        source: Runs, or a filters table.
        quantities: Columns, or pruning measures as for `pruneviz.score`, with the facts of runs
            that they need. Default: the whole table.
        keys: Further columns, and facts of the runs, which become columns too.

    Raises:
        AnalysisError: If it is neither, or a thin copy left out a column that is asked for.
        ScoreError: As for `with_facts_needed`, or a thin copy left out what a measure needs.
    """
    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, Runs):
        raise AnalysisError(
            f"an analysis takes runs or a filters table, not {type(source).__name__}; pass what "
            "pruneviz.load or pruneviz.measure returns"
        )
    known = source.columns("filters")
    check_not_left_out(source, quantities or ())
    facts = [name for name in keys if name not in known and name in source.spec.columns]
    needed = None if quantities is None else _columns_needed(quantities, keys, known)
    if needed is None:
        filters = source.filters
    else:
        wanted = ["run", *(name for name in needed if name not in facts)]
        filters = source.with_columns("filters", wanted)
    if facts:
        runs, by_run = filters["run"].astype("str"), source.spec.set_index("run")
        filters = filters.assign(**{fact: runs.map(by_run[fact]) for fact in facts})
    return with_facts_needed(filters, source.spec, quantities or ())


def check_is_scan(source: object, executor: Executor | None) -> None:
    """Check that an executor is one, and is given with a scan.

    Raises:
        AnalysisError: If it is not.
    """
    if executor is None:
        return
    if not isinstance(executor, Executor):
        raise AnalysisError(
            f"executor={executor!r} is a {type(executor).__name__}; give a concurrent.futures."
            "Executor, such as ProcessPoolExecutor(8), or client.get_executor() of Dask"
        )
    if not isinstance(source, Scan):
        raise AnalysisError(
            f"executor works on a scan, not on a {type(source).__name__} in memory; pass "
            "pruneviz.scan(path), or leave executor out"
        )


def check_not_left_out(source: Runs | Scan, quantities: Sequence[AnyMeasure]) -> None:
    """Check that no thin copy left out what some quantities are computed from.

    A column that was never recorded is another matter: full runs lack it too.

    Args:
        source: Runs, or a scan.
        quantities: Columns, or pruning measures as for `pruneviz.score`.

    Raises:
        AnalysisError: If one left out a column that is asked for; names both.
        ScoreError: If one left out a column that a measure needs.
    """
    spec = source.spec if isinstance(source, Runs) else source.thin_facts
    if thin_rows(spec).empty:
        return
    known = source.columns("filters") if isinstance(source, Runs) else source.columns
    repair = "take the full run, or choose runs that hold it with runs.named"
    for what in quantities:
        if isinstance(what, str) and (what in known or not is_measure(what)):
            why = why_left_out(spec, [what])
            if why:
                raise AnalysisError(f"{why}; {repair}")
            continue
        measure = resolve(what)
        why = why_left_out(spec, measure.columns)
        if why:
            raise ScoreError(
                f"measure {measure.name} needs {', '.join(measure.columns)}; {why}; {repair}"
            )


def facts_known(spec: pd.DataFrame) -> set[str]:
    """Facts of runs that measures can use, which at least one run has."""
    found = set()
    by_run = spec.set_index("run")
    for name in RUN_FACTS & set(spec.columns):
        try:
            values = _fact(by_run, name)
        except ScoreError:
            continue
        if values.notna().any():
            found.add(name)
    return found


def _columns_needed(
    quantities: Sequence[AnyMeasure], keys: Sequence[str], known: Sequence[str]
) -> list[str] | None:
    """Columns that quantities are computed from; None if a measure does not say which."""
    needed = list(keys)
    for what in quantities:
        if isinstance(what, str) and (what in known or not is_measure(what)):
            needed.append(what)
            continue
        measure = resolve(what)
        if measure.needs is None:
            return None
        needed += [*measure.columns, *(name for name in measure.optional if name in known)]
    return needed


def with_facts_needed(
    filters: pd.DataFrame, spec: pd.DataFrame, quantities: Sequence[AnyMeasure]
) -> pd.DataFrame:
    """A filters table with the run facts that some columns or measures need as columns.

    Null in rows of a run whose number of batches behind the standard errors is not recorded.

    Args:
        filters: Filters table with a column `run`.
        spec: One row per run.
        quantities: Columns, or pruning measures as for `pruneviz.score`.

    Raises:
        ScoreError: If a measure does not exist; if it compares all weights of a layer and a run
            stores some; if no run of the table has a number of examples, or
            of batches, behind its standard errors.
    """
    _check_all_weights(spec, quantities)
    missing = [name for name in facts_needed(quantities) if name not in filters]
    if not missing:
        return filters
    runs, by_run = filters["run"].astype("str"), spec.set_index("run")
    by_run = by_run[by_run.index.isin(runs.unique())]
    return filters.assign(**{name: runs.map(_fact(by_run, name)) for name in missing})


def _measures(quantities: Sequence[AnyMeasure]) -> list[Measure]:
    return [resolve(q) for q in quantities if isinstance(q, Measure) or is_measure(q)]


def _check_all_weights(spec: pd.DataFrame, quantities: Sequence[AnyMeasure]) -> None:
    compares = any(measure.name == "lamp" for measure in _measures(quantities))
    if not compares or not {"weights", "weight_rows"} <= set(spec):
        return
    partial = spec[spec["weight_rows"].astype("float64") < spec["weights"].astype("float64")]
    if len(partial):
        run = partial.iloc[0]
        raise ScoreError(
            f"lamp compares all weights of a layer, and run {run['run']} stores "
            f"{int(run['weight_rows'])} of {int(run['weights'])}; record it with a larger rows"
        )


def terms_behind_errors(by_run: pd.DataFrame) -> pd.Series:
    """Number of examples, or of batches that cannot be split, whose spread gives standard errors.

    Args:
        by_run: Facts of runs, indexed by run name.

    Returns:
        Float64, by run name; NaN where it is not recorded.
    """
    none = pd.Series(np.nan, index=by_run.index)
    batches = by_run.get(BATCHES, none).astype("float64")
    examples = by_run.get(SAMPLE_SIZE, none).astype("float64")
    # runs that were measured again store the size of a batch instead
    size = by_run.get(BATCH_SIZE, none).astype("float64")
    batches = batches.where(batches.notna(), (examples / size).apply(np.ceil))
    over_batches = by_run.get("bn", none).eq("batch")
    return batches.where(over_batches | batches.notna(), examples)


def _fact(by_run: pd.DataFrame, name: str) -> pd.Series:
    if name != SAMPLE_SIZE:
        return by_run[name]
    sizes = terms_behind_errors(by_run)
    if len(sizes) and sizes.isna().all():
        raise ScoreError(_size_missing(list(by_run.index[by_run["bn"] == "batch"])))
    return sizes


def _size_missing(over_batches: Sequence[str]) -> str:
    if len(over_batches):
        return (
            f"the standard errors of run {over_batches[0]} are over batches (bn='batch'), and it "
            "does not say over how many; choose a measure that needs no sample_size"
        )
    return (
        "no run says how many examples its standard errors are over; add their number to the "
        "table, as in table.assign(sample_size=250), or choose a measure that needs no sample_size"
    )
