"""What a set of runs holds, in one line and as a small HTML table for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import pandas as pd

from pruneviz.console.shown_text import short
from pruneviz.log.schema import FILTER_KEYS

_SHOWN = 10  # runs in the table, and facts beside their names
_FACTS = ("network", "dataset", "seed", "unit", "bn", "measure", "rounds")
# columns that every table has, so that naming them says nothing
_ALWAYS = frozenset((*FILTER_KEYS, "kept", "phase", "kept_fraction"))


def in_words(spec: pd.DataFrame, unfinished: Sequence[str]) -> str:
    """One line: number of runs, what they are of, their first names, and which are unfinished.

    Args:
        spec: One row per run.
        unfinished: Names of unfinished runs.
    """
    of = "".join(
        f" {word} {_listed(spec[fact].dropna().unique(), 2)}"
        for word, fact in (("of", "network"), ("on", "dataset"))
        if fact in spec and spec[fact].notna().any()
    )
    runs = "1 run" if len(spec) == 1 else f"{len(spec)} runs"
    names = f": {_listed(spec['run'], 3)}" if len(spec) else ""
    open_runs = f"; unfinished: {_listed(unfinished, 3)}" if unfinished else ""
    return f"<{runs}{of}{names}{open_runs}>"


def in_html(
    spec: pd.DataFrame,
    epochs: pd.DataFrame,
    recorded: Mapping[str, Sequence[str]],
    unfinished: Sequence[str],
) -> str:
    """A table of the runs with their epochs, and the columns that were recorded.

    Args:
        spec: One row per run.
        epochs: Run and epoch of every recorded epoch.
        recorded: Columns with values, by table.
        unfinished: Names of unfinished runs.
    """
    facts = [name for name in _FACTS if name in spec and _says_something(spec[name])]
    by_run = epochs.groupby(epochs["run"].astype(str))["epoch"]
    spans = {str(run): _span(held) for run, held in by_run}
    head = "".join(f"<th>{escape(name)}</th>" for name in ("run", *facts, "epochs"))
    rows = "".join(_row(run, facts, spans, unfinished) for _, run in spec.head(_SHOWN).iterrows())
    more = len(spec) - _SHOWN
    if more > 0:
        rows += f'<tr><td colspan="{len(facts) + 2}">and {more} more</td></tr>'
    held = "".join(
        f"<div>{escape(table)}: {_codes(name for name in names if name not in _ALWAYS)}</div>"
        for table, names in recorded.items()
    )
    title = f"<div>{escape(in_words(spec, unfinished).strip('<>'))}</div>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    # A notebook would set what stands between dollar signs as mathematics.
    return f'<div class="tex2jax_ignore mathjax_ignore">{title}{table}{held}</div>'


def _row(
    run: pd.Series, facts: Sequence[str], spans: Mapping[str, str], unfinished: Sequence[str]
) -> str:
    name = str(run["run"])
    cells = [short(name), *("" if pd.isna(run[fact]) else short(run[fact]) for fact in facts)]
    known = spans.get(name, "none")
    cells.append(f"{known}, unfinished" if name in unfinished else known)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _span(epochs: pd.Series) -> str:
    first, last, count = int(epochs.min()), int(epochs.max()), len(epochs)
    if first == last:
        return str(first)
    return f"{first} to {last}" + ("" if count == last - first + 1 else f" ({count} epochs)")


def _says_something(values: pd.Series) -> bool:
    """Whether a fact is known, and not the usual one in all runs."""
    known = values.dropna()
    usual = {"unit": "filter", "bn": "eval", "rounds": 0}.get(str(values.name))
    return len(known) > 0 and not (usual is not None and (known == usual).all())


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"<code>{escape(short(name))}</code>" for name in names) or "nothing"


def _listed(values: Iterable[object], shown: int) -> str:
    texts = [short(value) for value in values]
    return ", ".join(texts[:shown]) + (", ..." if len(texts) > shown else "")
