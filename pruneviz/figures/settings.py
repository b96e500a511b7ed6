"""Runs of one panel that differ in more than their measure and seed, told apart by `group`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

GROUP = "group"  # column of a figure's table that names the setting, if there are several


def by_setting(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each setting under its name; all rows without a name if there is one."""
    if GROUP not in table:
        return [("", table)]
    return [(str(name), rows) for name, rows in table.groupby(GROUP, sort=False)]


def lines_of(table: pd.DataFrame, lines: Callable[[pd.DataFrame], Sequence[str]]) -> list[str]:
    """Lines of text of each setting, below its name if there are several."""
    found = []
    for name, rows in by_setting(table):
        found += [*([f"{name}:"] if name else []), *lines(rows)]
    return found


def sentences_of(table: pd.DataFrame, sentences: Callable[[pd.DataFrame], str]) -> str:
    """Sentences about each setting, after its name if there are several."""
    parts = [(name, sentences(rows)) for name, rows in by_setting(table)]
    return " ".join(f"{name}: {text}" if name else text for name, text in parts)
