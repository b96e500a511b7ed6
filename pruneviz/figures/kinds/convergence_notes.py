"""Convergence numbers beside an accuracy curve: tables and caption lines."""

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
    mean_and_sd,
    measure_title,
    percent,
)

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
        lines += [
            "Each interval of a lead stands by itself: of many, one in twenty would leave out zero "
            "by chance alone;",
            "the verdicts are corrected for that.",
        ]
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


def _by_setting(
    tables: Mapping[str, pd.DataFrame],
) -> list[tuple[str, Mapping[str, pd.DataFrame]]]:
    """The tables of each setting under its name."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for name, table in tables.items():
        for setting, rows in by_setting(table):
            found.setdefault(setting, {})[name] = rows
    return list(found.items())


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
            lines.append(f"        {_quantity(row):<{_COLUMN}}{_lead(row)}")
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
    if row["seeds"] < row["pairs"]:
        ends += f" ({row['seeds']} of {counted(int(row['pairs']), 'seed')})"
    return f"{decimal(scale * row['mean'], 1)} {unit}{ends}"
