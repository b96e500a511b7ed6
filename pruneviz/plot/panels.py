"""Words above panels: what they show, and how many seeds."""

from __future__ import annotations

import textwrap

import pandas as pd

from pruneviz.plot.glyphs import literal

_CHARACTER = 0.075  # inches of a bold character of a title


def wrapped(title: str, inches: float) -> str:
    """A title in as many lines as its panel is narrow, drawn as it stands."""
    return "\n".join(map(literal, textwrap.wrap(title, max(12, int(inches / _CHARACTER)))))


def seeds_in_words(table: pd.DataFrame) -> str:
    """`mean of 3 seeds`, from a column `seeds`; nothing for a single one."""
    seeds = table.loc[table["seeds"] > 0, "seeds"]
    least, most = int(seeds.min() if len(seeds) else 0), int(seeds.max() if len(seeds) else 0)
    if most <= 1:
        return ""
    return f"mean of {most} seeds" if least == most else f"mean of {least} to {most} seeds"
