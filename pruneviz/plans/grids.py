"""Grids of sweep files: keys, the kinds of their values, and all combinations of these."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pruneviz.errors import PresetError
from pruneviz.log.arguments import is_number, is_whole


@dataclass(frozen=True)
class _Kind:
    """What a value is.

    Attributes:
        fits: Whether a value is one.
        words: One such value, in words.
        example: One as it stands in a file.
    """

    fits: Callable[[object], bool]
    words: str
    example: str


_MOST = 100_000  # runs of a table
_TEXT = _Kind(lambda value: isinstance(value, str) and value != "", "a text", '"magnitude"')
_WHOLE = _Kind(lambda value: is_whole(value) and int(str(value)) >= 0, "a whole number from 0", "3")
_NUMBER = _Kind(is_number, "a number", "0.5")
_TRUTH = _Kind(lambda value: isinstance(value, bool), "true or false", "true")
_FIGURE = _Kind(lambda value: is_whole(value) or isinstance(value, str), "a figure", '3 or "H1a"')

# Keys of [[record]] of which every combination is recorded, if they have several values.
GRID: Mapping[str, _Kind] = {
    "preset": _TEXT,
    "network": _TEXT,
    "dataset": _TEXT,
    "measure": _TEXT,
    "rounds": _WHOLE,
    "target": _NUMBER,
    "seed": _WHOLE,
    "schedule": _TEXT,
    "prune_at_start": _TRUTH,
    "carry_momentum": _TRUTH,
    "keep_at_least": _NUMBER,
    "prune_phase_only": _TRUTH,
    "flowandprune": _TRUTH,
    "sample_seed": _WHOLE,
}
_LISTS = {"figures": _FIGURE, "columns": _TEXT, "request_at": _WHOLE, "sinks": _TEXT}
_SINGLE = {
    "baseline": _TRUTH,
    "samples": _WHOLE,
    "precision": _TEXT,
    "keep_weights": _TRUTH,
    "oracle": _WHOLE,
    "errors": _TEXT,
    "flow": _TRUTH,
}
# Those that all runs of a table share.
ONCE: Mapping[str, _Kind] = {**_LISTS, **_SINGLE}
KEYS: Mapping[str, _Kind] = {**GRID, **ONCE}


def check_value(key: str, value: object) -> None:
    """Check that a key of [[record]] has a value, or several, of its kind.

    Args:
        key: The key; must be known.
        value: Its value.

    Raises:
        PresetError: If not; says which value is expected.
    """
    kind = KEYS[key]
    several = isinstance(value, list) and key not in _SINGLE
    values = value if several and isinstance(value, list) else [value]
    if not values:
        raise PresetError(f"{key} is an empty list; name a value, or leave {key} out")
    wrong = [one for one in values if not kind.fits(one)]
    if wrong:
        more = "" if key in _SINGLE else ", or a list of these"
        raise PresetError(
            f"{key} is {wrong[0]!r}, expected {kind.words}{more}, such as {key} = {kind.example}"
        )


def combinations(
    table: Mapping[str, Any], together: frozenset[str] = frozenset()
) -> Iterator[dict[str, Any]]:
    """All combinations of the values of a table, the last key changing fastest.

    Args:
        table: Values or lists of values.
        together: Keys whose lists are one value.
    """
    lists = [
        [(key, one) for one in (value if isinstance(value, list) else [value])]
        if key not in together
        else [(key, value)]
        for key, value in table.items()
    ]
    number = math.prod(map(len, lists))
    if number > _MOST:
        raise PresetError(
            f"these lists make {number:,} combinations, and a sweep has at most {_MOST:,} runs; "
            "shorten them, or write several files"
        )
    for chosen in itertools.product(*lists):
        yield dict(chosen)
