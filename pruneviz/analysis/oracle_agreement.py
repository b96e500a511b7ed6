"""Which pruning measure predicts what removing a filter does to the loss: `delta_loss`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pruneviz.analysis.checks import as_names
from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.measures import AnyMeasure, resolve
from pruneviz.analysis.run_facts import table_of
from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import as_tuple
from pruneviz.log.runs import Runs

TRUTH = "delta_loss"
THIRDS = ("first", "middle", "last")  # of the layers, in depth order
FEWEST = 5  # filters of a group whose ranking says anything
_SIZE = "_size"


def oracle_agreement(
    runs: Runs | pd.DataFrame,
    measures: AnyMeasure | Sequence[AnyMeasure] | None = None,
    by: str | Sequence[str] = ("run", "epoch"),
    *,
    signed: bool = False,
) -> pd.DataFrame:
    """Rank correlation of pruning measures with what removing a filter does to the loss.

    Args:
        runs: Runs with the column `delta_loss`, or their filters table.
        measures: Pruning measures, as for `pruneviz.score`. Default: all that are recorded, and
            `random`, a ranking by chance.
        by: Columns to group by, such as ["run", "epoch", "layer"]; "third" is the third of the
            layers that a filter is in.
        signed: Correlate with `delta_loss`: which filter is best removed? Default: with its size,
            which filter changes least?

    Returns:
        One row per measure and group of 5 or more removed filters: the `by` columns, measure, n
        (number of filters) and r (Spearman).

    Raises:
        AnalysisError: If no filter has a `delta_loss`; as for `pruneviz.correlate`.
        ScoreError: If a measure is unknown, or the table lacks a column that it needs.

    Example:
        >>> pv.oracle_agreement(pv.load("data/cifar-mini-oracle"), by=["run", "epoch", "third"])
    """
    by = as_names(by)
    known = recorded_measures(runs) if measures is None else ()
    asked = [*(name for name in known if name != TRUTH), "random"]
    chosen = asked if measures is None else list(as_tuple(measures))
    columns = runs.columns("filters") if isinstance(runs, Runs) else list(runs)
    if TRUTH not in columns:
        raise AnalysisError(
            "no run has the column delta_loss; record it with `pruneviz record --oracle 200`, or "
            "measure it again from kept weights with `pruneviz remeasure ... --oracle 200`"
        )
    keys = [name for name in by if name != "third"]
    filters = table_of(runs, [*chosen, TRUTH], [*keys, "run", "layer"])
    if "third" in by:
        filters = filters.assign(third=thirds(filters))
    removed = filters[filters[TRUTH].notna()]
    if removed.empty:
        raise AnalysisError("no filter has a delta_loss; pass epochs at which it was measured")
    removed = removed.assign(**{_SIZE: removed[TRUTH].abs()})
    truth = TRUTH if signed else _SIZE
    parts = [
        correlate(removed, one, truth, by=by, method="spearman", interval=None).assign(
            measure=one if isinstance(one, str) else resolve(one).name
        )
        for one in chosen
    ]
    found = pd.concat(parts, ignore_index=True)
    return found.loc[found["n"] >= FEWEST, [*by, "measure", "n", "r"]].reset_index(drop=True)


def thirds(filters: pd.DataFrame) -> pd.Series:
    """The third of the layers that each row is in: "first", "middle" or "last".

    The first and last third are as many layers from either end as a third of their number, rounded
    down, as in `pruneviz.analysis.pruned_fractions`; the others are in the middle.

    Args:
        filters: Filters table; layers stand in depth order, as they are recorded.
    """
    parts = []
    for _, rows in filters.groupby("run", observed=True, sort=False):
        layers = rows["layer"].astype("str")
        names = list(dict.fromkeys(layers))
        third = len(names) // 3
        places = {
            name: THIRDS[0 if at < third else 2 if at >= len(names) - third else 1]
            for at, name in enumerate(names)
        }
        parts.append(layers.map(places))
    return pd.concat(parts).reindex(filters.index)
