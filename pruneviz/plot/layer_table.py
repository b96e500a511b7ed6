"""The numbers of bars per layer: pruned shares, or columns and measures aggregated per layer."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pruneviz.analysis.measures import AnyMeasure, Measure
from pruneviz.analysis.over_runs import mean_over_runs
from pruneviz.analysis.pruned_fractions import AVERAGED_WITHIN, layer_fractions, numbered_rounds
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.runs import Runs
from pruneviz.log.thin_copies import ThinCopy
from pruneviz.plot.curve_table import numbers_of, told_apart
from pruneviz.plot.groups import facts_apart
from pruneviz.plot.quantities import quantity_of
from pruneviz.plot.recorded import depths_of, values_of
from pruneviz.plot.rows import held_epochs, kept_in
from pruneviz.plot.source import only_epochs, runs_of
from pruneviz.plot.words import listed

# Ways to make one number of the values in a layer, as pandas names them.
AGGREGATES = ("mean", "median", "sum", "min", "max", "std", "count")
SHARE, VALUE = "ratio", "value"  # columns of the pruned share, and of what is aggregated
# Columns of the two tables, and of those that they are made from.
_COLUMNS = (
    *("setting", "layer", "layer_index", "filters", "kept", "coupled_to", "seeds", "round"),
    *("quantity", "aggregate", "epoch", "mean", "sd", "low", "high", "least", "most"),
    *(SHARE, VALUE, "network_ratio", "first_half", "second_half", "front_loading"),
    *("first_third", "last_third"),
)


def pruned_shares(
    runs: Runs,
    spec: pd.DataFrame,
    by: str | Sequence[str] | None = None,
    epoch: int | None = None,
) -> pd.DataFrame:
    """Pruned share of every layer, from the rounds of the runs or from what their rows say is kept.

    Runs that never prune have none and are left out.

    Args:
        runs: Recordings.
        spec: Facts about the runs to show.
        by: As for `pruneviz.plot.layer_ratios`.
        epoch: Epochs trained. Default: after the last round.

    Raises:
        FigureError: If no run has pruned by this epoch, runs to be averaged have not pruned equally
            often, or the pruned runs have rows of several units.
    """
    states = _states(runs.named(spec["run"]), epoch)
    lost = states.groupby("run")["ratio"].transform("max") > 0
    pruned = set(states.loc[lost, "run"])
    if not pruned:
        raise FigureError(
            "nothing is pruned in these runs"
            + (f" at epoch {epoch}" if epoch is not None else "")
            + "; name a column or measure with y to draw that layer by layer"
        )
    pruned_runs = spec[spec["run"].isin(pruned)]
    runs_of(runs.named(pruned))  # raises if their rows are of several units
    return shares_of(states, pruned_runs, by)


def shares_of(
    states: pd.DataFrame, spec: pd.DataFrame, by: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Pruned share of every layer, averaged over the runs of every setting.

    Args:
        states: One row per run and layer, see `layer_fractions`; the facts come from `spec`.
        spec: Facts about the runs to show.
        by: As for `pruneviz.plot.layer_ratios`.
    """
    spec, facts = told_apart(facts_apart(spec, _COLUMNS, by), by, AVERAGED_WITHIN)
    own = ["run", "layer", "layer_index", "filters", "kept", "coupled_to", SHARE]
    rows = states[own].merge(_settings(spec, facts), on="run")
    _check_same_round(states, rows)
    within = ["setting", *(name for name in facts if name != "run")]
    found = layer_fractions(rows, within)
    if "run" in facts:
        runs = rows.drop_duplicates("setting").set_index("setting")["run"]
        found = found.assign(run=found["setting"].map(runs))
    others = [name for name in found.columns if name not in facts and name != "setting"]
    in_order = found.sort_values(["setting", "layer_index"], ignore_index=True)
    return in_order[[*facts, *others]]


def layer_values(
    runs: Runs,
    spec: pd.DataFrame,
    y: AnyMeasure,
    by: str | Sequence[str] | None = None,
    epoch: int | None = None,
    aggregate: str = "mean",
) -> pd.DataFrame:
    """A column or measure, aggregated over every layer and averaged over the runs of every setting.

    Args:
        runs: Recordings.
        spec: Facts about the runs to show.
        y: As for `pruneviz.plot.layer_ratios`, as are the other arguments.
        by: Facts that tell runs apart.
        epoch: Epoch to show.
        aggregate: One of `AGGREGATES`.

    Raises:
        FigureError: If a name or the epoch is not there; names what is.
    """
    runs = runs.named(spec["run"])
    measure = quantity_of(y, runs, "y")
    chosen = _common_epoch(runs, spec, measure, epoch)
    values = values_of(runs, [measure], epochs=[chosen])
    spec, facts = told_apart(facts_apart(spec, _COLUMNS, by), by)
    per_run = _aggregated(values, measure.name, aggregate).merge(_settings(spec, facts), on="run")
    keys = ["setting", *facts, "layer_index", "layer"]
    means = mean_over_runs(per_run, keys, VALUE)
    means = means.rename(columns={"mean": VALUE, "sd": f"{VALUE}_sd"})
    counts = per_run.groupby(keys, dropna=False)["filters"].min().reset_index()
    found = means.merge(counts, on=keys).sort_values(["setting", "layer_index"], ignore_index=True)
    columns = [*facts, "layer_index", "layer", "filters", "seeds", VALUE, f"{VALUE}_sd"]
    return found[columns].assign(quantity=measure.name, aggregate=aggregate, epoch=chosen)


def check_aggregate(aggregate: object, y: AnyMeasure | None) -> None:
    """Check that an aggregate is one of `AGGREGATES`, and that there is something to aggregate.

    Raises:
        FigureError: If not.
    """
    if aggregate not in AGGREGATES:
        raise FigureError(unknown_name("aggregate", str(aggregate), AGGREGATES))
    if y is None and aggregate != AGGREGATES[0]:
        raise FigureError(
            f"aggregate={aggregate!r} is for values of y; name a column or measure with y, or "
            "leave aggregate out"
        )


def _settings(spec: pd.DataFrame, facts: Sequence[str]) -> pd.DataFrame:
    """The facts of every run that tell its setting apart, and the number of the setting."""
    number = numbers_of(spec, facts)
    return spec[list(dict.fromkeys(["run", *facts]))].assign(setting=spec["run"].map(number))


def _states(runs: Runs, epoch: int | None) -> pd.DataFrame:
    """State of every layer of every run, from its rounds or else its rows."""
    rounds = numbered_rounds(runs.rounds.astype({"run": "str", "layer": "str"}))
    places = {layer: depth - 1 for layer, depth in depths_of(rounds).items()}
    known = {"layer_index": rounds["layer"].map(places), "coupled_to": None}
    rounds = rounds.assign(**{name: each for name, each in known.items() if name not in rounds})
    others = runs.named(set(runs.spec["run"]) - set(rounds["run"]))
    parts = [_after_round(mine, epoch) for _, mine in rounds.groupby("run")]
    parts += [_from_rows(others.named([run]), epoch) for run in others.spec["run"]]
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return found.assign(ratio=1 - found["kept"] / found["filters"])


def _after_round(rounds: pd.DataFrame, epoch: int | None) -> pd.DataFrame:
    """The layers of a run after its last round, or the last one by an epoch."""
    at = rounds["epoch"].max() if epoch is None else _from_the_last(epoch, list(rounds["epoch"]))
    past = rounds.loc[rounds["epoch"] <= at, "round"]
    if past.empty:
        first = rounds[rounds["round"] == rounds["round"].min()]
        return first.assign(kept=first["filters"], round=0)
    return rounds[rounds["round"] == past.max()]


def _from_rows(run: Runs, epoch: int | None) -> pd.DataFrame:
    """The layers of a run that records no rounds, by what its rows say is kept."""
    known = sorted(map(int, run.read("filters", ["epoch"])["epoch"].unique()))
    copies = run.thin_copies()
    there = list(copies[0].recorded) if copies else known
    at = _from_the_last(-1 if epoch is None else epoch, there) if there else 0
    past = [number for number in there if number <= at]
    if not past or not known:
        return pd.DataFrame()
    held = past[-1] in known
    if not held:
        _check_unpruned(copies[0], past[-1])
    rows = run.read("filters", ["run", "layer", "kept"], epochs=past[-1:] if held else known[:1])
    kept = kept_in(rows) if held else True
    layers = rows.assign(kept=kept).astype({"run": "str", "layer": "str"})
    counts = layers.groupby(["run", "layer"], sort=False)["kept"].agg(filters="size", kept="sum")
    found = counts.reset_index().assign(coupled_to=None)
    return found.assign(layer_index=range(len(found)))


def _check_unpruned(copy: ThinCopy, epoch: int) -> None:
    """Check that nothing is pruned at an epoch whose filters a thin copy lacks.

    Raises:
        FigureError: If something is; names the epochs that it holds.
    """
    if epoch in copy.pruned:
        raise FigureError(
            f"{copy.run} is pruned at epoch {epoch}, has no rounds, and {copy.in_words}, so what "
            f"each layer lost by then is not known; choose one of these with epoch=, or draw the "
            "full run"
        )


def _from_the_last(epoch: int, known: Sequence[int]) -> int:
    """An epoch, counted from the last known one if it is negative."""
    there = sorted(set(map(int, known)))
    if epoch < -len(there):
        raise FigureError(f"epoch={epoch} is before the first of {len(there)} epochs")
    return there[epoch] if epoch < 0 else epoch


def _check_same_round(states: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Check that runs to be averaged are after equally many rounds."""
    if "round" not in states:
        return
    after = states.drop_duplicates("run").set_index("run")["round"]
    by_run = rows.drop_duplicates("run")
    for _, mine in by_run.groupby("setting"):
        rounds = {run: after[run] for run in mine["run"]}
        if len(set(rounds.values())) > 1:
            each = listed(f"{run} (round {number:.0f})" for run, number in rounds.items())
            raise FigureError(
                f"runs to be averaged are after different rounds: {each}; choose an epoch that all "
                "have reached, or tell them apart with by='run'"
            )


def _aggregated(values: pd.DataFrame, name: str, aggregate: str) -> pd.DataFrame:
    """One row per run and layer: value and filters (number of values in it)."""
    parts = []
    for run, mine in values.groupby("run", sort=False, observed=True):
        known = mine[mine[name].notna()].groupby("layer", sort=False, observed=True)[name]
        found = known.agg([aggregate, "count"]).set_axis([VALUE, "filters"], axis="columns")
        found = found.reset_index().astype({"layer": "str"})
        places = found["layer"].map(depths_of(mine)) - 1
        parts.append(found.assign(run=str(run), layer_index=places))
    return pd.concat(parts, ignore_index=True)


def _common_epoch(runs: Runs, spec: pd.DataFrame, measure: Measure, epoch: int | None) -> int:
    """The epoch to show: the last that all runs have, or the one that was asked for."""
    rows = held_epochs(runs, spec, [measure])
    held = {str(run): set(map(int, mine["epoch"])) for run, mine in rows.groupby("run")}
    bare = [str(run) for run in spec["run"] if run not in held]
    if bare:
        raise FigureError(
            f"no {measure.name} is recorded of {listed(bare)}; leave these runs out with runs=[...]"
        )
    common = set.intersection(*held.values())
    if not common:
        each = "; ".join(f"{run}: {listed(sorted(epochs))}" for run, epochs in held.items())
        raise FigureError(
            f"no epoch holds {measure.name} of all runs ({each}); draw the runs one by one"
        )
    return only_epochs(sorted(common), -1 if epoch is None else epoch)[0]
