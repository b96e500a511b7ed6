"""Rules and verdicts as text: Markdown for the docs, and plain tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import pandas as pd

from pruneviz.analysis.claims import RULES
from pruneviz.analysis.rules import VERDICTS, Rule
from pruneviz.console.shown_text import in_markdown, short

_WIDTH = 100  # characters of a line in the docs
_CELL = 400  # characters of a cell on a terminal
_FACTS = ("figure", "network", "dataset", "bn", "unit", "epoch", "what")
_ALWAYS = ("network", "dataset")


def rules_in_markdown() -> str:
    """All rules as they stand in docs/claims.md."""
    return "\n".join(_rule_in_markdown(name, rule) for name, rule in RULES.items())


def verdicts_in_words(found: pd.DataFrame, *, markdown: bool = False) -> str:
    """Verdicts as tables, one for each claim, under the claim.

    Args:
        found: What `pruneviz.claims` returns.
        markdown: Write Markdown tables in the place of aligned columns.
    """
    parts = []
    for name, rows in found.groupby("claim", sort=False):
        head = f"{name}: {RULES[str(name)].claim}"
        table = verdict_table(rows)
        body = markdown_table(table) if markdown else _aligned(table)
        parts.append(f"{textwrap.fill(head, _WIDTH)}\n\n{body}")
    return "\n".join(parts)


def verdict_table(found: pd.DataFrame) -> pd.DataFrame:
    """Verdicts as a table of short texts; facts that are always empty or alike are left out.

    Args:
        found: What `pruneviz.claims` returns.
    """
    texts: dict[str, pd.Series | list[str]] = {
        name: found[name].astype("str").where(found[name].notna(), "")
        for name in _FACTS
        if name in _ALWAYS or _tells(found[name])
    }
    texts["value"] = found["value"].map(_number)
    texts["95 %"] = [
        "" if pd.isna(low) else f"{_number(low)} to {_number(high)}"
        for low, high in zip(found["low"], found["high"], strict=True)
    ]
    if found["p"].notna().any():
        texts["p"] = found["p"].map(lambda p: "" if pd.isna(p) else f"{p:.2g}")
    texts["seeds"] = found["seeds"].astype("str")
    texts |= {name: found[name] for name in ("verdict", "reason")}
    return pd.DataFrame(texts).reset_index(drop=True)


def markdown_table(table: pd.DataFrame) -> str:
    """A table as Markdown, with a final line break."""
    header = [_cell(name) for name in table.columns]
    rule = ["---"] * len(header)
    body = [[_cell(value) for value in row] for row in table.to_numpy(dtype="object").tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *body])


def _cell(value: Any) -> str:
    """A value as text that stays in its cell, as it stands."""
    return "" if pd.isna(value) else in_markdown(value)


def _rule_in_markdown(name: str, rule: Rule) -> str:
    numbers = ", ".join(f"`{word}` = {value:g}" for word, value in rule.thresholds.items())
    points = {
        "Statistic": rule.statistic,
        "Interval and test": rule.interval,
        "Sample": rule.sample,
        "Numbers": f"{numbers}; at least {rule.seeds} seeds",
        **{f"*{word}*": rule.verdicts[word] for word in VERDICTS},
    }
    figures = ", ".join(shown.figure for shown in rule.figures)
    title = f"### `{name}` (Figures {figures})"
    claim = textwrap.fill(f"The paper: {rule.claim}.", _WIDTH)
    return "\n".join([title, "", claim, "", *_points(points), ""])


def _points(points: dict[str, str]) -> Iterator[str]:
    for word, text in points.items():
        yield textwrap.fill(f"- {word}: {text}.", _WIDTH, subsequent_indent="  ")


def _tells(values: pd.Series) -> bool:
    """Whether a fact differs between rows, or is neither empty nor the usual."""
    known = set(values.dropna().astype("str")) - {""}
    return len(known) > 1 or bool(known - {"eval", "filter"})


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def _aligned(table: pd.DataFrame) -> str:
    values = [list(table.columns), *table.astype("str").to_numpy().tolist()]
    rows = [[short(value, _CELL) for value in row] for row in values]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)
