"""Of which kind each fact in `spec.json` is: a whole number, a number, text, a list of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pruneviz.log.arguments import is_number, is_whole

_SHOWN = 60  # characters of a wrong value in a message
_LARGEST = 1 << 64  # whole numbers are below, as the seeds of torch


class FactKind(NamedTuple):
    """What values a fact may have.

    Attributes:
        holds: Whether a value is one.
        expected: What is expected, in words.
    """

    holds: Callable[[Any], bool]
    expected: str


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_finite(value: object) -> bool:
    try:
        return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number that no float can hold
        return False


def _is_whole(value: Any) -> bool:
    return is_whole(value) and abs(int(value)) < _LARGEST


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | str) or is_number(value)


def _list_of(kind: FactKind, plural: str) -> FactKind:
    def holds(values: object) -> bool:
        return isinstance(values, list | tuple) and all(map(kind.holds, values))

    return FactKind(holds, f"a list of {plural}")


def _either(*kinds: FactKind) -> FactKind:
    return FactKind(
        lambda value: any(kind.holds(value) for kind in kinds),
        " or ".join(kind.expected for kind in kinds),
    )


WHOLE = FactKind(_is_whole, "a whole number")
COUNT = FactKind(lambda value: _is_whole(value) and value >= 0, "a whole number from 0")
_POSITIVE = FactKind(lambda value: _is_whole(value) and value >= 1, "a whole number from 1")
NUMBER = FactKind(_is_finite, "a number")
_SIZE = FactKind(lambda value: _is_finite(value) and value >= 0, "a number from 0")
TEXT = FactKind(_is_text, "text")
_TRUE_OR_FALSE = FactKind(lambda value: isinstance(value, bool), "true or false")
_PLAIN = FactKind(_is_plain, "true or false, a number or text")
_WHOLE_NUMBERS, _TEXTS = _list_of(WHOLE, "whole numbers"), _list_of(TEXT, "texts")
_PLAIN_VALUES = _list_of(_PLAIN, "numbers or texts")


def _facts_of(kinds: Mapping[str, FactKind], needed: tuple[str, ...] = ()) -> FactKind:
    """A fact that is itself a dict of facts."""

    def holds(facts: object) -> bool:
        return (
            isinstance(facts, Mapping)
            and set(needed) <= set(facts)
            and all(kinds[name].holds(value) for name, value in facts.items() if name in kinds)
        )

    described = ", ".join(f"{name}: {kind.expected}" for name, kind in kinds.items())
    return FactKind(holds, f"facts by name ({described})")


_VERSIONS = FactKind(
    lambda facts: isinstance(facts, Mapping) and all(map(_is_text, facts.values())),
    "texts by name",
)
_THINNED = _facts_of(
    {
        **dict.fromkeys(("epochs", "of_epochs", "rows_left_out"), COUNT),
        **dict.fromkeys(("kept_epochs", "measured_epochs"), _WHOLE_NUMBERS),
        "columns_left_out": _TEXTS,
    },
    needed=("epochs", "of_epochs"),
)

# Of facts that a recorder finds, and of those that it asks of a person; others may be anything.
FACT_KINDS: Mapping[str, FactKind] = {
    **dict.fromkeys(("seed", "sample_seed", "weight_rows_seed", "draw_seed"), WHOLE),
    **dict.fromkeys(
        (
            *("epochs", "weight_rows", "weights", "lag"),
            *("sample_size", "samples", "half_size", "threads"),
            *("rounds", "schema_version", "sample_batches", "sample_counted", "sample_batch_size"),
            "probes",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        ("num_classes", "image_size", "batch_size", "train_images", "ranks"), _POSITIVE
    ),
    **dict.fromkeys(("width", "lr", "momentum", "weight_decay", "wall_seconds"), _SIZE),
    "train_temperature": NUMBER,
    **dict.fromkeys(("target", "keep_at_least", "mask_ratio", "coverage"), NUMBER),
    **dict.fromkeys(("se_df", "se_df_drawn"), NUMBER),
    **dict.fromkeys(("run", "network", "dataset", "preset", "unit", "bn", "every"), TEXT),
    **dict.fromkeys(("mask_score", "dtype", "device", "device_name", "command", "created"), TEXT),
    **dict.fromkeys(("measure", "schedule", "rows", "kept", "strata"), TEXT),
    **dict.fromkeys(
        ("prune_at_start", "carry_momentum", "prune_phase_only", "flowandprune", "flow"),
        _TRUE_OR_FALSE,
    ),
    **dict.fromkeys(("columns", "left_out"), _TEXTS),
    "temperatures": _list_of(NUMBER, "numbers"),
    "lr_drops": _PLAIN_VALUES,
    "oracle": _either(COUNT, TEXT),
    "precision": _PLAIN,
    "augment": _either(_PLAIN, _PLAIN_VALUES),
    "parameters": _either(_PLAIN, _TEXTS),
    "versions": _VERSIONS,
    "thinned": _THINNED,
}


def wrong_kinds(facts: Mapping[str, Any]) -> list[str]:
    """What is wrong with the kinds of facts, each as name, value and what is expected.

    Args:
        facts: Facts by name, as in `spec.json`; None stands for a fact that is not known.
    """
    return [
        f"{name} is {shown(value)}, expected {FACT_KINDS[name].expected}"
        for name, value in facts.items()
        if name in FACT_KINDS and value is not None and not FACT_KINDS[name].holds(value)
    ]


def shown(value: object) -> str:
    """A value as messages show it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # of a whole number with more digits than Python writes
        text = "a whole number of thousands of digits"
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    large = is_whole(value) and not _is_whole(value)
    return f"{cut}, which takes more than 64 bits" if large else cut
