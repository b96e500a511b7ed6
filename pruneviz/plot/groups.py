"""What runs differ in: groups of runs that only their seed tells apart, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.plot.rows import different
from pruneviz.plot.words import dataset_title, listed, measure_title, network_title

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
_LEADING = ("network", "dataset", "measure", "rounds", "target", "bn")


def settings_of(spec: pd.DataFrame) -> list[str]:
    """Facts that tell runs apart, besides their seed, in the order in which a label names them.

    A fact that follows from those before it, such as the width of a network, is left out, and so is
    a further seed that goes with the seed. Facts that a person added count.
    """
    names = [name for name in (*_LEADING, *SPEC_FACTS, *map(str, spec.columns)) if name in spec]
    kept = [name for name in dict.fromkeys(names) if name not in _NOT_SETTINGS]
    told: list[str] = []
    for name in (name for name in kept if _differs(spec[name]) and not _is_seed(spec, name)):
        if _count(spec, [*told, name]) > _count(spec, told):
            told.append(name)
    return told


def with_groups(
    spec: pd.DataFrame, by: str | Sequence[str] | None = None, then: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Tell runs apart that differ in more than their seed.

    Args:
        spec: One row per run (`runs.spec`).
        by: Facts that tell runs apart. Default: all in which they differ, see `settings_of`.
        then: Facts that runs of one group are sorted by, before their seeds.

    Returns:
        The spec with a column `group`, the label of the facts in words ("" if the runs do not
        differ), sorted by these facts; and the names of the facts.

    Raises:
        FigureError: If a fact is unknown.
    """
    facts = settings_of(spec) if by is None else [by] if isinstance(by, str) else list(by)
    for name in [*facts, *then]:
        if name not in spec:
            raise FigureError(unknown_name("fact of these runs", name, list(map(str, spec))))
    labels = _labels(spec, facts)
    order = _places(spec, [*facts, *then])
    return spec.assign(group=labels).iloc[order].reset_index(drop=True), facts


def check_seeds(spec: pd.DataFrame) -> None:
    """Check that runs of one setting, which are averaged, differ in their seed.

    Raises:
        FigureError: If two have the same seed; names them.
    """
    if SEED not in spec:
        return
    twice = spec[spec[SEED].notna() & spec.duplicated(SEED, keep=False)]
    if len(twice):
        raise FigureError(
            f"runs {listed(twice['run'])} have the same setting and seed, so that their mean would "
            "count one of them twice; choose among them with runs"
        )


def label(facts: dict[str, Any]) -> str:
    """Facts of a run as a legend entry: `VGG-13, bn batch, 5 rounds`."""
    return ", ".join(text for name, value in facts.items() if (text := _worded(name, value)))


def _labels(spec: pd.DataFrame, facts: Sequence[str]) -> list[str]:
    """A label for each run; different facts have different labels, whatever words round off."""
    found: dict[object, str] = {}
    labels = []
    for _, row in spec.iterrows():
        key = tuple(_key(row[name]) for name in facts)
        text = label({name: row[name] for name in facts})
        taken = [known for other, known in found.items() if other != key]
        alike = sum(known == text or known.startswith(f"{text} (") for known in taken)
        labels.append(found.setdefault(key, f"{text} ({alike + 1})" if alike else text))
    return labels


def _worded(name: str, value: Any) -> str:
    if not isinstance(value, (tuple, list)) and pd.isna(value):
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
    if isinstance(value, (tuple, list)):
        items = (f"{item:g}" if isinstance(item, float) else str(item) for item in value)
        return f"{name} {'/'.join(items)}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _differs(values: pd.Series) -> bool:
    """Whether a fact has two values; an absent one, as of an unpruned run, counts as one."""
    if any(isinstance(value, (dict, set)) for value in values):
        return False
    found = different(values)
    absent = sum(not isinstance(v, (tuple, list)) and bool(pd.isna(v)) for v in values)
    return len(found) + bool(absent and found) > 1


def _count(spec: pd.DataFrame, facts: Sequence[str]) -> int:
    """Number of groups that facts tell apart."""
    return len(set(zip(*(map(_key, spec[name]) for name in facts), strict=True))) if facts else 1


def _key(value: Any) -> object:
    if isinstance(value, list):
        return tuple(value)
    return None if not isinstance(value, tuple) and pd.isna(value) else value


def _is_seed(spec: pd.DataFrame, name: str) -> bool:
    """Whether a fact is a seed that every value of the seed has one of its own of."""
    if "seed" not in name or SEED not in spec:
        return False
    both, seeds = _count(spec, [SEED, name]), _count(spec, [SEED])
    return both == seeds == _count(spec, [name])


def _places(spec: pd.DataFrame, facts: Sequence[str]) -> list[int]:
    """Row positions, sorted by facts: numbers by size, text by first appearance, then seed."""

    def place(values: pd.Series, value: Any) -> tuple[int, float]:
        if not isinstance(value, (tuple, list)) and pd.isna(value):
            return (0, 0.0)
        if isinstance(value, (int, float, np.number)):
            return (1, float(value))
        return (
            2,
            float(different(values).index(tuple(value) if isinstance(value, list) else value)),
        )

    rows = list(spec.iterrows())
    keys = [
        (
            *(place(spec[name], row[name]) for name in [*facts, SEED] if name in spec),
            str(row["run"]),
        )
        for _, row in rows
    ]
    return sorted(range(len(rows)), key=lambda at: keys[at])
