"""What stands beside an accuracy curve: its convergence numbers as tables, as lines of the caption, and as a test of the paper's claim."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pruneviz.analysis.convergence import convergence, convergence_by_run, leads
from pruneviz.console.words import counted
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.words import (
    dataset_title,
    decimal,
    listed,
    mean_and_sd,
    measure_title,
    percent,
)
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES

AS_CLAIMED, AGAINST, OPEN = (
    "as the claim has it",
    "against the claim",
    "the seeds do not tell them apart",
)
_COLUMN = 18  # characters, of which the longest value, such as 127.0 (19 of 20), leaves some


def tables(runs: Runs, entry: Entry, options: DrawOptions) -> Mapping[str, pd.DataFrame]:
    """The convergence numbers of the runs of a figure, and the leads of the measures over one another in the order of the claim.

    Returns: `convergence` (see `pruneviz.analysis.convergence.convergence`) and, where two measures or more are recorded, `leads`
    (see `leads` there), both of the test accuracy.
    """
    spec = chosen_spec(runs.spec, entry, options)
    epochs = runs.named(spec["run"]).epochs
    recorded = [measure for measure in CURVE_MEASURES if measure in set(spec["measure"])]
    found = {"convergence": _in_order(convergence(epochs, spec), spec)}
    return (
        {**found, "leads": _in_order(leads(convergence_by_run(epochs, spec), recorded), spec)}
        if len(recorded) > 1
        else found
    )


def values(tables: Mapping[str, pd.DataFrame], options: DrawOptions) -> list[str]:
    """The convergence numbers, a line per panel and measure, and the leads, a line per panel, pair and quantity."""
    lines = [
        "Convergence of the test accuracy: area is the mean accuracy over the epochs (trapezoid rule), to x % the first epoch with that",
        "accuracy; the thresholds are 50, 80, 90 and 95 % of the best final accuracy of any run of the panel.",
    ]
    if "leads" in tables:
        lines += [
            "Each interval of a lead stands by itself: of many, one in twenty would leave out zero by chance alone."
        ]
    for letter, (dataset, panel) in zip(
        "abcdefgh", tables["convergence"].groupby("dataset", sort=False), strict=False
    ):
        lines += [f"({letter}) {dataset_title(str(dataset))}", *_panel_lines(panel)]
        if "leads" in tables:
            lines += _lead_lines(tables["leads"][tables["leads"]["dataset"] == dataset])
    return lines


def finding(tables: Mapping[str, pd.DataFrame], options: DrawOptions) -> str:
    """What the leads say to the claim, panel by panel."""
    if "leads" not in tables:
        return "Fewer than two measures are recorded, so nothing is said about the claim."
    return " ".join(
        _of_panel(str(dataset), panel, tables["leads"])
        for dataset, panel in tables["convergence"].groupby("dataset", sort=False)
    )


def verdict(row: pd.Series) -> str:
    """What a row of leads says to the claim that its first measure is the faster one; where curves end is no part of it."""
    if row["quantity"] == "final":
        return "no part of the claim"
    if row["seeds"] < row["pairs"]:
        return (
            f"not compared: both reach it in {row['seeds']} of {counted(int(row['pairs']), 'seed')}"
        )
    if row["mean"] == 0 or (row["pairs"] > 1 and row["low"] <= 0 <= row["high"]):
        return OPEN if row["pairs"] > 1 else "no difference in the one seed"
    return (AS_CLAIMED if row["mean"] > 0 else AGAINST) + _reserve(row)


def _reserve(row: pd.Series) -> str:
    """Why a verdict is no more than a hint: one seed has no spread, and neither have leads that are equal as whole epochs are."""
    if row["pairs"] == 1:
        return " (one seed, so a hint at most)"
    return " (the same in every seed, so a hint at most)" if row["low"] == row["high"] else ""


def _in_order(table: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the figure's panels and legend, an area before the thresholds and a final accuracy after them."""
    names = [name for name in ("dataset", "measure", "ahead") if name in table.columns]
    place = {
        name: list(dict.fromkeys(spec["measure" if name == "ahead" else name])) for name in names
    }
    keys = table.assign(**{name: table[name].map(order.index) for name, order in place.items()})
    return table.loc[keys.sort_values([*names, "quantity", "threshold"]).index].reset_index(
        drop=True
    )


def _panel_lines(panel: pd.DataFrame) -> list[str]:
    first = panel[panel["measure"] == panel["measure"].iloc[0]]
    head = f"    {'':<{_COLUMN}}" + "".join(
        f"{_quantity(row):<{_COLUMN}}" for _, row in first.iterrows()
    )
    rows = [
        f"    {measure_title(str(measure)):<{_COLUMN}}"
        + "".join(f"{_value(row):<{_COLUMN}}" for _, row in rows.iterrows())
        for measure, rows in panel.groupby("measure", sort=False)
    ]
    return [line.rstrip() for line in (head, *rows)]


def _lead_lines(ahead: pd.DataFrame) -> list[str]:
    lines = []
    for (first, second), pair in ahead.groupby(["ahead", "behind"], sort=False):
        lines.append(
            f"    lead of {measure_title(str(first))} over {measure_title(str(second))}, seed by seed [95 % interval]"
        )
        lines += [
            f"        {_quantity(row):<{_COLUMN}}{_lead(row):<32}{verdict(row)}"
            for _, row in pair.iterrows()
        ]
    return lines


def _quantity(row: pd.Series) -> str:
    return (
        f"to {percent(row['threshold'])}"
        if row["quantity"] == "epochs_to"
        else f"{row['quantity']}, %"
    )


def _value(row: pd.Series) -> str:
    if row["reached"] == 0:
        return "never"
    scale = 1 if row["quantity"] == "epochs_to" else 100
    if row["reached"] < row["seeds"]:
        return f"{decimal(scale * row['mean'], 1)} ({row['reached']} of {row['seeds']})"
    return mean_and_sd(scale * row["mean"], scale * row["sd"], 1)


def _lead(row: pd.Series) -> str:
    scale, unit = (1, "epochs") if row["quantity"] == "epochs_to" else (100, "points")
    if row["seeds"] == 0:
        return "none"
    ends = (
        f" [{decimal(scale * row['low'], 1)}, {decimal(scale * row['high'], 1)}]"
        if row["low"] < row["high"]
        else ""
    )
    return f"{decimal(scale * row['mean'], 1)} {unit}{ends}"


def _of_panel(dataset: str, panel: pd.DataFrame, ahead: pd.DataFrame) -> str:
    areas = panel[panel["quantity"] == "area"].sort_values("mean", ascending=False, kind="stable")
    order = listed(
        f"{measure_title(row['measure'])} ({percent(row['mean'])})" for _, row in areas.iterrows()
    )
    pairs = ahead[ahead["dataset"] == dataset].groupby(["ahead", "behind"], sort=False)
    told = " ".join(_of_pair(str(first), str(second), rows) for (first, second), rows in pairs)
    return f"{dataset_title(dataset)}: by the area under the test curve the order is {order}. {told or 'No two measures share a seed.'}"


def _of_pair(first: str, second: str, rows: pd.DataFrame) -> str:
    thresholds = rows[rows["quantity"] == "epochs_to"]
    area = rows[rows["quantity"] == "area"]
    verdicts = thresholds.apply(verdict, axis="columns")
    shares = {text: thresholds.loc[verdicts == text, "share"] for text in dict.fromkeys(verdicts)}
    by_threshold = "; ".join(
        f"{text} at {listed(percent(share, digits=0) for share in found)}"
        for text, found in shares.items()
    )
    return (
        f"{measure_title(first)} before {measure_title(second)}: by the area {verdict(area.iloc[0])}; by the epochs to "
        f"shares of the best final accuracy {by_threshold}."
    )
