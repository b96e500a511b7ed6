"""The numbers of a scatter plot: points of one run of every setting, correlations over its runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import pandas as pd

from pruneviz.analysis.chosen_epochs import nearest_epochs
from pruneviz.analysis.measures import AnyMeasure, Measure
from pruneviz.analysis.noise import clear_name, clear_of_noise, error_columns, with_degrees
from pruneviz.analysis.settings import SEED, different
from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import CorrelationMethod, with_companion
from pruneviz.plot.groups import GROUP, default_facts, facts_apart, name_in, with_groups
from pruneviz.plot.mean_correlations import correlations_of_rows
from pruneviz.plot.quantities import is_column, quantity_of, valued_rows
from pruneviz.plot.row_kind import ROW_KINDS_BY_UNIT, RowKind, recorded_correlations, row_kind_of
from pruneviz.plot.rows import common_epochs, held_epochs, kept_in, runs_with
from pruneviz.plot.source import Chosen, Source, asked_epochs, only_epochs, runs_of
from pruneviz.plot.words import listed

AxisScale = Literal["symlog", "linear"]

PLACES = ("depth", "layer")  # colours that every table has
KEPT = "kept"  # the colour that shows pruned filters
_COLUMNS = (  # of the table, beside those of filters
    *(GROUP, "epoch", "schedule", "layer", "depth", "filter", "seeds"),
    *(kind.counted for kind in ROW_KINDS_BY_UNIT.values()),
    *get_args(CorrelationMethod),
    "clear",  # which the picture adds
)


@dataclass(frozen=True)
class _Asked:
    """What a scatter plot shows, found among the runs.

    Attributes:
        x: Quantity on the horizontal axis.
        y: Quantity on the vertical axis.
        colour: Quantity that colours points, if it has a value for each of them.
        fact: Fact of the runs that colours points.
        methods: The chosen coefficient and those beside it.
        epochs: Epochs that were asked for.
        seed: Seed that was asked for.
        errors: Recorded columns of standard errors of the axes.
    """

    x: Measure
    y: Measure
    colour: Measure | None
    fact: str | None
    methods: tuple[CorrelationMethod, ...]
    epochs: int | Iterable[int] | None
    seed: int | None
    errors: tuple[str, ...]

    @property
    def axes(self) -> tuple[Measure, Measure]:
        return self.x, self.y

    @property
    def names(self) -> list[str]:
        """Columns of the axes and the colour."""
        return [each.name for each in (*self.axes, self.colour) if each]

    @property
    def facts(self) -> list[str]:
        return [self.fact] if self.fact else []

    @property
    def uncertain(self) -> list[str]:
        """The axes whose standard errors, with all that varies, are recorded."""
        return [name for name in self.names[:2] if set(error_columns(name)) & set(self.errors)]


def points(
    source: Source,
    x: AnyMeasure,
    y: AnyMeasure,
    *,
    hue: AnyMeasure | None = "depth",
    epochs: int | Iterable[int] | None = None,
    runs: Chosen = None,
    unit: str | None = None,
    method: CorrelationMethod = "pearson",
    seed: int | None = None,
    scale: AxisScale = "symlog",
    inset: bool = False,
) -> pd.DataFrame:
    """The numbers that `pruneviz.plot.scatter` draws.

    Args:
        source: As for `pruneviz.plot.scatter`, as are all arguments.
        x: Horizontal quantity.
        y: Vertical quantity.
        hue: Colour of the points.
        epochs: Epochs to show.
        runs: Runs to show.
        unit: What the rows are.
        method: Correlation coefficient.
        seed: Seed of the points.
        scale: Scale of the axes; the numbers do not depend on it.
        inset: Whether deciding points are shown; the numbers do not depend on it.

    Returns:
        One row per panel and point: network, dataset, group (the setting of the run in words, if
        the runs differ in more than their seed), epoch, schedule (epochs of the whole training;
        null for a table without epochs), run, seed, layer, depth (of the layer, from 1), filter
        (and weight), x and y under their names, the colour under its name, standard errors of x and
        y where they are recorded, with whether the value is clear of noise (`_clear`) and, the same
        on every row of a setting at an epoch: seeds (runs averaged), filters (or what the rows are;
        the fewest that a run correlates) and, for the coefficient and those beside it, the mean
        over the runs, its standard deviation (`_sd`), the ends of its 95 % interval (`_low`,
        `_high`) and the coefficient of the run whose points are shown (`_drawn`).

    Raises:
        FigureError: If x, y, hue, an epoch, a run or a seed is not there; names what is.
    """
    check_scale(scale)
    chosen = runs_of(source, runs, unit)
    asked = _asked(chosen, x, y, hue, with_companion(method), asked_epochs(epochs), seed)
    held = held_epochs(chosen, chosen.spec, asked.axes)
    spec = runs_with(chosen.spec, held, asked.axes, named=runs is not None)
    taken = [*_COLUMNS, *chosen.columns("filters"), *asked.names, *asked.errors]
    spec = facts_apart(spec, [name for name in taken if name != "run"], asked.facts)
    asked = replace(asked, fact=asked.fact and name_in(spec, asked.fact))
    settings = [name for name in default_facts(spec) if name != asked.fact]
    spec, _ = with_groups(spec, settings, asked.facts)
    several = len(different(spec["group"])) > 1
    groups = spec.groupby(["group", *asked.facts], sort=False, observed=True, dropna=False)
    parts = [_of_setting(chosen, rows, held, asked) for _, rows in groups]
    found = pd.concat(parts, ignore_index=True)
    return found if several else found.drop(columns="group")


def clear_points(table: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Whether both values of each point are clear of noise, as far as that is known.

    Args:
        table: A table of `points`.
        x: Horizontal quantity.
        y: Vertical quantity.

    Returns:
        Nullable booleans; null where neither is known.
    """
    none = pd.Series(pd.NA, index=table.index, dtype="boolean")
    first, second = (table.get(clear_name(name), none).astype("boolean") for name in (x, y))
    return (first.fillna(True) & second.fillna(True)).mask(first.isna() & second.isna())


def clear_words(table: pd.DataFrame, x: str, y: str) -> str:
    """What `clear_points` speaks of: " in theta_g" where the error of one quantity is known alone.

    Args:
        table: A table of `points`.
        x: Horizontal quantity.
        y: Vertical quantity.
    """
    known = [name for name in (x, y) if clear_name(name) in table]
    known = [name for name in known if table[clear_name(name)].notna().any()]
    return f" in {known[0]}" if len(known) == 1 else ""


def check_scale(scale: object) -> None:
    """Check that a scale of the axes is one of `AxisScale`.

    Raises:
        FigureError: If it is not.
    """
    if scale not in get_args(AxisScale):
        raise FigureError(f"scale is {scale!r}, expected one of {', '.join(get_args(AxisScale))}")


def _asked(
    runs: Runs,
    x: AnyMeasure,
    y: AnyMeasure,
    hue: AnyMeasure | None,
    methods: tuple[CorrelationMethod, ...],
    epochs: int | Iterable[int] | None,
    seed: int | None,
) -> _Asked:
    across, up = quantity_of(x, runs, "x"), quantity_of(y, runs, "y")
    if across.name == up.name:
        raise FigureError(f"x and y are both {across.name}; choose two quantities")
    fact, colour = None, None
    in_rows = isinstance(hue, str) and hue != "run" and hue in runs.recorded("filters")
    if isinstance(hue, str) and hue in runs.spec and not in_rows and hue not in PLACES:
        fact = hue
    elif hue is not None and hue not in PLACES:
        colour = quantity_of(hue, runs, "hue")
    recorded = runs.recorded("filters")
    errors = [
        name
        for each in (across, up)
        for given_g in (False, True)
        for name in error_columns(each.name, given_g=given_g)
    ]
    errors = [name for name in errors if name in recorded]
    return _Asked(across, up, colour, fact, methods, epochs, seed, tuple(errors))


def _of_setting(runs: Runs, spec: pd.DataFrame, held: pd.DataFrame, asked: _Asked) -> pd.DataFrame:
    """Points of one run of a setting, with correlations over all of its runs."""
    shown, row_kind = _shown_run(spec, asked.seed), row_kind_of(spec)
    held = held[held["run"].isin(set(spec["run"]))]
    schedule = _schedule(runs, spec, held)
    epochs = _epochs(held, spec, schedule, asked)
    rows = _rows(runs, spec, row_kind, asked, epochs)
    means = _means(runs, spec, rows, row_kind, asked, epochs)
    own = rows[rows["run"].astype(str) == shown["run"]].dropna(subset=asked.names[:2])
    facts = {name: shown[name] for name in ("network", "dataset", "group", SEED, *asked.facts)}
    depth = pd.factorize(own["layer"].astype(str))[0] + 1
    own = own.assign(**facts | {"run": shown["run"], "depth": depth, "schedule": schedule})
    means = means.merge(_drawn(runs, shown, rows, row_kind, asked, means), on="epoch", how="left")
    own = own.merge(means, on="epoch", how="left")
    own = own.sort_values(["epoch", "depth", "filter", *row_kind.keys], ignore_index=True)
    # Weight keys are null in runs of filters, so they are floats in a table with both kinds.
    own = own.astype(dict.fromkeys(row_kind.keys, "int64"))
    places = ["epoch", "schedule", "run", SEED, "layer", "depth", "filter", *row_kind.keys]
    clear = [clear_name(name) for name in asked.uncertain]
    values = [*asked.facts, *asked.names, *asked.errors, *clear, *means.columns[1:]]
    return own[list(dict.fromkeys(["network", "dataset", "group", *places, *values]))]


def _rows(
    runs: Runs, spec: pd.DataFrame, row_kind: RowKind, asked: _Asked, epochs: list[int]
) -> pd.DataFrame:
    """Filters-table rows of a setting that have x and y, with the colour and standard errors."""
    beside = [*row_kind.keys, *asked.errors]
    colour = [each for each in (asked.colour,) if each]
    beside += [each.name for each in colour if is_column(each)]  # which may hold text
    computed = [each for each in colour if not is_column(each)]
    of_pruned = KEPT in asked.names
    rows = valued_rows(runs, spec, asked.axes, computed, beside, epochs, of_pruned)
    known = with_degrees(rows, runs.spec)
    clear = {clear_name(name): clear_of_noise(known, name) for name in asked.uncertain}
    return rows.assign(**clear)


def _means(
    runs: Runs,
    spec: pd.DataFrame,
    rows: pd.DataFrame,
    row_kind: RowKind,
    asked: _Asked,
    epochs: list[int],
) -> pd.DataFrame:
    x, y = asked.names[:2]
    found = None
    if row_kind.sampled:
        found = recorded_correlations(runs, spec, x, y, asked.methods, epochs)
    if found is None:
        kept = rows[kept_in(rows)]
        found = correlations_of_rows(kept, spec, x, y, asked.methods, row_kind.counted)
    return found


def _drawn(
    runs: Runs,
    shown: pd.Series,
    rows: pd.DataFrame,
    row_kind: RowKind,
    asked: _Asked,
    means: pd.DataFrame,
) -> pd.DataFrame:
    """The coefficients of the run that is shown: epoch, and each under its name with `_drawn`."""
    if means["seeds"].max() > 1:
        spec, own = shown.to_frame().T, rows[rows["run"].astype(str) == shown["run"]]
        means = _means(runs, spec, own, row_kind, asked, list(means["epoch"]))
    names = {name: f"{name}_drawn" for name in asked.methods if name in means}
    return means[["epoch", *names]].rename(columns=names)


def _epochs(
    held: pd.DataFrame, spec: pd.DataFrame, schedule: int | None, asked: _Asked
) -> list[int]:
    common = common_epochs(held, spec)
    if not common:
        both = listed(each.name for each in asked.axes)
        raise FigureError(
            f"there is no epoch at which all of {listed(spec['run'])} hold {both}; record them "
            "with derivative columns at common epochs"
        )
    if asked.epochs is None:
        return nearest_epochs(common, schedule or 0)
    return only_epochs(common, asked.epochs)


def _schedule(runs: Runs, spec: pd.DataFrame, held: pd.DataFrame) -> int | None:
    """Number of training epochs; the last recorded one if no run states it.

    None for a table without epochs, which may be of any.
    """
    if spec["epochs"].notna().any():
        return int(spec["epochs"].max())
    trained = runs.named(spec["run"]).epochs["epoch"]
    return int(max(trained.max() if len(trained) else 0, held["epoch"].max())) or None


def _shown_run(spec: pd.DataFrame, seed: int | None) -> pd.Series:
    """The run whose points are shown: that of a seed, by default the lowest."""
    shown = spec.sort_values(SEED, kind="stable") if seed is None else spec[spec[SEED] == seed]
    if shown.empty:
        raise FigureError(
            f"seed {seed} is not recorded; recorded are seeds {listed(spec[SEED])}; choose one "
            "with seed (--seed)"
        )
    return shown.iloc[0]
