"""How runs that differ are told apart in a picture: by panels, and within them by their look.

A table that is drawn begins with the facts of its runs; a column that ends them is named `until`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from pruneviz.analysis.settings import present
from pruneviz.plot import style
from pruneviz.plot.groups import PLACE, label, scales_apart

Key: TypeAlias = tuple[Hashable, ...]


@dataclass(frozen=True, repr=False)
class Panel:
    """One panel of a picture.

    Attributes:
        title: The facts that panels are told by and named by, as far as its runs share them.
        rows: Its rows of the drawn table.
    """

    title: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class Look:
    """One setting of runs in a picture.

    Attributes:
        label: Its name in the legend; "" if there is only one.
        style: Its colour, marker, hatch and dashes.
        is_reference: Whether these are unpruned runs beside pruned ones.
    """

    label: str
    style: style.Style
    is_reference: bool


_GREY = style.Style(style.REFERENCE_COLOUR, "", "", "-")


def facts_in(table: pd.DataFrame, until: str) -> list[str]:
    """Facts of the runs in a drawn table: its columns before `until`."""
    return [str(name) for name in table.columns[: list(table.columns).index(until)]]


def varying(table: pd.DataFrame, facts: Sequence[str]) -> list[str]:
    """Facts that have two values or more; absent ones count as one."""
    return [name for name in facts if name in table and len(set(keys_of(table, [name]))) > 1]


def telling(table: pd.DataFrame, facts: Sequence[str], beside: Sequence[str] = ()) -> list[str]:
    """Facts that are needed to tell all settings apart.

    Args:
        table: A drawn table.
        facts: Facts to choose from; one that follows from those before it is left out.
        beside: Facts that tell settings apart already, such as those of the panels.
    """
    found: list[str] = []
    for name in varying(table, [name for name in facts if name not in beside]):
        known = [*beside, *found]
        if len(set(keys_of(table, [*known, name]))) > len(set(keys_of(table, known))):
            found.append(name)
    return found


def keys_of(table: pd.DataFrame, facts: Sequence[str]) -> list[Key]:
    """The facts of each row, None where they are absent."""
    if not facts:
        return [()] * len(table)
    columns = ([present(value) for value in table[name]] for name in facts)
    return list(zip(*columns, strict=True))


def references(table: pd.DataFrame) -> pd.Series:
    """Whether each row is of unpruned runs beside pruned ones of their network and data set."""
    if "measure" not in table:
        return pd.Series(False, index=table.index)
    unpruned = table["measure"].isna()
    places = keys_of(table, [name for name in PLACE if name in table])
    pruned = {place for place, bare in zip(places, unpruned, strict=True) if not bare}
    return unpruned & pd.Series([place in pruned for place in places], index=table.index)


def legend_facts(table: pd.DataFrame, until: str, panels: Sequence[str]) -> list[str]:
    """Facts that the legend names: those that tell settings apart, and what pruned in any case.

    Where unpruned runs beside pruned ones are of another scale, that is named, too.

    Args:
        table: A drawn table.
        until: Column that ends the facts of the runs in it.
        panels: Facts that the panels tell apart.
    """
    facts = facts_in(table, until)
    found = telling(table, facts, panels)
    known = "measure" in facts and "measure" not in panels and bool(table["measure"].notna().any())
    first = ["measure"] if known and "measure" not in found else []
    scale = [
        name for name in scales_apart(table) if name in facts and name not in (*panels, *found)
    ]
    return [*first, *found, *(scale if references(table).any() else [])]


def panels_of(
    table: pd.DataFrame, facts: Sequence[str], named: Sequence[str]
) -> tuple[list[Panel], list[str]]:
    """Divide a drawn table into panels.

    Args:
        table: The table.
        facts: Facts that have a panel for each of their values.
        named: Facts that name a single panel, as far as its rows share them; the first of them
            names one of several panels, too.

    Returns:
        The panels, in the order of the table, with the unpruned runs of their network and data set;
        and the facts in which they differ.
    """
    beside = references(table)
    main, unpruned = table[~beside], table[beside]
    told = telling(main, [name for name in facts if name in main])
    order = [*(name for name in named if name not in facts), *facts]
    keys = keys_of(main, told)
    found = []
    for key in dict.fromkeys(keys):
        rows = main[[other == key for other in keys]]
        values = {
            **_shared(rows, named[:1] if told else named),
            **dict(zip(told, key, strict=True)),
        }
        title = label({name: values[name] for name in order if name in values})
        found.append(Panel(title, pd.concat([rows, _of_place(unpruned, rows)])))
    return found, told


def looks_of(table: pd.DataFrame, facts: Sequence[str]) -> Mapping[Key, Look]:
    """The looks of the settings that some facts tell apart, unpruned runs last.

    A setting that only its measure tells apart looks as the measure does in every picture. A
    single setting of unpruned runs beside pruned ones is grey.
    """
    beside = table["measure"].isna() if references(table).any() else references(table)
    keys = keys_of(table, facts)
    is_reference = dict(zip(keys, beside, strict=True))
    scale = scales_apart(table) if beside.any() else []
    always = {False: ["measure"], True: ["measure", *scale]}
    named = {
        flag: [name for name in facts if name in always[flag] or varying(rows, [name])]
        for flag, rows in ((False, table[~beside]), (True, table[beside]))
    }
    shown = {
        key: {name: value for name, value in zip(facts, key, strict=True) if name in named[flag]}
        for key, flag in is_reference.items()
    }
    names = {key: _name(table, told) for key, told in shown.items()}
    grey = [key for key, flag in is_reference.items() if flag]
    styles = style.styles_of(
        name for key, name in names.items() if len(grey) > 1 or key not in grey
    )
    styles_of_keys = {key: styles.get(names[key], _GREY) for key in shown}
    styles_of_keys |= _in_colours_of_measures(shown)
    found = {
        key: Look(label(told), styles_of_keys[key], is_reference[key])
        for key, told in shown.items()
    }
    return dict(sorted(found.items(), key=lambda item: item[1].is_reference))


def _in_colours_of_measures(shown: Mapping[Key, Mapping[str, Any]]) -> dict[Key, style.Style]:
    """Looks of settings of the paper's measures that more than their measure tells apart."""
    by_measure: dict[str, list[Key]] = {}
    for key, told in shown.items():
        if told.get("measure") in style.MEASURE_COLOURS and len(told) > 1:
            by_measure.setdefault(str(told["measure"]), []).append(key)
    return {
        key: look
        for measure, keys in by_measure.items()
        for key, look in zip(keys, style.variants_of(measure, len(keys)), strict=True)
    }


def _name(table: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """What a setting has its look by: its measure, if only that tells it apart, or its label."""
    if list(facts) == ["measure"]:
        return str(facts["measure"])
    return label(dict(facts)) or str(next(iter(_first(table, ("measure", "network")).values()), ""))


def _of_place(unpruned: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Unpruned runs of the networks and data sets of a panel."""
    facts = [name for name in PLACE if name in rows]
    here = set(keys_of(rows, facts))
    return unpruned[[key in here for key in keys_of(unpruned, facts)]]


def _shared(rows: pd.DataFrame, facts: Sequence[str]) -> dict[str, Any]:
    """The facts that all rows share, without absent ones."""
    return {name: value for fact in facts for name, value in _first(rows, (fact,)).items()}


def _first(rows: pd.DataFrame, facts: Sequence[str]) -> dict[str, Any]:
    for name in (name for name in facts if name in rows):
        values = set(keys_of(rows, [name]))
        if len(values) == 1 and values != {(None,)}:
            return {name: values.pop()[0]}
    return {}
