"""Table of the measures that predict best what removing a filter does to the loss."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd

from pruneviz.analysis.chosen_epochs import shown_epochs
from pruneviz.analysis.oracle_agreement import THIRDS, TRUTH, oracle_agreement
from pruneviz.analysis.over_runs import with_facts
from pruneviz.analysis.rules import Panel, in_pooled, panels_by_setting
from pruneviz.analysis.settings import present, settings_of
from pruneviz.analysis.table_texts import (
    APART,
    NotedTable,
    in_words,
    joined_tables,
    rounded,
    telling,
)
from pruneviz.console.words import counted
from pruneviz.log.runs import Runs

_BY_CHANCE = "random"
_CHANCE = 1.96  # standard errors that one ranking by chance in twenty exceeds


def oracle_table(runs: Runs) -> NotedTable:
    """Which measure predicts the size of `delta_loss`, at which epoch and in which layers.

    Args:
        runs: Recordings.

    Returns:
        One row per data set, further setting and measure, with Spearman's coefficient over the
        removed filters of a network at an epoch, averaged over seeds, then networks: mean and
        worst over the epochs after initialisation, the mean of each network and of each third of
        the layers over the same epochs, and the mean over networks at some epochs. Empty if no run
        has a `delta_loss`.
    """
    if TRUTH not in runs.recorded("filters"):
        return NotedTable(pd.DataFrame())
    rows = runs.read("filters", ["run", TRUTH], complete=TRUTH)
    held = runs.spec["run"].isin(set(rows["run"].astype("str"))) & runs.spec["unit"].eq("filter")
    chosen = runs.named(runs.spec.loc[held, "run"])
    if not len(chosen):
        return NotedTable(pd.DataFrame())
    found = joined_tables(_block(*block) for block in _blocks(chosen))
    return NotedTable(telling(found.table, ("bn",)), found.notes)


def _blocks(runs: Runs) -> Iterator[tuple[dict[str, str], Runs, set[str]]]:
    """Runs that differ in their network and seed alone, their facts, and numbers they pool."""
    told = [name for name in settings_of(runs.spec) if name not in ("network", "dataset", "bn")]
    blocks: dict[tuple[Hashable, ...], list[Panel]] = {}
    for panel in panels_by_setting(runs, ("unpruned", "pruned", "prune_phase")):
        first = panel.runs.spec.iloc[0]
        key = tuple(present(first[name]) for name in ("dataset", "bn", *told))
        blocks.setdefault(key, []).append(panel)
    for (_, _, *values), panels in blocks.items():
        facts = {"dataset": panels[0].dataset, "bn": panels[0].bn}
        facts[APART] = in_words(dict(zip(told, values, strict=True)))
        names = [name for panel in panels for name in panel.runs.spec["run"]]
        yield facts, runs.named(names), {name for panel in panels for name in panel.pooled}


def _block(facts: dict[str, str], runs: Runs, pooled: set[str]) -> NotedTable:
    spec = runs.spec.assign(network=runs.spec["network"].fillna("unnamed"))
    found = with_facts(oracle_agreement(runs), spec, ["network"])
    by_third = oracle_agreement(runs, by=["run", "epoch", "third"])
    table = _means(found, with_facts(by_third, spec, ["network"]))
    cells = rounded(table, table.columns).reset_index()
    cells = pd.concat([pd.DataFrame(facts, index=cells.index), cells], axis=1)
    told = [facts["dataset"], facts["bn"] if facts["bn"] != "eval" else "", facts[APART]]
    words = ", ".join(filter(None, told))
    notes = [*_notes(table, found, words)]
    if pooled:
        notes.append(f"{words}: {in_pooled(sorted(pooled))}")
    return NotedTable(cells, tuple(notes))


def _means(found: pd.DataFrame, by_third: pd.DataFrame) -> pd.DataFrame:
    """Mean coefficients by measure, best first: over all, by network, epoch and third."""
    after, parts = _trained(found), _trained(by_third)
    columns = {"mean": _mean(after), "worst": after.groupby("measure")["r"].min()}
    for network in sorted(after["network"].unique()):
        heading = f"network {network}" if network in ("mean", "worst", "measure") else network
        columns[heading] = _mean(after[after["network"] == network])
    for epoch in shown_epochs(sorted(found["epoch"].unique())):
        columns[f"epoch {epoch}"] = _mean(found[found["epoch"] == epoch])
    for third in (name for name in THIRDS if name in set(parts["third"])):
        columns[f"{third} third"] = _mean(parts[parts["third"] == third])
    return pd.DataFrame(columns).sort_values("mean", ascending=False).rename_axis("measure")


def _trained(found: pd.DataFrame) -> pd.DataFrame:
    """The epochs after initialisation; of initialisations alone all."""
    after = found[found["epoch"] > 0]
    return found if after.empty else after


def _mean(found: pd.DataFrame) -> pd.Series:
    """Mean by measure over the epochs of a run, its runs, and networks.

    Null for a measure that is undefined in a run or at an epoch where a ranking by chance is not.
    """
    means = found.groupby(["network", "run", "measure"], observed=True)["r"].mean()
    for keys in (["network", "measure"], ["measure"]):
        means = means.groupby(keys, observed=True).mean()
    defined = found.groupby("measure")["r"].count()
    return means.where(defined == defined[_BY_CHANCE])


def _notes(table: pd.DataFrame, found: pd.DataFrame, block: str) -> Iterator[str]:
    """Who is first, and when and where; and what chance alone gives."""
    measures = table.drop(index=_BY_CHANCE, columns="worst").dropna(axis="columns", how="all")
    first: dict[str, list[str]] = {}
    for name, measure in measures.idxmax().items():
        first.setdefault(str(measure), []).append(str(name))
    alone = len(first) == 1
    told = [f"{one} is first in {'all' if alone else ', '.join(of)}" for one, of in first.items()]
    if told:
        yield f"{block}: {'; '.join(told)}"
    chances = found[found["measure"] == _BY_CHANCE]
    for row in chances[chances["r"].isna()].itertuples():
        yield (
            f"{block}, {row.network}, epoch {row.epoch}: left out, since delta_loss is the same "
            "for all removed filters"
        )
    removed = "/".join(map(str, dict.fromkeys((found["n"].min(), found["n"].max()))))
    chance = _CHANCE / np.sqrt(found["n"].mean() - 1)
    yield (
        f"{block}: one ranking by chance in twenty is beyond ±{chance:.2f} in one network at one "
        f"epoch; {counted(found['run'].nunique(), 'run')}, {removed} removed filters in each"
    )
