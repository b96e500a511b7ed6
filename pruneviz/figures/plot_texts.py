"""Words and main numbers of pictures of any recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.console.shown_text import short
from pruneviz.console.words import counted
from pruneviz.figures.drawn_words import in_words
from pruneviz.log.vocabulary import is_accuracy
from pruneviz.plot.looks import facts_in, varying
from pruneviz.plot.words import decimal, mean_and_sd, named, percent

Arguments = Mapping[str, Any]

_LONG = 300  # characters of a setting in words
_MOST_ROWS = 400  # of values in the long form; the CSV has all
# Columns that tell rows of values apart, by kind; points, layers and filters are in the CSV.
_ROW_KEYS: Mapping[str, tuple[str, ...]] = {"scatter": ("group", "epoch")}
_OF_POINTS = ("layer", "depth", "filter", "weight")


def title_of(kind: str, network: str, arguments: Arguments) -> str:
    """The title of a picture.

    Args:
        kind: Name in `pruneviz.figures.plot_kinds.KINDS`.
        network: Title of the network, or of what else is shown.
        arguments: Arguments of the plot function.
    """
    x, y = (in_words(arguments.get(name)) for name in ("x", "y"))
    titles = {
        "scatter": f"{y} against {x}",
        "correlation": f"correlation of {x or 'every measure'} with {y}",
        "layers": f"{y} in each layer" if y else "pruned share of each layer",
        "accuracy": f"{y or 'accuracy'} during training",
        "heatmap": "correlation of pruning measures with each other",
        "trajectory": f"{y} during training",
        "masks": "kept filters during training",
    }
    return f"{network}: {titles[kind]}."


def main_numbers(kind: str, table: pd.DataFrame, arguments: Arguments) -> str:
    """The main numbers of a picture, in a sentence or two."""
    return BRIEFS[kind](table, arguments)


def value_rows(kind: str, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of values in the long form; none if there are very many, as of single filters."""
    if kind in _ROW_KEYS:
        keys = [name for name in _ROW_KEYS[kind] if name in table]
        return table.drop_duplicates(keys)[_settings(table)]
    return table if len(table) <= _MOST_ROWS else table[:0]


def _settings(table: pd.DataFrame) -> list[str]:
    """Columns of a scatter table that are the same for all points of a panel."""
    panels = table.groupby([name for name in ("group", "epoch") if name in table], sort=False)
    varying = panels.nunique(dropna=False).max()
    names = map(str, table)
    return [name for name in names if name not in varying.index or varying[name] == 1]


def _scatter(table: pd.DataFrame, arguments: Arguments) -> str:
    method = arguments.get("method", "pearson")
    beside = "pearson" if method == "spearman" else "spearman"
    panels = table.drop_duplicates([name for name in ("group", "epoch") if name in table])
    each = [
        f"{_label(row)}{mean_and_sd(row[method], row[f'{method}_sd'])} "
        f"({mean_and_sd(row[beside], row[f'{beside}_sd'])})"
        for _, row in panels.iterrows()
    ]
    return f"{method} correlation ({beside}): {'; '.join(each)}.".capitalize()


def _label(row: pd.Series) -> str:
    group = f"{short(row['group'], _LONG)}, " if row.get("group") else ""
    return f"{group}epoch {row['epoch']} "


def _correlation(table: pd.DataFrame, arguments: Arguments) -> str:
    method = arguments.get("method", "pearson")
    if method not in table:
        return _rows(table, arguments)
    known = table.dropna(subset=[method])
    told = ("network", "dataset") if "group" in known else ()  # a group names what differs
    lines = _apart(known, ("epoch", "y", "mask_score", *told))
    sentences = []
    for name, rows in _by(known, lines):
        ordered = rows.sort_values("epoch")
        first, last = ordered.iloc[0], ordered.iloc[-1]
        sentences.append(
            f"{name}{decimal(first[method])} at epoch {first['epoch']} to {decimal(last[method])} "
            f"at epoch {last['epoch']}"
        )
    return f"{method} correlation: {'; '.join(sentences)}.".capitalize()


def _accuracy(table: pd.DataFrame, arguments: Arguments) -> str:
    column = [name for name in map(str, table) if f"{name}_sd" in table][-1]
    shown = table.dropna(subset=[column])
    scale = percent if is_accuracy(column) else mean_and_sd
    facts = list(shown.columns[: list(shown.columns).index("epoch")])
    each = []
    for name, rows in _by(shown, [fact for fact in facts if _varies(shown[fact])]):
        last = rows.sort_values("epoch").iloc[-1]
        each.append(f"{name}{scale(last[column], last[f'{column}_sd'])} at epoch {last['epoch']}")
    return f"{named(column)}: {'; '.join(each)}."


def _layers(table: pd.DataFrame, arguments: Arguments) -> str:
    column = next((name for name in map(str, table) if f"{name}_sd" in table), None)
    if column is None or table[column].dropna().empty:
        return _rows(table, arguments)
    low, high = _extremes(table, column)
    what = in_words(arguments.get("y")) or "The pruned share"
    return (
        f"{what} is lowest in {_place(table, low)} ({decimal(low[column], 3)}) and highest in "
        f"{_place(table, high)} ({decimal(high[column], 3)})."
    )


def _place(table: pd.DataFrame, row: pd.Series) -> str:
    """Layer, setting and epoch of a row, as far as the table has several settings."""
    facts = [name for name in facts_in(table, "layer_index") if name not in ("layer", "epoch")]
    told = [
        f"{named(name)} {named(row[name])}"
        for name in varying(table, facts)
        if not _absent(row[name])
    ]
    epoch = [f"epoch {int(row['epoch'])}"] if "epoch" in row and not _absent(row["epoch"]) else []
    return f"{named(row['layer'])}{''.join(f', {part}' for part in [*told, *epoch])}"


def _extremes(table: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """The rows with the lowest and the highest value of a column."""
    values = table[column].to_numpy(dtype="float64")
    return table.iloc[int(np.nanargmin(values))], table.iloc[int(np.nanargmax(values))]


def _heatmap(table: pd.DataFrame, arguments: Arguments) -> str:
    pairs = table[table["x"] != table["y"]].dropna(subset=["r"])
    if pairs.empty:
        return _rows(table, arguments)
    low, high = _extremes(pairs, "r")
    return (
        f"Most alike are {high['x']} and {high['y']} ({decimal(high['r'])}), least {low['x']} and "
        f"{low['y']} ({decimal(low['r'])})."
    )


def _rows(table: pd.DataFrame, arguments: Arguments) -> str:
    epochs = table["epoch"] if "epoch" in table else pd.Series([], dtype="int64")
    over = f", epochs {epochs.min()} to {epochs.max()}" if len(epochs) else ""
    return f"{counted(len(table), 'value')}{over}."


def _apart(table: pd.DataFrame, without: Sequence[str]) -> list[str]:
    """Columns of words that tell lines of a table apart."""
    return [
        str(name)
        for name in table
        if name not in without and _varies(table[name]) and not _numeric(table[name])
    ]


def _by(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    if not names:
        return [("", table)]
    groups = table.groupby(list(names), sort=False, dropna=False, observed=True)
    return [
        (f"{', '.join(short(v, _LONG) for v in key if not _absent(v)) or 'unpruned'} ", rows)
        for key, rows in groups
    ]


def _absent(value: Any) -> bool:
    return not isinstance(value, (tuple, list)) and bool(pd.isna(value))


def _varies(values: pd.Series) -> bool:
    return len(set(values.astype(str))) > 1


def _numeric(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values)


BRIEFS: Mapping[str, Callable[[pd.DataFrame, Arguments], str]] = {
    "scatter": _scatter,
    "correlation": _correlation,
    "layers": _layers,
    "accuracy": _accuracy,
    "heatmap": _heatmap,
    "trajectory": _rows,
    "masks": _rows,
}
