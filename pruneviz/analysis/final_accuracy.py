"""Final accuracy, parameters and MACs of pruned runs beside unpruned ones of the same scale."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.lead_tests import Lead, lead
from pruneviz.analysis.pruned_tables import CONVERGENCE, facts_of, in_order, name_of, of_panels
from pruneviz.analysis.rules import Panel, best_first, panels_of
from pruneviz.analysis.rules_convergence import ORDER
from pruneviz.analysis.settings import SEED, kinds_of, present, results_of, training_facts
from pruneviz.analysis.table_texts import (
    NotedTable,
    in_words,
    percent,
    ranges,
    spread,
    texts,
)
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.log.runs import Runs

# Facts of pruning, and of what is recorded; in all others an unpruned run is equal to the pruned
# ones that it is compared with.
_OF_PRUNING = frozenset({*OPTION_NAMES, "mask_score", "mask_ratio", "pruned", "seed"})
COSTS = ("parameters_before", "parameters_after", "macs_before", "macs_after")
LACKS, NOT_RECORDED = "lacks", "not recorded"

# From runs to one row per run: run, `COSTS`, and `LACKS` (why there are none; "" if there are).
Costs = Callable[[Runs], pd.DataFrame]


def recorded_costs(runs: Runs) -> pd.DataFrame:
    """Parameters and MACs before and after removal, as `pruneviz record` notes them in the spec.

    Args:
        runs: Recordings.

    Returns:
        One row per run: run, the columns of `COSTS` (NaN where they are not recorded) and `LACKS`,
        the reason, "" where they are.
    """
    spec = runs.spec
    found = spec[["run"]].assign(
        **{name: spec.get(name, pd.Series(np.nan, spec.index)).astype("float64") for name in COSTS}
    )
    none = pd.Series(None, spec.index, dtype="object")
    reason = spec.get("not_removed", none).where(lambda one: one.notna(), NOT_RECORDED)
    return found.assign(**{LACKS: reason.where(found[list(COSTS)].isna().any(axis=1), "")})


def final_accuracy_table(runs: Runs, costs: Costs = recorded_costs) -> NotedTable:
    """Final accuracies of pruned runs, beside unpruned ones, with what is left of the network.

    Accuracies are compared with those of unpruned runs that were trained in the same way (see
    `partners`), seed by seed. Without such runs the cells are empty.

    Args:
        runs: Recordings, pruned and unpruned.
        costs: Gives parameters and MACs of runs.

    Returns:
        One row per network, data set, setting, number of rounds and measure, of runs that are
        pruned and trained to the end.
    """
    panels, unpruned = panels_of(runs, CONVERGENCE), _unpruned(runs)
    whole, scale = _with_final(unpruned), scale_of(runs.spec)
    return of_panels(panels, (_finals(panel, whole, costs, scale) for panel in panels))


def scale_of(spec: pd.DataFrame) -> list[str]:
    """Facts in which a run is equal to the unpruned one that it is compared with.

    All facts of its training, a person's own among them, but those of pruning, results, and seeds,
    which are compared by themselves.

    Args:
        spec: All recordings.
    """
    left_out = {*_OF_PRUNING, *results_of(spec)}
    return [name for name in training_facts(spec) if name not in left_out and SEED not in name]


def partners(spec: pd.DataFrame, run: pd.Series, scale: Sequence[str]) -> pd.DataFrame:
    """Rows of unpruned runs that are equal to a run in some facts.

    Args:
        spec: Specs of unpruned runs.
        run: Spec of the run.
        scale: The facts, as by `scale_of`.
    """
    wanted = _scale(run, scale)
    alike = [_scale(row, scale) == wanted for _, row in spec.iterrows()]
    return spec[np.array(alike, dtype=bool)]


def _unpruned(runs: Runs) -> Runs:
    spec = runs.spec
    never = kinds_of(spec).isin(["unpruned", "weights"])
    if "pruned" in spec:
        never &= ~spec["pruned"].eq(True)
    return runs.named(spec.loc[never, "run"])


def _of_network(spec: pd.DataFrame, run: pd.Series) -> pd.DataFrame:
    same = [
        (present(row["network"]), present(row["dataset"]))
        == (present(run["network"]), present(run["dataset"]))
        for _, row in spec.iterrows()
    ]
    return spec[np.array(same, dtype=bool)]


def _scale(run: pd.Series, scale: Sequence[str]) -> dict[str, Hashable]:
    return {name: present(run.get(name)) for name in scale}


def _finals(panel: Panel, unpruned: pd.DataFrame, costs: Costs, scale: Sequence[str]) -> NotedTable:
    final, left = _with_final(panel.runs), costs(panel.runs)
    beside = [_beside(run, unpruned, scale) for _, run in final.iterrows()]
    final = final.assign(unpruned=[value for value, _ in beside])
    near = pd.concat([rows for _, rows in beside]).drop_duplicates("run")
    rows = [
        {
            **facts_of(panel),
            "measure": name,
            **_accuracies(final[final["measure"] == name], near),
            **_left(left[left["run"].isin(final.loc[final["measure"] == name, "run"])]),
        }
        for name in in_order(list(final["measure"]), ORDER)
    ]
    notes = [*_alone(panel, unpruned, near, scale), *_unknown(final), *_unknown(near)]
    return NotedTable(pd.DataFrame(rows), (*notes, *_uncounted(left)))


def _beside(
    run: pd.Series, unpruned: pd.DataFrame, scale: Sequence[str]
) -> tuple[float, pd.DataFrame]:
    """Accuracy of the unpruned run of the same seed, NaN if none; and those of all seeds, once."""
    near = best_first(partners(unpruned, run, scale))
    known = near[near["value"].notna()]
    lone = ~known["seed"].isin(near["seed"].dropna()) | ~known.duplicated("seed")
    blank = near[near["value"].isna() & ~near["seed"].isin(known["seed"])]
    once = pd.concat([known[lone], blank])
    same = once.loc[once["seed"] == run["seed"], "value"]
    return float(same.iloc[0]) if len(same) else float("nan"), once


def _with_final(runs: Runs) -> pd.DataFrame:
    """The spec with the test accuracy after the last epoch (value), null if unknown."""
    spec = runs.spec
    if "test_acc" not in runs.recorded("epochs"):
        return spec.assign(value=np.nan)
    epochs = runs.read("epochs", ["run", "epoch", "test_acc"]).astype({"run": "str"})
    last = epochs.sort_values("epoch").drop_duplicates("run", keep="last").set_index("run")
    accuracy = spec["run"].map(last["test_acc"]).astype("float64")
    # The last epoch of a run measured again, or interrupted, may be an earlier one.
    early = spec["run"].map(last["epoch"]) < pd.to_numeric(spec["epochs"])
    return spec.assign(value=accuracy.mask(early.astype("bool")))


def _accuracies(final: pd.DataFrame, near: pd.DataFrame) -> dict[str, object]:
    """The cells of accuracies; the unpruned one is of the seeds that are compared, if there are."""
    both = final.dropna(subset=["value", "unpruned"])
    apart: Lead = lead(100 * (both["value"] - both["unpruned"]).to_numpy())
    beside = both["unpruned"] if len(both) else near["value"]
    return {
        "seeds": len(final),
        "test_acc": percent(final["value"].mean()),
        "over seeds": spread(final["value"]),
        "unpruned": percent(beside.mean()),
        "pairs": str(apart.seeds) if apart.seeds else "",
        "difference": texts([apart.mean])[0],
        "95 %": ranges([apart.low], [apart.high])[0],
    }


def _left(costs: pd.DataFrame) -> dict[str, object]:
    """Parameters and MACs, mean over seeds, and their share of the unpruned network."""
    cells: dict[str, object] = {}
    for heading, name in (("parameters", "parameters"), ("MACs", "macs")):
        after, before = costs[f"{name}_after"].mean(), costs[f"{name}_before"].mean()
        known = not pd.isna(after)
        cells[heading] = f"{after:,.0f}" if known else ""
        cells[f"{heading} left"] = percent(after / before) if known else ""
    return cells


def _alone(
    panel: Panel, unpruned: pd.DataFrame, near: pd.DataFrame, scale: Sequence[str]
) -> list[str]:
    """Why pruned runs have no unpruned ones beside them."""
    if len(near):
        common = set(near["seed"].dropna()) & set(panel.runs.spec["seed"].dropna())
        return [] if common else [f"{name_of(panel)}: no unpruned run has one of its seeds"]
    run = panel.runs.spec.iloc[0]
    others = _of_network(unpruned, run)
    named = f"{run['network']} on {run['dataset']}"
    if others.empty:
        return [f"{named}: no unpruned run is recorded, so none is beside the pruned ones"]
    mine = _scale(run, scale)
    scales = [_scale(row, scale) for _, row in others.iterrows()]
    other = min(scales, key=lambda scale: len(_differing(mine, scale)))  # the most alike
    differ = _differing(mine, other)
    pruned, whole = (in_words({name: of[name] for name in differ}) for of in (mine, other))
    return [
        f"{named}: pruned runs ({pruned}) and unpruned ones ({whole}) differ in scale, so none "
        "are compared"
    ]


def _differing(one: dict[str, Hashable], other: dict[str, Hashable]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def _unknown(final: pd.DataFrame) -> list[str]:
    """A sentence on runs without a test accuracy after their last epoch, if there are any."""
    gone = final.loc[final["value"].isna(), "run"]
    return [f"No final test accuracy is recorded of {', '.join(gone)}"] if len(gone) else []


def _uncounted(costs: pd.DataFrame) -> list[str]:
    gone = costs[costs[LACKS] != ""]
    return [
        f"Parameters and MACs of {', '.join(rows['run'])}: {reason}"
        for reason, rows in gone.groupby(LACKS, sort=False)
    ]
