"""Which share of every layer's filters pruning in rounds took away, and how much more it took from the earlier layers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pruneviz.analysis.over_runs import mean_over_runs
from pruneviz.errors import AnalysisError
from pruneviz.log.schema import check_columns

RECIPE = (
    "network",
    "dataset",
    "measure",
    "rounds",
    "target",
)  # what runs share that differ in their seed alone

_OF_LAYERS = ("layer", "layer_index", "filters", "kept", "coupled_to")


def pruned_fractions(rounds: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Pruned share of every layer after the last round, averaged over the runs that differ in their seed alone.

    Args: `rounds`, the rounds table of a log; `spec`, the rows of `runs.spec` of the runs to look at.
    Returns: one row per network, data set, measure, rounds and target, and layer, in depth order: these, layer_index, layer, filters (of
    the unpruned layer), coupled_to, seeds (runs averaged), ratio (pruned filters, a fraction of the layer's) and ratio_sd (between runs,
    null for one); and, the same for all layers of a group, the columns of `network_fractions`, each with its _sd.
    Errors: `AnalysisError` for a run without its last round, or runs to be averaged that differ in their layers.
    Source: Lubana and Dick, ICLR 2021, Figures 16 and 17.
    """
    last = after_last_round(rounds, spec)
    whole = pd.DataFrame(
        last.groupby(["run", *RECIPE], dropna=False)[list(_OF_LAYERS)].apply(network_fractions)
    )
    layers = mean_over_runs(
        last, [*RECIPE, "layer_index", "layer", "filters", "coupled_to"], "ratio"
    )
    layers = layers.rename(columns={"mean": "ratio", "sd": "ratio_sd"}).drop(
        columns=["low", "high", "least", "most"]
    )
    _check_same_layers(layers)
    return layers.merge(_mean_and_sd(whole), on=list(RECIPE))


def after_last_round(rounds: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """The state of every layer after the last round: one row per run and layer, in depth order.

    Columns: run, the facts of `RECIPE`, seed, layer, layer_index, filters, kept, coupled_to and ratio (1 - kept / filters).
    Errors: `AnalysisError` for a run of which the table does not hold the last round.
    """
    check_columns(
        rounds,
        ["run", "round", *_OF_LAYERS],
        "the rounds table",
        "record the runs anew, with pruning rounds",
    )
    facts = spec[["run", *RECIPE, "seed"]].astype({"run": "str"})
    states = rounds[["run", "round", *_OF_LAYERS]].astype({"run": "str", "layer": "str"})
    last = facts.merge(states, left_on=["run", "rounds"], right_on=["run", "round"]).drop(
        columns="round"
    )
    lacking = [run for run in facts["run"] if run not in set(last["run"])]
    if lacking:
        raise AnalysisError(
            f"the rounds table lacks the last round of {', '.join(lacking)}; pass runs that pruned in all their rounds"
        )
    return last.assign(ratio=1 - last["kept"] / last["filters"]).sort_values(
        ["run", "layer_index"], ignore_index=True
    )


def network_fractions(layers: pd.DataFrame) -> pd.Series:
    """Pruned shares of a whole network and of its halves, from the rows of its layers (layer_index, filters, kept, coupled_to).

    Only layers that decide for themselves (coupled_to null) count, so that no decision counts twice. Returns: network_ratio, of all of
    them; first_half and second_half, of the filters in the earlier and in the later half of the layers (the middle one of an odd
    number belongs to neither); front_loading, the first less the second: positive where the earlier layers lose a larger share.
    """
    deciding = layers[layers["coupled_to"].isna()].sort_values("layer_index")
    half = len(deciding) // 2
    first, second = _share(deciding.head(half)), _share(deciding.tail(half))
    return pd.Series(
        {
            "network_ratio": _share(deciding),
            "first_half": first,
            "second_half": second,
            "front_loading": first - second,
        },
        dtype="float64",
    )


def _share(layers: pd.DataFrame) -> float:
    filters = int(layers["filters"].sum())
    return 1 - int(layers["kept"].sum()) / filters if filters else np.nan


def _mean_and_sd(whole: pd.DataFrame) -> pd.DataFrame:
    """The columns of `network_fractions` as means over runs, each followed by its standard deviation between runs."""
    means = {
        str(name): mean_over_runs(whole.reset_index(), RECIPE, str(name)).set_index(list(RECIPE))
        for name in whole
    }
    columns = {
        column: found[part]
        for name, found in means.items()
        for column, part in ((name, "mean"), (f"{name}_sd", "sd"))
    }
    return pd.DataFrame(columns).reset_index()


def _check_same_layers(layers: pd.DataFrame) -> None:
    """Runs of one network and width hold every layer once; where others are among them, layers stand twice or are averaged over fewer."""
    uneven = layers.groupby(list(RECIPE), dropna=False)["seeds"].transform("nunique") > 1
    differing = layers[uneven | layers.duplicated([*RECIPE, "layer"], keep=False)]
    if len(differing):
        row = differing.iloc[0]
        raise AnalysisError(
            f"runs of {row['network']} on {row['dataset']} by {row['measure']} in {row['rounds']} rounds differ in layer {row['layer']}; "
            "average runs of one network of one width"
        )
