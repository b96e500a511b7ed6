"""Numbers as short texts in the cells of Markdown tables, and the sentences below a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from pruneviz.console.shown_text import short

APART = "setting"  # heading of further facts that tell rows apart, in words
MODES = ("eval", "calibrated", "batch")


@dataclass(frozen=True)
class NotedTable:
    """A table of texts, and sentences that say what it leaves out and why.

    Attributes:
        table: One row per line of the Markdown table.
        notes: Sentences below it.
    """

    table: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()


def joined_tables(parts: Iterable[NotedTable]) -> NotedTable:
    """Several tables below each other, with the sentences of all; each sentence once.

    Args:
        parts: The tables.
    """
    known = list(parts)
    notes = dict.fromkeys(note for part in known for note in part.notes)
    tables = [part.table for part in known if len(part.table)]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return NotedTable(whole, tuple(notes))


def texts(values: Iterable[float], digits: int = 2) -> list[str]:
    """Numbers with so many digits after the point; "" where there is none."""
    return ["" if pd.isna(value) else f"{value:.{digits}f}" for value in values]


def ranges(least: Iterable[float], most: Iterable[float], digits: int = 2) -> list[str]:
    """Ranges such as "0.10 to 0.25"; "" where there is none."""
    ends = zip(least, most, strict=True)
    return ["" if pd.isna(low) else f"{low:.{digits}f} to {high:.{digits}f}" for low, high in ends]


def over_several(seeds: Iterable[int], least: Iterable[float], most: Iterable[float]) -> list[str]:
    """Ranges over seeds; "" for one seed, which has no range."""
    ends = zip(seeds, ranges(least, most), strict=True)
    return [text if count > 1 else "" for count, text in ends]


def rounded(table: pd.DataFrame, columns: Iterable[str], digits: int = 2) -> pd.DataFrame:
    """A table with some columns as texts of so many digits after the point."""
    return table.assign(**{name: texts(table[name], digits) for name in columns})


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction in percent, such as "12.5 %"; "" if there is none."""
    return "" if pd.isna(fraction) else f"{100 * fraction:.{digits}f} %"


def spread(fractions: pd.Series) -> str:
    """Least and greatest of several fractions in percent; "" for fewer than two."""
    known = fractions.dropna()
    if len(known) < 2:
        return ""
    return f"{100 * known.min():.1f} to {100 * known.max():.1f} %"


def without_empty(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """A table without those of the named columns that hold no text."""
    empty = [name for name in names if name in table and (table[name] == "").all()]
    return table.drop(columns=empty)


def by_mode(table: pd.DataFrame) -> pd.DataFrame:
    """Rows ordered by batch-norm mode: eval, with which others are compared, then the others.

    Rows of one mode keep their order.
    """
    order = table["bn"].map(lambda bn: MODES.index(bn) if bn in MODES else len(MODES))
    return table.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


def telling(table: pd.DataFrame, names: Sequence[str] = ("dataset",)) -> pd.DataFrame:
    """A table without facts that all rows share, and without settings if there are none.

    Args:
        table: Any table.
        names: The facts, among its columns.
    """
    facts = {name: ["" if pd.isna(one) else str(one) for one in table[name]] for name in names}
    alike = [name for name, values in facts.items() if len(set(values)) <= 1]
    return without_empty(table.assign(**facts).drop(columns=alike), [APART])


def in_words(facts: Mapping[str, object]) -> str:
    """Facts as words, such as "epochs 16, train_images 10000"."""
    return ", ".join(f"{short(name)} {in_word(value)}" for name, value in facts.items())


def in_word(value: object) -> str:
    """The value of a fact, such as "0.5" or "8/12"."""
    if value is None:
        return "unknown"
    if isinstance(value, tuple):
        return "/".join(map(in_word, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else short(value)
