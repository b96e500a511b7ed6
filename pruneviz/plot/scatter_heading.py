"""Words above the panels of a scatter plot: title, correlations, and the number of points."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pruneviz.console.words import counted
from pruneviz.log.vocabulary import CorrelationMethod, with_companion
from pruneviz.plot import style
from pruneviz.plot.glyphs import literal
from pruneviz.plot.legends import shortened
from pruneviz.plot.row_kind import RowKind
from pruneviz.plot.words import decimal, mean_and_sd, percent

CHARACTERS = 54  # of a title that reaches over a whole row
_LINES = 2  # coefficients above a panel
_LINE = 9.2  # points: height of a line
_SMALL = 7.0  # points: the smallest text of the style


def when(facts: pd.Series) -> str:
    """The epoch of a panel in words; nothing for a table without epochs."""
    if pd.isna(facts["schedule"]):
        return ""
    return f"epoch {facts['epoch']} of {facts['schedule']}" if facts["epoch"] else "initialisation"


def counts(facts: pd.Series, row_kind: RowKind) -> str:
    """How many rows and runs a correlation is over."""
    rows, runs = facts[row_kind.counted], facts["seeds"]
    text = "no pair of values" if pd.isna(rows) else counted(int(rows), row_kind.noun)
    if pd.isna(runs) or not runs or (runs < 2 and pd.isna(facts["seed"])):
        return text
    return f"{text}, {counted(int(runs), 'run' if pd.isna(facts['seed']) else 'seed')}"


def heading(
    rows: pd.DataFrame,
    row_kind: RowKind,
    method: CorrelationMethod,
    symbols: Mapping[str, str],
) -> list[str]:
    """What stands above a panel.

    These are the correlations of the run drawn and their means over all runs, or their range if the
    points are of several settings; how many rows they are over; and, where it is known, the
    effective number of rows in Pearson's coefficient (the least of all runs) and the share of the
    points that is clear of noise.

    Args:
        rows: Points of the panel.
        row_kind: What they are.
        method: The chosen coefficient.
        symbols: Symbols of coefficients.
    """
    settings = rows.drop_duplicates("run")
    methods = with_companion(method)[:_LINES]
    if len(settings) == 1:
        facts = settings.iloc[0]
        lines = [f"{symbols[name]} {_of_run_and_mean(facts, name)}" for name in methods]
        lines.append(counts(facts, row_kind))
    else:
        ends = [(decimal(settings[name].min()), decimal(settings[name].max())) for name in methods]
        lines = [
            f"{symbols[name]} {low} to {high}"
            for name, (low, high) in zip(methods, ends, strict=True)
        ]
        lines.append(counted(int(settings[row_kind.counted].sum()), row_kind.noun))
    beside = [*_effective(settings), *_clear(rows)]
    return [*lines, ", ".join(beside)] if beside else lines


def _of_run_and_mean(facts: pd.Series, method: str) -> str:
    """The coefficient of the run drawn and, of several runs, their mean."""
    if not facts["seeds"] > 1:
        return decimal(facts[method])
    mean = mean_and_sd(facts[method], facts[f"{method}_sd"])
    return f"{decimal(facts[f'{method}_drawn'])}, mean {mean}"


def _effective(settings: pd.DataFrame) -> list[str]:
    """The effective number of rows of a single setting."""
    if len(settings) > 1 or "pearson_n_eff" not in settings:
        return []
    number = settings["pearson_n_eff"].iloc[0]
    least = "≥ " if settings["seeds"].iloc[0] > 1 else ""
    if pd.isna(number):
        return []
    return [f"n_eff {least}{number:.0f}" if number >= 1 else "n_eff < 1"]


def _clear(rows: pd.DataFrame) -> list[str]:
    known = rows["clear"].dropna()
    share = float(np.mean(known.to_numpy(dtype=bool))) if len(known) else 0.0
    return [f"{percent(share, digits=0)} clear"] if len(known) else []


def panel_title(
    group: str, epoch: str, letter: str, *, alone: bool, titled: bool, columns: int
) -> str:
    """Setting and epoch of a panel; a setting with several epochs is named once, over its row.

    Args:
        group: The setting.
        epoch: The epoch in words.
        letter: Letter of the panel.
        alone: Whether the setting has no other panel.
        titled: Whether the title names the setting.
        columns: Panels in a row.
    """
    if not titled:
        return f"{letter}{epoch}"
    if alone:
        (short,) = shortened([group], 2 * CHARACTERS // columns)
        lines = textwrap.wrap(f"{letter}{short}", CHARACTERS // columns)
        return "\n".join(map(literal, [*lines, *filter(None, [epoch])]))
    (short,) = shortened([group], CHARACTERS)
    return f"{literal(short)}\n{letter}{epoch}"


def write_heading(axes: Axes, title: str, lines: list[str], given: bool) -> None:
    """Write the title and correlations above a panel, where they hide no points.

    Args:
        axes: The panel.
        title: The title.
        lines: What `heading` returns.
        given: Whether a person gave the axes, whose title then holds all of it.
    """
    if given:
        text = [title, "; ".join(lines[:_LINES]), "; ".join(lines[_LINES:])]
        axes.set_title("\n".join(filter(None, text)), loc="left", fontsize="small")
        return
    axes.set_title(title or " ", pad=5 + _LINE * len(lines))
    box = axes.annotate(
        "\n".join(lines),
        (0, 1),
        (0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=_SMALL,
        color=style.NOTE_COLOUR,
        ha="left",
        va="bottom",
        linespacing=1.15,
    )
    # The title above keeps its room; the text may reach over the gap between two panels.
    box.set_in_layout(False)
