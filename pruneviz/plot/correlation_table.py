"""The numbers of a correlation plot: correlations and mask distances by epoch, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import pandas as pd

from pruneviz.analysis.masks import check_ratio
from pruneviz.analysis.matrix import recorded_measures
from pruneviz.analysis.measures import AnyMeasure, Measure
from pruneviz.analysis.settings import different
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod, with_companion
from pruneviz.plot.groups import GROUP, default_facts, facts_apart, name_in, with_groups
from pruneviz.plot.mean_correlations import correlations_of_rows
from pruneviz.plot.mean_masks import AUTO, mean_mask_distances
from pruneviz.plot.quantities import quantity_of, valued_rows
from pruneviz.plot.row_kind import (
    ROW_KINDS_BY_UNIT,
    RowKind,
    logged_name,
    recorded_correlations,
    recorded_pairs,
    row_kind_of,
)
from pruneviz.plot.rows import held_epochs, runs_with
from pruneviz.plot.source import Chosen, Source, asked_epochs, only_epochs, runs_of
from pruneviz.plot.words import listed

RANDOM = "random"
LAYER = "layer"
KEPT = "kept"
_MOST_LINES = 200
_COLUMNS = (  # of the table
    *(GROUP, "x", "y", "epoch", LAYER, "depth", "seeds", "band", "unrelated"),
    *("mask_score", "mask_ref_epoch", "mask_distance", "chance"),
    *(kind.counted for kind in ROW_KINDS_BY_UNIT.values()),
    *get_args(CorrelationMethod),
)
# Half the width of the interval that holds 95 % of the correlations of n unrelated pairs.
_SPREAD = 1.96


@dataclass(frozen=True)
class _Asked:
    """What a correlation plot shows, found among the runs.

    Attributes:
        xs: Quantities, each a line if there are several.
        y: The quantity that they are correlated with.
        several: Whether x was a list, so that it is judged against chance.
        fact: Fact of the runs that tells lines apart.
        column: Column of the rows that tells lines apart.
        methods: The chosen coefficient and those beside it.
        mask_score: Measure of the masks; AUTO, or None for no masks.
        mask_ratio: Fraction that the masks prune; None for that of the log.
        epochs: Epochs that were asked for.
    """

    xs: tuple[Measure, ...]
    y: Measure
    several: bool
    fact: str | None
    column: str | None
    methods: tuple[CorrelationMethod, ...]
    mask_score: AnyMeasure | None
    mask_ratio: float | None
    epochs: int | Iterable[int] | None

    @property
    def facts(self) -> list[str]:
        """Columns that tell lines apart by the runs."""
        return [self.fact] if self.fact else []

    @property
    def needed(self) -> list[Measure]:
        """Quantities that a run must hold: of several x, it may lack some."""
        return [self.y] if self.several else [*self.xs, self.y]


def correlation_table(
    source: Source,
    x: AnyMeasure | Sequence[AnyMeasure] | None = None,
    y: AnyMeasure | None = None,
    *,
    by: str | None = None,
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
    unit: str | None = None,
    method: CorrelationMethod = "pearson",
    mask_score: AnyMeasure | None = AUTO,
    mask_ratio: float | None = None,
) -> pd.DataFrame:
    """The numbers that `pruneviz.plot.correlation` draws.

    Args:
        source: As for `pruneviz.plot.correlation`, as are all arguments.
        x: Quantities to correlate with y.
        y: The other quantity.
        by: What the lines of a panel differ in.
        epochs: Epochs to show.
        runs: Runs to show.
        unit: What the rows are.
        method: Correlation coefficient.
        mask_score: Measure of the masks.
        mask_ratio: Fraction that the masks prune.

    Returns:
        One row per panel, line and epoch: network, dataset, group (the setting of the runs in
        words, if they differ in more than their seed), what `by` names (and depth, for layers), x,
        y, epoch; at epochs with a correlation seeds (runs averaged), filters (or what the rows are;
        the fewest that a run correlates), for the coefficient and those beside it the mean over
        runs, its standard deviation (`_sd`) and its 95 % interval (`_low`, `_high`), band_low and
        band_high (mean ± standard deviation, or the interval of a single run) and, if x is a list,
        unrelated (95 % of the correlations of unrelated values are below it in size); at epochs
        with masks mask_score, mask_ref_epoch, mask_distance (mean over runs), mask_distance_sd and
        chance (of independent random masks).

    Raises:
        FigureError: If x, y, by, an epoch, a run or masks are not there; names what is.
        AnalysisError: If mask_ratio is outside [0, 1].
    """
    if mask_ratio is not None:
        check_ratio(mask_ratio)
    chosen = runs_of(source, runs, unit)
    asked = _asked(
        chosen, x, y, by, with_companion(method), mask_score, mask_ratio, asked_epochs(epochs)
    )
    held = _held(chosen, asked)
    spec = runs_with(chosen.spec, held, asked.needed, named=runs is not None)
    spec = facts_apart(spec, _COLUMNS, asked.facts)
    asked = replace(asked, fact=asked.fact and name_in(spec, asked.fact))
    settings = [name for name in default_facts(spec) if name != asked.fact]
    spec, _ = with_groups(spec, settings, asked.facts)
    shown = _shown_epochs(held[held["run"].isin(set(spec["run"].astype(str)))], asked)
    groups = spec.groupby(["group", *asked.facts], sort=False, observed=True, dropna=False)
    parts = [_of_setting(chosen, rows, shown, asked) for _, rows in groups]
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return found if len(different(spec["group"])) > 1 else found.drop(columns="group")


def _held(runs: Runs, asked: _Asked) -> pd.DataFrame:
    """The epochs at which each run holds x and y, in its rows or correlated while recording."""
    needed = {name for each in asked.needed for name in each.columns}
    if needed <= set(runs.recorded("filters")):
        return held_epochs(runs, runs.spec, asked.needed)
    pairs = recorded_pairs(runs, runs.spec)
    x, y = logged_name(asked.xs[0].name), logged_name(asked.y.name)
    of_pair = pairs[pairs["x"].isin((x, y)) & pairs["y"].isin((x, y))]
    return of_pair[["run", "epoch"]]


def _asked(
    runs: Runs,
    x: AnyMeasure | Sequence[AnyMeasure] | None,
    y: AnyMeasure | None,
    by: str | None,
    methods: tuple[CorrelationMethod, ...],
    mask_score: AnyMeasure | None,
    mask_ratio: float | None,
    epochs: int | Iterable[int] | None,
) -> _Asked:
    if y is None:
        raise FigureError(
            "y is missing; name what x is correlated with, such as y='loss_preservation'"
        )
    pairs = recorded_pairs(runs, runs.spec)
    logged = {*pairs["x"], *pairs["y"]}
    vertical = quantity_of(y, runs, "y", logged)
    several = x is None or isinstance(x, list | tuple)
    if by == KEPT:
        raise FigureError(
            "by='kept': pruned filters do not count in correlations; pv.plot.scatter(..., "
            "hue='kept') shows them beside those that are kept"
        )
    if by is not None and (not isinstance(by, str) or by == "epoch"):
        raise FigureError(
            f"by={by!r}, expected what the lines differ in: one fact of the runs or one column of "
            f"their filters, such as {LAYER!r}"
        )
    if several and by is not None:
        raise FigureError(
            f"by={by!r} tells lines apart, and so does x, which names several measures; leave out "
            "by, or name one measure"
        )
    if x is None or isinstance(x, list | tuple):
        found = _several(runs, x, vertical)
    else:
        found = (quantity_of(cast(AnyMeasure, x), runs, "x", logged),)
    if vertical.name in [each.name for each in found]:
        raise FigureError(f"x and y are both {vertical.name}; choose two quantities")
    fact = by if by is not None and by in runs.spec else None
    column = by if by is not None and fact is None else None
    if column is not None and column not in runs.recorded("filters"):
        facts = [str(name) for name in runs.spec if runs.spec[name].notna().any()]
        problem = unknown_name("fact of these runs or column of their filters", column, facts)
        raise FigureError(f"by: {problem}; or {LAYER}")
    if several and mask_score == AUTO:
        mask_score = None
    return _Asked(found, vertical, several, fact, column, methods, mask_score, mask_ratio, epochs)


def _several(runs: Runs, x: Sequence[AnyMeasure] | None, y: Measure) -> tuple[Measure, ...]:
    """The quantities of a list, by default all measures that the runs hold, and the control."""
    wanted: list[AnyMeasure] = [
        each for each in (recorded_measures(runs) if x is None else x) if x or each != y.name
    ]
    found = [quantity_of(each, runs, f"x{place}") for place, each in enumerate(wanted, 1)]
    if RANDOM not in [each.name for each in found] and y.name != RANDOM:
        found.append(quantity_of(RANDOM, runs, "x"))
    known = [each.name for each in found]
    twice = [name for name in known if known.count(name) > 1]
    if twice:
        raise FigureError(f"x names {twice[0]} twice; name it once")
    return tuple(found)


def _shown_epochs(held: pd.DataFrame, asked: _Asked) -> list[int] | None:
    return None if asked.epochs is None else only_epochs(list(held["epoch"]), asked.epochs)


def _of_setting(
    runs: Runs, spec: pd.DataFrame, epochs: list[int] | None, asked: _Asked
) -> pd.DataFrame:
    """Lines of the runs of one setting, with their mask distances."""
    row_kind = row_kind_of(spec)
    lines = list(_lines(runs, spec, row_kind, epochs, asked))
    if not any(len(line) for _, line in lines):
        raise FigureError(
            f"no epoch of {listed(spec['run'])} holds both "
            f"{listed([*(each.name for each in asked.xs), asked.y.name])}; record derivative "
            "columns at some epoch after the first"
        )
    masks = None
    if asked.mask_score is not None:
        masks = mean_mask_distances(runs, spec, asked.mask_score, asked.mask_ratio)
    if masks is not None and epochs is not None:
        masks = masks[masks["epoch"].isin(epochs)]
    first = spec.iloc[0]
    facts = {name: first[name] for name in ("network", "dataset", "group", *asked.facts)}
    return pd.concat(
        [_with_masks(line, masks, facts | keys) for keys, line in lines if len(line)],
        ignore_index=True,
    )


def _lines(
    runs: Runs, spec: pd.DataFrame, row_kind: RowKind, epochs: list[int] | None, asked: _Asked
) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """What each line is of, and its correlations by epoch."""
    rows: pd.DataFrame | None = None
    for x in asked.xs:
        found = None
        if row_kind.sampled and not asked.column:
            found = recorded_correlations(runs, spec, x.name, asked.y.name, asked.methods, epochs)
        if found is None:
            rows = _rows(runs, spec, epochs, asked) if rows is None else rows
            by = [asked.column, "epoch"] if asked.column else ["epoch"]
            names = (x.name, asked.y.name)
            found = correlations_of_rows(rows, spec, *names, asked.methods, row_kind.counted, by)
        found = _with_band(found, asked.methods[0])
        if asked.several:
            found = found.assign(unrelated=_unrelated(found, row_kind, asked.methods[0]))
        pair: dict[str, object] = {"x": x.name, "y": asked.y.name}
        if asked.column is None or rows is None:
            yield pair, found
            continue
        for keys, line in _by_column(found, rows, asked.column):
            yield keys | pair, line


def _by_column(
    found: pd.DataFrame, rows: pd.DataFrame, column: str
) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """A line for each value of a column; layers in their depth order."""
    values = different(rows[column].astype(object))
    if len(values) > _MOST_LINES:
        raise FigureError(
            f"by is {column!r}, which has {len(values)} values, and {_MOST_LINES} lines are the "
            "most; choose a column with fewer"
        )
    for depth, value in enumerate(values, 1):
        keys = {column: value} | ({"depth": depth} if column == LAYER else {})
        yield keys, found[found[column] == value].drop(columns=column)


def _rows(runs: Runs, spec: pd.DataFrame, epochs: list[int] | None, asked: _Asked) -> pd.DataFrame:
    """Rows that have y, with every x as far as it is there."""
    further = asked.xs if asked.several else ()
    columns = [asked.column] if asked.column else []
    return valued_rows(runs, spec, asked.needed, further, columns, epochs)


def _with_band(correlations: pd.DataFrame, method: str) -> pd.DataFrame:
    mean, sd = correlations[method], correlations[f"{method}_sd"]
    return correlations.assign(
        band_low=(mean - sd).fillna(correlations[f"{method}_low"]),
        band_high=(mean + sd).fillna(correlations[f"{method}_high"]),
    )


def _unrelated(correlations: pd.DataFrame, row_kind: RowKind, method: str) -> pd.Series:
    """Size below which 95 % of the mean correlations of unrelated values are.

    References:
        Kendall and Gibbons, "Rank Correlation Methods", 1990: variances of unrelated rankings.
    """
    n = correlations[row_kind.counted].astype("float64")
    variance = 1 / (n - 1)
    if method == "kendall":
        variance = 2 * (2 * n + 5) / (9 * n * (n - 1))
    runs = correlations["seeds"].where(correlations["seeds"] > 0)
    size = _SPREAD * (variance / runs) ** 0.5
    return size.where(n > 2).clip(upper=1.0)


def _with_masks(
    line: pd.DataFrame, masks: pd.DataFrame | None, keys: dict[str, object]
) -> pd.DataFrame:
    """A line with the mask distances of its runs, which may be at more epochs."""
    rows = line if masks is None else line.merge(masks, on="epoch", how="outer")
    rows = rows.sort_values("epoch", ignore_index=True)
    return pd.DataFrame({name: [value] * len(rows) for name, value in keys.items()}).join(rows)
