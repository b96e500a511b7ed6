"""Fraction of every layer's filters that pruning in rounds removed, and where in depth it cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.over_runs import mean_over_runs
from pruneviz.errors import AnalysisError
from pruneviz.log.schema import check_columns

# Facts that averaged runs share; they differ only in their seed.
AVERAGED_WITHIN = ("network", "dataset", "measure", "rounds", "target")

_OF_LAYERS = ("layer", "layer_index", "filters", "kept", "coupled_to")


def pruned_fractions(rounds: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Pruned fraction of every layer after the last round, averaged over seeds.

    Args:
        rounds: Rounds table of a log (`runs.rounds`).
        spec: Rows of `runs.spec` to average.

    Returns:
        One row per network, data set, measure, rounds, target and layer, in depth order: these,
        layer_index, layer, filters (of the unpruned layer), coupled_to, seeds (number of runs),
        ratio (pruned fraction of the layer's filters), ratio_sd (between runs, null for one), and
        the columns of `network_fractions`, the same for all layers of a group, each with its _sd.

    Raises:
        AnalysisError: If a run lacks its last round, or runs to be averaged differ in their layers.
        LogError: If a column of `rounds` is missing.

    References:
        Lubana and Dick, ICLR 2021, Figures 16 and 17.
    """
    return layer_fractions(after_last_round(rounds, spec), AVERAGED_WITHIN)


def layer_fractions(states: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """Pruned fraction of every layer, averaged over runs.

    Args:
        states: One row per run and layer: run, layer, layer_index, filters, kept, coupled_to, ratio
            and the facts in `within`.
        within: Facts that averaged runs share.

    Returns:
        As for `pruned_fractions`, with the facts in `within`.

    Raises:
        AnalysisError: If runs to be averaged differ in their layers.
    """
    whole = fractions_by_run(states, within)
    by_layer = [*within, "layer_index", "layer", "filters", "coupled_to"]
    layers = mean_over_runs(states, by_layer, "ratio")
    layers = layers.rename(columns={"mean": "ratio", "sd": "ratio_sd"})
    layers = layers.drop(columns=["low", "high", "least", "most"])
    _check_same_layers(layers, within)
    return layers.merge(_mean_and_sd(whole, within), on=list(within))


def fractions_by_run(states: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """Pruned fraction of every network and of its parts.

    Args:
        states: One row per run and layer, as for `layer_fractions`.
        within: Facts of the runs to keep.

    Returns:
        One row per run: run, the facts in `within`, and the columns of `network_fractions`.
    """
    by_run = states.groupby(["run", *within], dropna=False)[list(_OF_LAYERS)]
    return pd.DataFrame(by_run.apply(network_fractions)).reset_index()


def after_last_round(rounds: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """State of every layer after the last round.

    Args:
        rounds: Rounds table of a log (`runs.rounds`).
        spec: Rows of `runs.spec` to use.

    Returns:
        One row per run and layer, in depth order: run, the facts of `AVERAGED_WITHIN`, seed, layer,
        layer_index, filters, kept, coupled_to, ratio (1 - kept / filters).

    Raises:
        AnalysisError: If a run lacks its last round.
        LogError: If a column of `rounds` is missing.
    """
    columns = ["run", "round", "epoch", *_OF_LAYERS]
    check_columns(rounds, columns, "the rounds table", "record the runs again, with pruning rounds")
    facts = spec[["run", *AVERAGED_WITHIN, "seed"]].astype({"run": "str"})
    states = numbered_rounds(rounds[columns].astype({"run": "str", "layer": "str"}))
    last = facts.merge(states, left_on=["run", "rounds"], right_on=["run", "round"])
    lacking = [run for run in facts["run"] if run not in set(last["run"])]
    if lacking:
        raise AnalysisError(
            f"the rounds table lacks the last round of {', '.join(lacking)}; pass runs that "
            "finished all their pruning rounds"
        )
    last = last.drop(columns=["round", "epoch"]).assign(ratio=1 - last["kept"] / last["filters"])
    return last.sort_values(["run", "layer_index"], ignore_index=True)


def numbered_rounds(rounds: pd.DataFrame) -> pd.DataFrame:
    """A rounds table in which every round has a number.

    A custom training loop may record rounds without one; they are numbered by their epochs.
    """
    epochs = rounds.groupby("run", observed=True)["epoch"].rank(method="dense")
    known = rounds["round"] if "round" in rounds else pd.Series(np.nan, index=rounds.index)
    return rounds.assign(round=known.astype("float64").fillna(epochs).astype("int64"))


def network_fractions(layers: pd.DataFrame) -> pd.Series:
    """Pruned fraction of a network, of its halves, and of its first and last third.

    Only layers that are not coupled to another one (coupled_to null) count, so none counts twice.

    Args:
        layers: One row per layer: layer_index, filters, kept, coupled_to.

    Returns:
        network_ratio: fraction of the filters in all layers; first_half and second_half: in the
        earlier and later half of the layers (the middle one of an odd number belongs to neither);
        front_loading: first_half minus second_half, positive if earlier layers lose more;
        first_third and last_third: in as many layers from either end as a third of their number,
        rounded down. Parts without a layer are null.
    """
    deciding = layers[layers["coupled_to"].isna()].sort_values("layer_index")
    half, third = len(deciding) // 2, len(deciding) // 3
    first, second = _pruned_fraction(deciding.head(half)), _pruned_fraction(deciding.tail(half))
    fractions = {
        "network_ratio": _pruned_fraction(deciding),
        "first_half": first,
        "second_half": second,
        "front_loading": first - second,
        "first_third": _pruned_fraction(deciding.head(third)),
        "last_third": _pruned_fraction(deciding.tail(third)),
    }
    return pd.Series(fractions, dtype="float64")


def _pruned_fraction(layers: pd.DataFrame) -> float:
    filters = int(layers["filters"].sum())
    return 1 - int(layers["kept"].sum()) / filters if filters else np.nan


def _mean_and_sd(whole: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """Columns of `network_fractions` as means over runs, each with its standard deviation."""
    columns: dict[str, pd.Series] = {}
    for name in (str(name) for name in whole if name not in ("run", *within)):
        found = mean_over_runs(whole, within, name).set_index(list(within))
        columns |= {name: found["mean"], f"{name}_sd": found["sd"]}
    return pd.DataFrame(columns).reset_index()


def _check_same_layers(layers: pd.DataFrame, within: Sequence[str]) -> None:
    """Check that averaged runs have the same layers.

    Runs of one network and width contain every layer once. Otherwise a layer occurs twice or is
    averaged over fewer runs.
    """
    uneven = layers.groupby(list(within), dropna=False)["seeds"].transform("nunique") > 1
    differing = layers[uneven | layers.duplicated([*within, "layer"], keep=False)]
    if len(differing):
        row = differing.iloc[0]
        facts = ", ".join(f"{name} {row[name]}" for name in within if not pd.isna(row[name]))
        raise AnalysisError(
            f"runs to be averaged ({facts}) differ in layer {row['layer']}; average runs of one "
            "network of one width"
        )
