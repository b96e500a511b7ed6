"""Axes of columns of the epochs table: their name, and whether they are shares in per cent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pruneviz.errors import FigureError
from pruneviz.log.schema import EPOCHS
from pruneviz.log.vocabulary import is_accuracy
from pruneviz.plot.glyphs import literal
from pruneviz.plot.legends import shortened
from pruneviz.plot.words import listed

_LONGEST = 60  # characters of a label
_TITLES: Mapping[str, str] = {
    "lr": "learning rate",
    "kept_fraction": "kept of the network",
    "mask_distance": "distance between consecutive masks",
    "seconds": "time of the epoch",
    "sample_loss": "loss on the sample",
    "g_norm2": "squared norm of the gradient",
    "ghg": "g^T H g",
}
_ENDINGS: Mapping[str, str] = {"acc": "accuracy", "accuracy": "accuracy", "loss": "loss"}
_KIND = re.compile(r"(.+)_(acc|accuracy|loss)", re.IGNORECASE)


@dataclass(frozen=True)
class EpochAxis:
    """The axis that columns of the epochs table share.

    Attributes:
        columns: The columns, the first is the main one.
        label: Its label, with the unit where it is known.
        scale: Factor of the values: 100 for shares drawn in per cent.
    """

    columns: tuple[str, ...]
    label: str
    scale: int

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends that values and bands cannot pass."""
        return (0.0, 100.0) if self.scale == 100 else (float("-inf"), float("inf"))


def epoch_axis(table: pd.DataFrame, columns: Sequence[str]) -> EpochAxis:
    """The axis for some columns of a table.

    Raises:
        FigureError: If they have several units.
    """
    units = {name: _unit(name, table[name]) for name in columns}
    if len(set(units.values())) > 1:
        each = listed(f"{name} ({unit or 'no unit known'})" for name, unit in units.items())
        raise FigureError(f"y has columns of several units: {each}; draw those of one unit")
    unit = units[columns[0]]
    text = _title(columns[0]) if len(columns) == 1 else _common(columns)
    (short,) = shortened([text], _LONGEST)
    label = literal(f"{short} ({unit})" if unit else short)
    return EpochAxis(tuple(columns), label, 100 if unit == "%" else 1)


def short_name(column: str) -> str:
    """A column in the legend of an axis that says the rest: `test` for `test_acc`."""
    kind = _KIND.fullmatch(column)
    return kind[1] if kind else column


def _title(column: str) -> str:
    kind = _KIND.fullmatch(column)
    if column in _TITLES or not kind:
        return _TITLES.get(column, column)
    return f"{kind[1]} {_ENDINGS[kind[2].lower()]}"


def _common(columns: Sequence[str]) -> str:
    kinds = [_KIND.fullmatch(column) for column in columns]
    words = {_ENDINGS[kind[2].lower()] if kind else "" for kind in kinds}
    return words.pop() if len(words) == 1 and "" not in words else ", ".join(map(_title, columns))


def _unit(column: str, values: pd.Series) -> str:
    """`%` for accuracies and kept shares, the unit of a known column, else nothing."""
    shares = column in EPOCHS or values.dropna().between(0, 1).all()
    if column == "kept_fraction" or (is_accuracy(column) and shares):
        return "%"
    unit = EPOCHS[column].unit if column in EPOCHS else ""
    return unit if unit not in ("1", "fraction", "epochs") else ""
