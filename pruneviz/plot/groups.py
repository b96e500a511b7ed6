"""What runs differ in: groups of runs that only their seed tells apart, and their labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.analysis.settings import SEED, can_be_setting, different, present, telling_facts
from pruneviz.errors import FigureError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.run_spec import SPEC_FACTS
from pruneviz.plot.words import dataset_title, measure_title, named, network_title

GROUP = "group"  # a setting in words
PLACE = ("network", "dataset")  # what an unpruned run shares with the pruned ones beside it
# Facts of the scale of a training. Where runs of one network and data set differ in them, they are
# named even if they follow from other facts, as where only unpruned runs saw all images.
SCALE = ("width", "image_size", "train_images")
_FACT = " (fact)"  # ends the name of a fact whose own name a column of the table has
# Ends of the names of columns that stand beside a value, such as its interval.
_BESIDE = re.compile(r"_(sd|low|high|drawn|clear|n_eff|run\d+)$")
_COLLECTIONS = (Mapping, list, tuple, set, frozenset, np.ndarray)


def facts_apart(
    spec: pd.DataFrame, taken: Collection[str], by: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Runs whose facts are not called like a column of the table that is made of them.

    A fact of one's own called `ratio` becomes `ratio (fact)`. A fact that every recording has keeps
    its name, and stands under the other one, too, if it is to tell runs apart. Facts that make no
    setting, such as the recorder's `kept`, are left out unless they are to tell runs apart.

    Args:
        spec: One row per run (`runs.spec`).
        taken: Columns of the table; those beside them, such as their intervals, are taken, too.
        by: Facts that tell runs apart.
    """
    asked = () if by is None else as_tuple(by)
    alike = [name for name in spec if {name, _BESIDE.sub("", str(name))} & {*taken}]
    known = [name for name in alike if name in SPEC_FACTS and name in asked]
    own = [name for name in alike if name not in SPEC_FACTS]
    copies = {f"{name}{_FACT}": spec[name] for name in known}
    idle = [name for name in own if name not in asked and not can_be_setting(str(name))]
    renamed = {name: f"{name}{_FACT}" for name in own if name not in idle}
    return spec.drop(columns=idle).rename(columns=renamed).assign(**copies)


def name_in(table: pd.DataFrame, fact: str) -> str:
    """The name that a fact has after `facts_apart`, in the spec or in a table made of it."""
    return f"{fact}{_FACT}" if f"{fact}{_FACT}" in table else fact


def with_groups(
    spec: pd.DataFrame, by: str | Sequence[str] | None = None, then: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Tell runs apart that differ in more than their seed.

    Args:
        spec: One row per run (`runs.spec`).
        by: Facts that tell runs apart. Default: all in which they differ, see `default_facts`.
        then: Facts that runs of one group are sorted by, before their seeds.

    Returns:
        The spec with a column `group`, the label of the facts in words ("" if the runs do not
        differ), sorted by these facts, of which those that are collections are in words; and the
        names of the facts.

    Raises:
        FigureError: If a fact is unknown.
    """
    spec = facts_apart(spec, (GROUP,))
    facts = default_facts(spec) if by is None else [name_in(spec, name) for name in as_tuple(by)]
    then = [name_in(spec, name) for name in then]
    for name in [*facts, *then]:
        if not isinstance(name, str) or name not in spec:
            raise FigureError(unknown_name("fact of these runs", str(name), list(map(str, spec))))
    spec = spec.assign(**{name: _in_words(spec[name]) for name in [*facts, *then]})
    labels = _labels(spec, facts)
    order = _places(spec, [*facts, *then])
    return spec.assign(group=labels).iloc[order].reset_index(drop=True), facts


def default_facts(spec: pd.DataFrame) -> list[str]:
    """`telling_facts` of runs, and facts of their scale in which runs of one network differ."""
    facts = telling_facts(spec)
    return [*facts, *(name for name in scales_apart(spec) if name not in facts)]


def scales_apart(table: pd.DataFrame) -> list[str]:
    """Facts of the scale of trainings in which runs of one network and data set differ.

    Args:
        table: A table with the facts of runs, such as `runs.spec`.
    """
    place = [name for name in PLACE if name in table and len(different(table[name])) > 1]
    parts = (
        [rows for _, rows in table.groupby(place, observed=True, dropna=False)]
        if place
        else [table]
    )
    return [
        name
        for name in SCALE
        if name in table and any(len(different(rows[name])) > 1 for rows in parts)
    ]


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
    if name == GROUP:
        return str(value)
    name = named(name.removesuffix(_FACT))
    if present(value) is None:
        return {"measure": "unpruned", "rounds": ""}.get(name, f"no {name}")
    titles = {"network": network_title, "dataset": dataset_title, "measure": measure_title}
    if name in titles:
        return titles[name](str(value))
    if name == "rounds" and not value:
        return ""
    if name == "rounds":
        return f"{int(value)} round{'' if int(value) == 1 else 's'}"
    if name == "train_images":
        return f"{int(value):,} training images"
    if isinstance(value, (bool, np.bool_)):
        return name if value else f"no {name}"
    if isinstance(value, _COLLECTIONS):
        return f"{name} {named(_items(value))}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {named(value)}"


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
