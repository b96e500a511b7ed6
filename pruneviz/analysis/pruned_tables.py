"""Tables of pruned runs: convergence (Figures 1, 4-12) and where rounds prune (Figures 16, 17)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from pruneviz.analysis.claims import RULES
from pruneviz.analysis.convergence import SHARES, convergence
from pruneviz.analysis.pruned_fractions import AVERAGED_WITHIN, after_last_round, fractions_by_run
from pruneviz.analysis.rules import Panel, panels_of, told_pooled
from pruneviz.analysis.rules_convergence import AREA, EPOCHS, ORDER, Pair, pairs_of
from pruneviz.analysis.rules_ratios import ACCUSED, OTHERS
from pruneviz.analysis.table_texts import (
    APART,
    NotedTable,
    joined_tables,
    percent,
    ranges,
    spread,
    telling,
    texts,
)
from pruneviz.console.words import counted
from pruneviz.errors import AnalysisError, LogError
from pruneviz.log.runs import Runs

CONVERGENCE, RATIOS = RULES["order of convergence"], RULES["first layers"]
_HOW_TO_READ = (
    "Epochs until the test accuracy is 50, 80, 90 and 95 % of the best final accuracy of the runs "
    "that are compared (`best`); the lead in epochs is the mean over those that all runs of both "
    "measures reach"
)
_PARTS = {
    "first third": "first_third",
    "last third": "last_third",
    "whole network": "network_ratio",
}


def convergence_table(figures: Sequence[str], runs: Runs) -> NotedTable:
    """How fast the runs of some figures converge, by measure, and the lead over the next measure.

    Leads are those that `pruneviz.claims` judges: paired by seed, in points of the mean accuracy
    over the epochs, and in epochs averaged over the thresholds.

    Args:
        figures: Names of figures with accuracy curves, such as ["1"]; "" for runs that no figure
            shows.
        runs: Recordings.

    Returns:
        One row per network, data set, number of rounds, setting and measure; empty if the figures
        show none of the runs.

    References:
        Lubana and Dick, ICLR 2021, Figures 1 and 4-12.
    """
    shown = [
        (figures.index(figure), panel)
        for panel in panels_of(runs, CONVERGENCE)
        for figure in CONVERGENCE.figure_of(panel).split(", ")
        if figure in figures
    ]
    shown.sort(key=lambda one: one[0])  # stable
    chosen = [panel for _, panel in shown]
    return of_panels(chosen, map(_converged, chosen))


def ratio_table(runs: Runs) -> NotedTable:
    """Pruned fraction of the first and last third of the layers and of the network, by measure.

    Args:
        runs: Recordings.

    Returns:
        One row per network, data set, setting, number of rounds and measure, of runs of pruning
        rounds alone.

    References:
        Lubana and Dick, ICLR 2021, Figures 16 and 17.
    """
    panels = panels_of(runs, RATIOS)
    return of_panels(panels, map(_ratios, panels))


def facts_of(panel: Panel) -> dict[str, object]:
    """The cells of a row that name the panel."""
    return {
        "network": panel.network,
        "dataset": panel.dataset,
        "bn": panel.bn,
        "unit": panel.unit,
        "rounds": panel.rounds,
        APART: panel.what,
    }


def of_panels(panels: Sequence[Panel], made: Iterable[NotedTable]) -> NotedTable:
    """The tables of panels as one, with what is pooled in them; facts that all share are left out.

    Args:
        panels: The panels.
        made: Their tables, with the cells of `facts_of`.
    """
    found = joined_tables(made)
    if found.table.empty:
        return found
    pooled = tuple(told_pooled(panel, name_of(panel)) for panel in panels if panel.pooled)
    return NotedTable(telling(found.table, ("bn", "unit")), (*found.notes, *pooled))


def name_of(panel: Panel) -> str:
    """A panel in words, such as "resnet56 on cifar100, 25 rounds"."""
    told = [panel.bn if panel.bn != "eval" else "", counted(panel.rounds, "round"), panel.what]
    return ", ".join(filter(None, [f"{panel.network} on {panel.dataset}", *told]))


def in_order(measures: Sequence[str], first: Sequence[str]) -> list[str]:
    """Measures, those named in `first` before the others."""
    known = dict.fromkeys(measures)
    return [*(name for name in first if name in known), *sorted(set(known) - set(first))]


def lacking(panel: Panel, rule_measures: Sequence[str]) -> list[str]:
    """A sentence on the measures of the paper that a panel lacks, if it lacks any."""
    gone = [name for name in rule_measures if name not in set(panel.runs.spec["measure"])]
    if not gone:
        return []
    return [f"{name_of(panel)}: {', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not recorded"]


def _converged(panel: Panel) -> NotedTable:
    try:
        found = convergence(panel.runs)
    except AnalysisError as error:
        return NotedTable(pd.DataFrame(), (f"{name_of(panel)} is left out: {error}",))
    pairs = {(pair.ahead, pair.unit): pair for pair in pairs_of(panel)}
    known = facts_of(panel) | {"best": percent(_best(found))}
    rows = [
        {**known, "measure": name, **_speed(found[found["measure"] == name])}
        | _lead({unit: pairs.get((name, unit)) for unit in (AREA, EPOCHS)})
        for name in in_order(list(found["measure"]), ORDER)
    ]
    notes = [_HOW_TO_READ, *lacking(panel, ORDER)]
    notes += _lacking_leads(panel, pairs.values())
    if any(pair.lead.seeds == 1 for pair in pairs.values()):
        notes.append("A lead over one seed has no interval")
    return NotedTable(pd.DataFrame(rows), tuple(notes))


def _lacking_leads(panel: Panel, pairs: Collection[Pair]) -> list[str]:
    """Why pairs have no lead; said once where all lack it for the same reason."""
    lacks = [(one.what, one.lacks) for one in pairs if one.lacks]
    if len(lacks) == len(pairs) and len({why for _, why in lacks}) == 1:
        return [f"{name_of(panel)}: {lacks[0][1]}"]
    return [f"{name_of(panel)}, {what}: {why}" for what, why in lacks]


def _best(found: pd.DataFrame) -> float:
    """Best final accuracy of a panel."""
    first = found[found["share"].notna()].iloc[0]
    return float(first["threshold"] / first["share"])


def _speed(found: pd.DataFrame) -> dict[str, object]:
    """The cells of one measure: epochs to each threshold, area and final accuracy."""
    cells: dict[str, object] = {"seeds": int(found["seeds"].iloc[0])}
    for share in SHARES:
        row = found[found["share"] == share].iloc[0]
        cells[f"to {100 * share:g} %"] = _epochs_to(
            float(row["mean"]), int(row["reached"]), int(row["seeds"])
        )
    means = found.set_index("quantity")["mean"]
    return cells | {name: percent(float(means.loc[name])) for name in ("area", "final")}


def _epochs_to(mean: float, reached: int, seeds: int) -> str:
    """The mean, and how many of the seeds it is over if some never get there."""
    if reached == seeds:
        return f"{mean:.1f}"
    return f"{mean:.1f} ({reached} of {seeds} seeds)" if reached else "never"


def _lead(pairs: Mapping[str, Pair | None]) -> dict[str, object]:
    """The cells of the lead over the next measure; empty for the last one."""
    known = next(filter(None, pairs.values()), None)
    cells: dict[str, object] = {
        "ahead of": known.behind if known else "",
        "pairs": str(known.seeds) if known else "",
    }
    for unit, pair in pairs.items():
        mean, low, high = (pair.lead.mean, pair.lead.low, pair.lead.high) if pair else (np.nan,) * 3
        without = f" (without {pair.unreached})" if pair and pair.unreached else ""
        cells[f"lead, {unit}"] = f"{texts([mean])[0]}{without}" if not pd.isna(mean) else ""
        cells[f"95 %, {unit}"] = ranges([low], [high])[0]
    return cells


def _ratios(panel: Panel) -> NotedTable:
    try:
        states = after_last_round(panel.runs.read("rounds"), panel.runs.spec)
    except (AnalysisError, LogError) as error:
        return NotedTable(pd.DataFrame(), (f"{name_of(panel)} is left out: {error}",))
    whole = fractions_by_run(states, [*AVERAGED_WITHIN, "seed"])
    rows = [
        {**facts_of(panel), "measure": name, **_fractions(whole[whole["measure"] == name])}
        for name in in_order(list(whole["measure"]), (ACCUSED, *OTHERS))
    ]
    notes = [_third(panel, states), *lacking(panel, (ACCUSED, *OTHERS))]
    return NotedTable(pd.DataFrame(rows), tuple(notes))


def _fractions(whole: pd.DataFrame) -> dict[str, object]:
    cells: dict[str, object] = {"seeds": len(whole)}
    for heading, name in _PARTS.items():
        cells[heading] = percent(whole[name].mean())
        cells[f"{heading}, over seeds"] = spread(whole[name])
    return cells


def _third(panel: Panel, states: pd.DataFrame) -> str:
    """How many layers a third of a network is."""
    one = states[states["run"] == states["run"].iloc[0]]
    deciding = int(one["coupled_to"].isna().sum())
    return (
        f"{panel.network}: a third is {deciding // 3} of the {deciding} layers that are not "
        "coupled to an earlier one"
    )
