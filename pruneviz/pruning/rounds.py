"""Arithmetic of pruning in rounds: number of groups pruned after each round, and their ranking.

Coupled filters form a *group* that is pruned together: a filter and the filters that depend only on
it (a depthwise filter that reads it). Groups are ranked together over all layers, and each counts
once, whatever its size.

References:
    Lubana and Dick, ICLR 2021, and its published code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import get_args

import numpy as np
import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, resolve
from pruneviz.analysis.scores import score
from pruneviz.errors import PruningError
from pruneviz.log.arguments import exactly, is_number, is_whole
from pruneviz.log.schema import is_norm, is_sum
from pruneviz.log.vocabulary import PruningSchedule

_KEYS = frozenset({"layer", "filter"})


def gone_after(
    target: float, rounds: int, schedule: PruningSchedule = "published"
) -> list[Fraction]:
    """Fraction of all groups pruned after each round.

    Args:
        target: Fraction pruned after the last round, above 0 and below 1.
        rounds: Number of pruning rounds.
        schedule: "published" prunes the fraction p / (i p + n (1 - p)) of the remaining groups in
            round i of n, as the published code does: early rounds prune most. "linear" prunes p / n
            of all groups in every round.

    Returns:
        One exact fraction per round; the last one equals `target`.

    Raises:
        PruningError: If the target is outside (0, 1), `rounds` is below 1, or the schedule unknown.
    """
    if not (is_number(target) and 0 < target < 1):
        raise PruningError(
            f"the target is {target!r}; "
            "give the fraction of filters to prune, above 0 and below 1, such as 0.6"
        )
    if not is_whole(rounds):
        raise PruningError(f"rounds={rounds!r}; give a whole number of pruning rounds, such as 5")
    if rounds < 1:
        raise PruningError(f"{rounds} rounds prune nothing; give 1 round or more")
    if schedule not in get_args(PruningSchedule):
        known = ", ".join(get_args(PruningSchedule))
        raise PruningError(f"schedule={schedule!r}; choose one of {known}")
    p, n = exactly(target), rounds
    if schedule == "linear":
        return [p * i / n for i in range(1, n + 1)]
    return [i * p / (i * p + n * (1 - p)) for i in range(1, n + 1)]


def pruned_after(
    total: int, target: float, rounds: int, schedule: PruningSchedule = "published"
) -> list[int]:
    """Number of groups pruned after each round.

    Args:
        total: Number of groups in the unpruned network, `Pruner.groups`.
        target: Fraction pruned after the last round, above 0 and below 1.
        rounds: Number of pruning rounds.
        schedule: "published" prunes most in early rounds, as the published code does: the fraction
            p / (i p + n (1 - p)) of the remaining groups in round i of n, with target p. "linear"
            prunes the same number in every round.

    Returns:
        One number per round, rounded to whole groups, for the argument `gone` of `Pruner.prune`.

    Raises:
        PruningError: If the target is outside (0, 1), `rounds` is below 1, or the schedule unknown.

    References:
        Lubana and Dick, ICLR 2021.

    Example:
        >>> pv.pruned_after(1000, target=0.75, rounds=5)
        [375, 545, 643, 706, 750]
    """
    return [round(total * gone) for gone in gone_after(target, rounds, schedule)]


def flowandprune_after(total: int, target: float, rounds: int, *, residual: bool) -> list[int]:
    """Number of ranking entries that the published code has pruned after each round.

    The code rounds down the number that each round prunes. For residual networks it rounds the kept
    percentage down to a whole number in every round, so targets of 60, 65 and 75 % in 25 rounds
    become 68, 73 and 82 %.

    Args:
        total: Number of filters in the unpruned network.
        target: Fraction to prune, above 0 and below 1.
        rounds: Number of pruning rounds.
        residual: Whether the network has residual sums (`Pruner.residual`).

    Raises:
        PruningError: As for `gone_after`.
    """
    shares = gone_after(target, rounds)
    gone, percent, counts = 0, 100, []
    for before, after in zip([Fraction(0), *shares], shares, strict=False):
        left = (1 - after) / (1 - before)
        percent = int(percent * left)
        if residual:
            gone = total - int(Fraction(percent, 100) * total)
        else:
            gone += int((1 - left) * (total - gone))
        counts.append(gone)
    return counts


def group_scores(table: pd.DataFrame, measure: AnyMeasure) -> pd.Series:
    """Importance of every group.

    A group counts as one filter with the weights of all members: columns that are sums over weights
    are added up before the measure is computed. Measures of other columns (batch-norm scales), or
    of columns that they do not name, are averaged over the members that have a value. A random
    score is taken from the first member, because means of draws would concentrate around 0.5.

    Args:
        table: Filters table with a column `group`.
        measure: Pruning measure, as for `pruneviz.score`.

    Returns:
        One score per group, indexed by group; null if a needed value is null.

    Raises:
        ScoreError: As for `pruneviz.score`.
    """
    needed = resolve(measure).needs or ()
    if needed and set(needed) <= _KEYS:
        return lead_scores(table, measure)
    norms = [name for name in needed if is_norm(name)]
    adds_up = bool(needed) and all(is_sum(name) or name in norms for name in needed)
    if not adds_up or not set(needed) <= set(table.columns):
        return score(table, measure).groupby(table["group"]).mean()
    columns = table[list(needed)].astype("float64")
    columns[norms] = columns[norms] ** 2
    sums = columns.groupby(table["group"]).sum()
    sums[norms] = np.sqrt(sums[norms])
    absent = columns.isna().any(axis=1).groupby(table["group"]).any()
    return score(sums, measure).mask(absent)


def lead_scores(table: pd.DataFrame, measure: AnyMeasure) -> pd.Series:
    """Like `group_scores`, but with the score of the first member, as in the published code."""
    return score(table, measure).groupby(table["group"]).first()


def kept_minimum(filters: int, keep_at_least: float) -> int:
    """Number of always kept filters in a layer: the fraction plus one, or none if 0.

    The fraction is rounded down, exactly: 0.29 of 100 filters are 29.
    """
    return math.floor(exactly(keep_at_least) * filters) + 1 if keep_at_least > 0 else 0


def protected_by_score(table: pd.DataFrame, minimum: Mapping[str, int]) -> pd.Series:
    """Mask of filters protected by their layer's minimum: the highest scores.

    For equal scores, later filters are protected.

    Args:
        table: One row per filter that is not pruned, with `layer` and `score`.
        minimum: {layer: number of filters to protect}.

    Returns:
        Boolean, indexed like `table`.
    """
    layer = table["layer"].astype(str)
    rank = table["score"].rank(method="first", na_option="top")
    place_from_top = rank.groupby(layer).rank(ascending=False)
    return place_from_top <= layer.map(minimum)


def protected_by_position(table: pd.DataFrame, minimum: Mapping[str, int]) -> pd.Series:
    """Like `protected_by_score`, but protects the last filters of a layer, not the best."""
    layer = table["layer"].astype(str)
    return layer.groupby(layer).cumcount(ascending=False) < layer.map(minimum)


def ranked_groups(table: pd.DataFrame) -> list[int]:
    """Groups that may be pruned, lowest score first; equal scores in table order.

    Groups with a protected filter or without a score are excluded.

    Args:
        table: One row per filter, with `group`, `score` (of the group) and `protected`.
    """
    free = ~table["protected"] & table["score"].notna()
    allowed = free.groupby(table["group"]).transform("all")
    groups = table[allowed].drop_duplicates("group")
    order = np.argsort(groups["score"].to_numpy(), kind="stable")
    return groups["group"].to_numpy()[order].tolist()


def lowest_groups(table: pd.DataFrame, number: int) -> list[int]:
    """The first groups of `ranked_groups`; raises `PruningError` if there are fewer."""
    groups = ranked_groups(table)
    if number > len(groups):
        raise PruningError(out_of_reach(table, number, len(groups)))
    return groups[:number]


def out_of_reach(table: pd.DataFrame, number: int, most: int) -> str:
    """Message that only `most` of `number` groups can be pruned, with reason and repair."""
    unscored = int(table["score"].isna().sum())
    why = f"{unscored} filters have no score, and " if unscored else ""
    return (
        f"{number} more groups are to be pruned, but only {most} can be: "
        f"{why}every layer keeps a minimum; "
        "lower the target or keep_at_least, or choose another measure"
    )
