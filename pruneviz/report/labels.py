"""Symbols in plain characters, for menus and axes of a page that sets no mathematics."""

from __future__ import annotations

import re

from pruneviz.errors import LogError
from pruneviz.plot.row_kind import RowKind
from pruneviz.plot.words import MEASURE_TITLES, MEASURE_UNITS

# TeX of the columns' symbols, longest first where one begins another.
_PLAIN = (
    (r"\mathrm{SE}_\mathrm{iid}", "SE(iid)"),
    (r"\mathrm{SE}", "SE"),
    (r"\mathrm{E}", "E"),
    (r"\frac{1}{2}", "½"),
    (r"^\top", "ᵀ"),
    (r"\theta", "θ"),
    (r"\sigma", "σ"),
    (r"\Delta", "Δ"),
    (r"\sum_j", "Σ"),
    (r"\mid", "\N{NO-BREAK SPACE}|\N{NO-BREAK SPACE}"),
    (r"\|", "‖"),
    (r"\ ", "\N{NO-BREAK SPACE}"),
    (r"\,", ""),
    (" ", ""),
)
_INDEX = re.compile(r"_(\{[a-z]+\}|[a-z])")
_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain_symbol(tex: str) -> str:
    """A column's symbol without TeX, its indices left out; "" if it cannot be written so."""
    text = tex.replace("$", "")
    for code, plain in _PLAIN:
        text = text.replace(code, plain)
    text = _INDEX.sub("", text)
    text = re.sub(r"\^([0-9])", lambda found: found[1].translate(_POWERS), text)
    return "" if re.search(r"[\\{}^_]", text) else text


def described(name: str, row_kind: RowKind) -> dict[str, str]:
    """Symbol, unit and meaning of a quantity, as the page shows them.

    Args:
        name: Column of the filters table, or pruning measure.
        row_kind: Kind of the rows.
    """
    try:
        column = row_kind.column(name)
    except LogError:
        return {
            "symbol": MEASURE_TITLES.get(name, name),
            "unit": MEASURE_UNITS.get(name, ""),
            "meaning": "importance by this pruning measure; the lowest is pruned first",
        }
    unit = "" if column.unit in ("", "1") else column.unit
    symbol = plain_symbol(column.symbol) or name
    return {"symbol": symbol, "unit": unit, "meaning": column.meaning}
