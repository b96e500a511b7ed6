"""What runs differ in: groups of runs that only their seed tells apart, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.arguments import as_tuple, is_number
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.plot.rows import different, present
from pruneviz.plot.words import dataset_title, measure_title, network_title

SEED = "seed"
GROUP = "group"  # a setting in words
# Facts that do not make two runs two settings: what a run is called, where and when it was made,
# what was stored of it, and what came out.
_NOT_SETTINGS = frozenset(
    {"run", SEED, "num_classes", "weight_rows", "weight_rows_seed", "weights", "columns", "every"}
    | {"mask_score", "mask_ratio", "device", "device_name", "threads", "command", "created"}
    | {"versions", "schema_version", "sealed", "thinned", "rows", "kept", "coverage", "left_out"}
    | {"wall_seconds", "selected_epoch", "not_removed", "remeasured_from", "preset", "path"}
    | {"parameters_before", "parameters_after", "macs_before", "macs_after", "filters_removed"}
    | {"filters_masked", "forward_seconds_before", "forward_seconds_after", "forward_examples"}
)
# Facts of how the rows of a training were measured.
_MEASURING = frozenset(
    {"unit", "bn", "temperatures", "lag", "sample_size", "sample_seed", "sample_batches", "dtype"}
)
_COLLECTIONS = (Mapping, list, tuple, set, frozenset, np.ndarray)
_LEADING = ("network", "dataset", "measure", "rounds", "target", "bn")


def settings_of(spec: pd.DataFrame) -> list[str]:
    """Facts that tell runs apart, besides their seed, in the order in which a label names them.

    A fact that follows from those before it, such as the width of a network, is left out, and so is
    a further seed that goes with the seed. Facts that a person added count, except numbers that
    every run has one of its own of, such as a best accuracy, where seeds tell the runs apart.
    """
    names = [name for name in (*_LEADING, *SPEC_FACTS, *map(str, spec.columns)) if name in spec]
    kept = [name for name in dict.fromkeys(names) if name not in _NOT_SETTINGS]
    told: list[str] = []
    for name in (name for name in kept if _differs(spec[name]) and not _is_seed(spec, name)):
        if _count(spec, [*told, name]) > _count(spec, told):
            told.append(name)
    results = [name for name in told if _is_own_number(spec, name)]
    settings = [name for name in told if name not in results]
    return settings if results and _are_apart(spec, settings) else told


def telling_facts(spec: pd.DataFrame) -> list[str]:
    """`settings_of` the runs, and their name where two have the same setting and seed.

    Runs of one setting without a seed count as repeats.
    """
    facts = settings_of(spec)
    return facts if _are_apart(spec, facts) else [*facts, "run"]


def training_facts(spec: pd.DataFrame) -> list[str]:
    """Facts of the training of a run: its settings and seed, not how it was measured."""
    return [str(name) for name in spec if name not in _NOT_SETTINGS - {SEED} | _MEASURING]


def with_groups(
    spec: pd.DataFrame, by: str | Sequence[str] | None = None, then: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Tell runs apart that differ in more than their seed.

    Args:
        spec: One row per run (`runs.spec`).
        by: Facts that tell runs apart. Default: all in which they differ, see `telling_facts`.
        then: Facts that runs of one group are sorted by, before their seeds.

    Returns:
        The spec with a column `group`, the label of the facts in words ("" if the runs do not
        differ), sorted by these facts, of which those that are collections are in words; and the
        names of the facts.

    Raises:
        FigureError: If a fact is unknown.
    """
    facts = telling_facts(spec) if by is None else list(as_tuple(by))
    for name in [*facts, *then]:
        if not isinstance(name, str) or name not in spec:
            raise FigureError(unknown_name("fact of these runs", str(name), list(map(str, spec))))
    spec = spec.assign(**{name: _in_words(spec[name]) for name in [*facts, *then]})
    labels = _labels(spec, facts)
    order = _places(spec, [*facts, *then])
    return spec.assign(group=labels).iloc[order].reset_index(drop=True), facts


def label(facts: dict[str, Any]) -> str:
    """Facts of a run as a legend entry: `VGG-13, bn batch, 5 rounds`."""
    return ", ".join(text for name, value in facts.items() if (text := _worded(name, value)))


def _labels(spec: pd.DataFrame, facts: Sequence[str]) -> list[str]:
    """A label for each run; different facts have different labels, whatever words round off."""
    found: dict[object, str] = {}
    labels = []
    for _, row in spec.iterrows():
        key = tuple(present(row[name]) for name in facts)
        text = label({name: row[name] for name in facts})
        taken = [known for other, known in found.items() if other != key]
        alike = sum(known == text or known.startswith(f"{text} (") for known in taken)
        labels.append(found.setdefault(key, f"{text} ({alike + 1})" if alike else text))
    return labels


def _worded(name: str, value: Any) -> str:
    if present(value) is None:
        return {"measure": "unpruned", "rounds": ""}.get(name, f"no {name}")
    titles = {"network": network_title, "dataset": dataset_title, "measure": measure_title}
    if name == GROUP:
        return str(value)
    if name in titles:
        return titles[name](str(value))
    if name == "rounds" and not value:
        return ""
    if name == "rounds":
        return f"{int(value)} round{'' if int(value) == 1 else 's'}"
    if isinstance(value, (bool, np.bool_)):
        return name if value else f"no {name}"
    if isinstance(value, _COLLECTIONS):
        return f"{name} {_items(value)}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _differs(values: pd.Series) -> bool:
    """Whether a fact has two values; an absent one, as of an unpruned run, counts as one."""
    if any(isinstance(value, (dict, set)) for value in values):
        return False
    return len(set(map(present, values))) > 1


def _count(spec: pd.DataFrame, facts: Sequence[str]) -> int:
    """Number of groups that facts tell apart."""
    return len(set(zip(*(map(present, spec[name]) for name in facts), strict=True))) if facts else 1


def _are_apart(spec: pd.DataFrame, facts: Sequence[str]) -> bool:
    """Whether facts and seeds tell all runs apart that have a seed."""
    if SEED not in spec:
        return True
    seeded = spec[spec[SEED].notna()]
    return _count(seeded, [*facts, SEED]) == len(seeded)


def _is_own_number(spec: pd.DataFrame, name: str) -> bool:
    """Whether a fact that a person added is a number that every run has one of its own of."""
    known = name in SPEC_FACTS or name in OPTION_NAMES
    values = list(map(present, spec[name]))
    numbers = [value for value in values if is_number(value)]
    return not known and len(set(numbers)) == len(values)


def _in_words(values: pd.Series) -> pd.Series:
    """A fact whose values are collections as text, so that rows can be grouped by it."""
    if not any(isinstance(value, _COLLECTIONS) for value in values):
        return values
    words = [_items(v) if isinstance(v, _COLLECTIONS) else v for v in values]
    return pd.Series(words, values.index, dtype=object)


def _items(values: Any) -> str:
    if isinstance(values, Mapping):
        return "/".join(f"{name} {value}" for name, value in sorted(values.items()))
    return "/".join(map(_exact, values))


def _exact(value: object) -> str:
    """A number in the fewest digits that tell it apart, or text."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else str(value)


def _is_seed(spec: pd.DataFrame, name: str) -> bool:
    """Whether a fact is a seed that every value of the seed has one of its own of."""
    if "seed" not in name or SEED not in spec:
        return False
    both, seeds = _count(spec, [SEED, name]), _count(spec, [SEED])
    return both == seeds == _count(spec, [name])


def _places(spec: pd.DataFrame, facts: Sequence[str]) -> list[int]:
    """Row positions, sorted by facts: numbers by size, text by first appearance, then seed."""

    def place(values: pd.Series, value: Any) -> tuple[int, float]:
        if present(value) is None:
            return (0, 0.0)
        if isinstance(value, (int, float, np.number)):
            return (1, float(value))
        return (2, float(different(values).index(present(value))))

    rows = list(spec.iterrows())
    keys = [
        (
            *(place(spec[name], row[name]) for name in [*facts, SEED] if name in spec),
            str(row["run"]),
        )
        for _, row in rows
    ]
    return sorted(range(len(rows)), key=lambda at: keys[at])
