"""How alike the rankings of all pruning measures are: the matrix of their correlations, for each group of a log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import pandas as pd

from pruneviz.analysis.correlation import correlate
from pruneviz.analysis.scores import NEEDS, SCORES, score
from pruneviz.errors import AnalysisError
from pruneviz.log.vocabulary import CorrelationMethod


def recorded_measures(filters: pd.DataFrame) -> list[str]:
    """The pruning measures that a filters table can supply: those whose columns it has, not wholly null, each ranking once.

    A measure that coincides with an earlier one by definition (`snip` with `loss_preservation`) is left out.
    """
    held = [
        name
        for name, needed in NEEDS.items()
        if set(needed) <= set(filters) and filters[list(needed)].notna().any().all()
    ]
    return [name for name in held if name not in ("snip", "random")]


def correlation_matrix(
    filters: pd.DataFrame,
    measures: Sequence[str] | None = None,
    by: Sequence[str] = ("run", "epoch"),
    method: CorrelationMethod = "spearman",
) -> pd.DataFrame:
    """Correlation of every pruning measure with every other over the filters of each group.

    Args: `filters`, a filters table; `measures`, keys of `pruneviz.analysis.scores.SCORES` or columns (None: all that the table can supply, see
    `recorded_measures`); `by` and `method` as for `pruneviz.correlate`.
    Returns: one row per group and ordered pair: the columns of `by`, x, y, n, r; r of a measure with itself is 1. For a square of one
    group: `.pivot(index="x", columns="y", values="r")`. Groups without values of a pair lack its rows.
    Errors: `AnalysisError` for fewer than two measures; those of `pruneviz.correlate` and `pruneviz.score`.
    """
    names = list(dict.fromkeys(recorded_measures(filters) if measures is None else measures))
    if len(names) < 2:
        raise AnalysisError(
            f"a matrix needs two measures, this has [{', '.join(names)}]; record derivative columns, or name more measures"
        )
    known = filters.assign(
        **{name: score(filters, name) for name in names if name in SCORES and name not in filters}
    )
    parts = [
        correlate(known, x, y, by=by, method=method).assign(x=x, y=y)
        for x, y in combinations_with_replacement(names, 2)
    ]
    upper = pd.concat(parts, ignore_index=True)
    lower = upper[upper["x"] != upper["y"]].rename(columns={"x": "y", "y": "x"})
    order = {name: place for place, name in enumerate(names)}
    found = pd.concat([upper, lower], ignore_index=True).sort_values(
        [*by, "x", "y"],
        key=lambda column: column.map(order) if column.name in ("x", "y") else column,
        ignore_index=True,
    )
    return found[[*by, "x", "y", "n", "r"]]
