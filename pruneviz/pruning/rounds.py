"""Pruning in rounds, as arithmetic: how many filters are gone after each round, and which are next by a measure.

A *group* is what is pruned at once: a filter, with those that depend on it alone (a depthwise filter fed by it). Groups are ranked
together over all layers and each counts once, however many filters it has. Source: Lubana and Dick, ICLR 2021, and their code.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import get_args

import numpy as np
import pandas as pd

from pruneviz.analysis.scores import NEEDS, score
from pruneviz.errors import PruningError
from pruneviz.log.vocabulary import Schedule

# Columns that are no sums over a filter's weights, so that those of several filters do not add up to that of their group.
_NOT_ADDITIVE = frozenset({"sigma", "sigma_delta"})
_KEYS = frozenset({"layer", "filter"})


def gone_after(target: float, rounds: int, schedule: Schedule = "published") -> list[Fraction]:
    """The fraction of all groups that is gone after each of `rounds` rounds; after the last it is `target`, exactly.

    "published": round i of n prunes p / (i p + n (1 - p)) of what is left, as the published code does, so that early rounds prune most;
    "linear": every round prunes the same number, p / n of all. Errors: `PruningError` for a target outside (0, 1), rounds below 1, and
    an unknown schedule.
    """
    if not 0 < target < 1:
        raise PruningError(
            f"the target is {target!r}; give the fraction of filters to prune, above 0 and below 1, such as 0.6"
        )
    if rounds < 1:
        raise PruningError(f"{rounds} rounds prune nothing; give 1 round or more")
    if schedule not in get_args(Schedule):
        raise PruningError(f"schedule={schedule!r}; choose one of {', '.join(get_args(Schedule))}")
    p, n = (
        Fraction(str(target)),
        rounds,
    )  # by its digits: 0.6 is three fifths, which no binary number is
    if schedule == "linear":
        return [p * i / n for i in range(1, n + 1)]
    return [i * p / (i * p + n * (1 - p)) for i in range(1, n + 1)]


def pruned_after(
    total: int, target: float, rounds: int, schedule: Schedule = "published"
) -> list[int]:
    """How many of `total` groups are gone after each round: `gone_after` of them, to the nearest whole number."""
    return [round(total * gone) for gone in gone_after(target, rounds, schedule)]


def flowandprune_after(total: int, target: float, rounds: int, *, residual: bool) -> list[int]:
    """How many entries of its ranking the published code prunes up to each round, its rounding included.

    It rounds down what each round prunes of what is left; with residual networks it rounds the percentage kept down to a whole number,
    round after round, so that 60, 65 and 75 % in 25 rounds become 68, 73 and 82 %.
    """
    shares = gone_after(target, rounds)
    gone, percent, counts = 0, 100, []
    for before, after in zip([Fraction(0), *shares], shares, strict=False):
        left = (1 - after) / (1 - before)
        percent = int(percent * left)
        gone = (
            total - int(Fraction(percent, 100) * total)
            if residual
            else gone + int((1 - left) * (total - gone))
        )
        counts.append(gone)
    return counts


def group_scores(table: pd.DataFrame, measure: str) -> pd.Series:
    """The importance of every group under a measure, indexed by group.

    Args: `table`, a filters table with a column `group`. A group is one filter made of all its members' weights: columns that are sums
    over weights add up, and the measure is taken of the sums. Measures of other columns (batch-norm scales) are the mean of
    those of the members that have one; what is drawn by the name of a filter (random) is that of the first member, since a mean of draws
    is drawn to the middle. Null where a needed value is null. Errors: those of `pruneviz.score`.
    """
    needed = NEEDS.get(measure, ())
    if needed and set(needed) <= _KEYS:
        return lead_scores(table, measure)
    if _NOT_ADDITIVE & set(needed) or not set(needed) <= set(table.columns) or not needed:
        return score(table, measure).groupby(table["group"]).mean()
    columns = table[list(needed)].astype("float64")
    sums = columns.groupby(table["group"]).sum()
    absent = columns.isna().any(axis=1).groupby(table["group"]).any()
    return score(sums, measure).mask(absent)


def lead_scores(table: pd.DataFrame, measure: str) -> pd.Series:
    """As `group_scores`, but a group has the importance of its first member, as in the published code."""
    return score(table, measure).groupby(table["group"]).first()


def kept_minimum(filters: int, keep_at_least: float) -> int:
    """How many filters of a layer always stay: the fraction `keep_at_least` of the unpruned layer, plus one; none when that is 0."""
    return int(keep_at_least * filters) + 1 if keep_at_least > 0 else 0


def protected_by_score(table: pd.DataFrame, minimum: Mapping[str, int]) -> pd.Series:
    """Which filters a layer's minimum protects: those of the highest `score`, the later of equal ones; boolean, by the rows of `table`.

    Args: `table` with layer and score, one row per filter that is still there; `minimum`, filters to protect, by layer.
    """
    layer = table["layer"].astype(str)
    place = (
        table["score"].rank(method="first", na_option="top").groupby(layer).rank(ascending=False)
    )
    return place <= layer.map(minimum)


def protected_by_position(table: pd.DataFrame, minimum: Mapping[str, int]) -> pd.Series:
    """As `protected_by_score`, but of every layer the last filters in their order are protected, whatever their score."""
    layer = table["layer"].astype(str)
    return layer.groupby(layer).cumcount(ascending=False) < layer.map(minimum)


def ranked_groups(table: pd.DataFrame) -> list[int]:
    """The groups that may be pruned, the lowest score first, equal ones in the order of the table.

    Args: `table`, one row per filter, with group, score (the group's) and protected; a group with a protected filter or without a score is
    left out.
    """
    free = ~table["protected"] & table["score"].notna()
    allowed = free.groupby(table["group"]).transform("all")
    groups = table[allowed].drop_duplicates("group")
    return (
        groups["group"].to_numpy()[np.argsort(groups["score"].to_numpy(), kind="stable")].tolist()
    )


def lowest_groups(table: pd.DataFrame, number: int) -> list[int]:
    """The first `number` of `ranked_groups`. Errors: `PruningError` when there are fewer."""
    groups = ranked_groups(table)
    if number > len(groups):
        raise PruningError(out_of_reach(table, number, len(groups)))
    return groups[:number]


def out_of_reach(table: pd.DataFrame, number: int, most: int) -> str:
    """Why no more than `most` of the `number` groups can be pruned, and what to do."""
    unscored = int(table["score"].isna().sum())
    why = f"{unscored} filters have no score, and " if unscored else ""
    return (
        f"{number} more groups are to be pruned, but only {most} can be: {why}of every layer a minimum is kept; "
        "lower the target or keep_at_least, or choose another measure"
    )
