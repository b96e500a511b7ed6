"""Convergence numbers beside an accuracy curve: tables, caption lines, and a test of the claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pruneviz.analysis.convergence import convergence, convergence_by_run, leads
from pruneviz.console.words import counted
from pruneviz.figures.catalogue import Entry
from pruneviz.figures.chosen_runs import SETTING, chosen_spec
from pruneviz.figures.options import DrawOptions
from pruneviz.figures.settings import GROUP, by_setting
from pruneviz.log.runs import Runs
from pruneviz.plans.needs import CURVE_MEASURES
from pruneviz.plot.words import (
    dataset_title,
    decimal,
    listed,
    mean_and_sd,
    measure_title,
    percent,
)

AS_CLAIMED = "as the claim has it"
AGAINST = "against the claim"
OPEN = "the seeds do not tell them apart"
_LETTERS = "abcdefgh"
_COLUMN = 18  # characters: the longest value, such as 127.0 (19 of 20), and a gap


def tables(runs: Runs, entry: Entry, options: DrawOptions) -> Mapping[str, pd.DataFrame]:
    """Convergence numbers for a figure's runs, and leads between its measures.

    Returns:
        Tables of the test accuracy by name: `convergence` (see
        `pruneviz.analysis.convergence.convergence`) and, where two measures or more are recorded,
        `leads` (see `leads` there), in the claim's order.
    """
    spec = chosen_spec(runs.spec, entry, options)
    if SETTING not in spec:
        return _tables(runs, spec)
    parts = [
        {name: table.assign(**{GROUP: setting}) for name, table in _tables(runs, rows).items()}
        for setting, rows in spec.groupby(SETTING, sort=False)
    ]
    names = dict.fromkeys(name for part in parts for name in part)
    return {
        name: pd.concat([part[name] for part in parts if name in part], ignore_index=True)
        for name in names
    }


def _tables(runs: Runs, spec: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    epochs = runs.named(spec["run"]).epochs
    recorded = [measure for measure in CURVE_MEASURES if measure in set(spec["measure"])]
    found = {"convergence": _in_order(convergence(epochs, spec), spec)}
    if len(recorded) > 1:
        by_run = convergence_by_run(epochs, spec)
        found["leads"] = _in_order(leads(by_run, recorded), spec)
    return found


def values(tables: Mapping[str, pd.DataFrame], options: DrawOptions) -> list[str]:
    """Lines with numbers per panel and measure, and with leads per panel, pair and quantity."""
    lines = [
        "Convergence of the test accuracy: area is the mean accuracy over the epochs (trapezoid "
        "rule), to x % the first epoch with that",
        "accuracy; the thresholds are 50, 80, 90 and 95 % of the best final accuracy of any run of "
        "the panel.",
    ]
    if "leads" in tables:
        lines.append(
            "Each interval of a lead stands by itself: of many, one in twenty would leave out zero "
            "by chance alone."
        )
    for name, part in _by_setting(tables):
        lines += [*([f"{name}:"] if name else []), *_values(part)]
    return lines


def _values(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    lines = []
    panels = tables["convergence"].groupby("dataset", sort=False)
    for letter, (dataset, panel) in zip(_LETTERS, panels, strict=False):
        lines += [f"({letter}) {dataset_title(str(dataset))}", *_panel_lines(panel)]
        if "leads" in tables:
            lines += _lead_lines(tables["leads"][tables["leads"]["dataset"] == dataset])
    return lines


def finding(tables: Mapping[str, pd.DataFrame], options: DrawOptions) -> str:
    """What the leads say about the claim, panel by panel."""
    parts = [(name, _finding(part)) for name, part in _by_setting(tables)]
    return " ".join(f"{name}: {text}" if name else text for name, text in parts)


def _by_setting(
    tables: Mapping[str, pd.DataFrame],
) -> list[tuple[str, Mapping[str, pd.DataFrame]]]:
    """The tables of each setting under its name."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for name, table in tables.items():
        for setting, rows in by_setting(table):
            found.setdefault(setting, {})[name] = rows
    return list(found.items())


def _finding(tables: Mapping[str, pd.DataFrame]) -> str:
    if "leads" not in tables:
        return "Fewer than two measures are recorded, so nothing is said about the claim."
    return " ".join(
        _of_panel(str(dataset), panel, tables["leads"])
        for dataset, panel in tables["convergence"].groupby("dataset", sort=False)
    )


def verdict(row: pd.Series) -> str:
    """What a row of leads says about the claim that its first measure is faster.

    The claim does not cover final accuracies.
    """
    if row["quantity"] == "final":
        return "no part of the claim"
    if row["seeds"] < row["pairs"]:
        seeds = counted(int(row["pairs"]), "seed")
        return f"not compared: both reach it in {row['seeds']} of {seeds}"
    if row["pairs"] == 1 and row["mean"] == 0:
        return "no difference in the one seed"
    if row["mean"] == 0 or (row["pairs"] > 1 and row["low"] <= 0 <= row["high"]):
        return OPEN
    return (AS_CLAIMED if row["mean"] > 0 else AGAINST) + _reserve(row)


def _reserve(row: pd.Series) -> str:
    """Why a verdict is only a hint: one seed or equal leads have no spread."""
    if row["pairs"] == 1:
        return " (one seed, so a hint at most)"
    return " (the same in every seed, so a hint at most)" if row["low"] == row["high"] else ""


def _in_order(table: pd.DataFrame, spec: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the figure: area first, then thresholds, then final accuracy."""
    columns = {"dataset": "dataset", "measure": "measure", "ahead": "measure"}
    places = {}
    for name in (name for name in columns if name in table.columns):
        order = list(dict.fromkeys(spec[columns[name]]))
        places[name] = table[name].map(order.index)
    keys = table.assign(**places).sort_values([*places, "quantity", "threshold"])
    return table.loc[keys.index].reset_index(drop=True)


def _panel_lines(panel: pd.DataFrame) -> list[str]:
    """The numbers of a panel as a text table, one line per measure."""
    first = panel[panel["measure"] == panel["measure"].iloc[0]]
    lines = [_columns("", [_quantity(row) for _, row in first.iterrows()])]
    for measure, rows in panel.groupby("measure", sort=False):
        cells = [_value(row) for _, row in rows.iterrows()]
        lines.append(_columns(measure_title(str(measure)), cells))
    return lines


def _columns(name: str, cells: Sequence[str]) -> str:
    line = "    " + "".join(f"{cell:<{_COLUMN}}" for cell in (name, *cells))
    return line.rstrip()


def _lead_lines(ahead: pd.DataFrame) -> list[str]:
    lines = []
    for (first, second), pair in ahead.groupby(["ahead", "behind"], sort=False):
        lines.append(
            f"    lead of {measure_title(str(first))} over {measure_title(str(second))}, seed by "
            "seed [95 % interval]"
        )
        for _, row in pair.iterrows():
            lines.append(f"        {_quantity(row):<{_COLUMN}}{_lead(row):<32}{verdict(row)}")
    return lines


def _quantity(row: pd.Series) -> str:
    if row["quantity"] == "epochs_to":
        return f"to {percent(row['threshold'])}"
    return f"{row['quantity']}, %"


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
    ends = ""
    if row["low"] < row["high"]:
        ends = f" [{decimal(scale * row['low'], 1)}, {decimal(scale * row['high'], 1)}]"
    return f"{decimal(scale * row['mean'], 1)} {unit}{ends}"


def _of_panel(dataset: str, panel: pd.DataFrame, ahead: pd.DataFrame) -> str:
    areas = panel[panel["quantity"] == "area"].sort_values("mean", ascending=False, kind="stable")
    order = listed(
        f"{measure_title(row['measure'])} ({percent(row['mean'])})" for _, row in areas.iterrows()
    )
    pairs = ahead[ahead["dataset"] == dataset].groupby(["ahead", "behind"], sort=False)
    told = " ".join(_of_pair(str(first), str(second), rows) for (first, second), rows in pairs)
    return (
        f"{dataset_title(dataset)}: by the area under the test curve the order is {order}. "
        f"{told or 'No two measures share a seed.'}"
    )


def _of_pair(first: str, second: str, rows: pd.DataFrame) -> str:
    area = rows[rows["quantity"] == "area"].iloc[0]
    thresholds = rows[rows["quantity"] == "epochs_to"]
    verdicts = thresholds.apply(verdict, axis="columns")
    parts = []
    for text in dict.fromkeys(verdicts):
        shares = thresholds.loc[verdicts == text, "share"]
        parts.append(f"{text} at {listed(percent(share, digits=0) for share in shares)}")
    return (
        f"{measure_title(first)} before {measure_title(second)}: by the area {verdict(area)}; by "
        f"the epochs to shares of the best final accuracy {'; '.join(parts)}."
    )
