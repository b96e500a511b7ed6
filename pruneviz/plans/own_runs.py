"""Runs of training functions of one's own that a table of a sweep file asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pruneviz.console.shown_text import LONGEST_NAME
from pruneviz.errors import PresetError, unknown_name
from pruneviz.plans.grids import combinations

_KEYS = ("function", "name", "arguments")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_ARGUMENT = re.compile(r"\{(\w+)\}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")


@dataclass(frozen=True)
class OwnRun:
    """A run that a training function of a person records.

    Attributes:
        run: Run name, also the name of its directory.
        function: The function, as "module:function".
        arguments: Its arguments by name, besides the run directory.
    """

    run: str
    function: str
    arguments: Mapping[str, Any]


def own_runs(table: Mapping[str, Any]) -> Iterator[OwnRun]:
    """The runs that a table [[train]] asks for: one for each combination of arguments.

    Args:
        table: The keys `function`, `arguments` and `name`, the latter two optional.

    Raises:
        PresetError: If a key is unknown or has no such value, or a run gets no usable name.
    """
    for key in table:
        if key not in _KEYS:
            raise PresetError(
                unknown_name("key", key, _KEYS, "arguments of the function go into arguments")
            )
    function, arguments = table.get("function", ""), table.get("arguments", {})
    if not isinstance(function, str) or not _FUNCTION.fullmatch(function):
        raise PresetError(
            f"function is {function!r}, expected module:function, such as function = "
            '"my_training:train"'
        )
    if not isinstance(arguments, dict):
        raise PresetError(
            f"arguments is {arguments!r}, expected a table, such as "
            "arguments = { lr = [0.1, 0.01], seed = [0, 1] }"
        )
    empty = [key for key, value in arguments.items() if value == []]
    if empty:
        raise PresetError(
            f"{empty[0]} is an empty list; name a value, or [[]] for an empty list as the one value"
        )
    for chosen in combinations(arguments):
        yield OwnRun(_named(table.get("name"), function, chosen), function, chosen)


def _named(name: object, function: str, arguments: Mapping[str, Any]) -> str:
    """Name of a run, from a pattern or else from all arguments."""
    if name is not None and not isinstance(name, str):
        raise PresetError(f'name is {name!r}, expected a text, such as name = "mlp-s{{seed}}"')
    run = _default(function, arguments) if name is None else _filled(name, arguments)
    if not _RUN.fullmatch(run) or len(run) > LONGEST_NAME:
        raise PresetError(
            f"a run would be called {run!r}, expected up to {LONGEST_NAME} letters, digits and "
            'any of ._=+-, as it names a folder; give name, such as name = "mlp-s{seed}"'
        )
    return run


def _filled(name: str, arguments: Mapping[str, Any]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in arguments:
            raise PresetError(
                f"name holds {found[0]}; " + unknown_name("argument", found[1], tuple(arguments))
            )
        return _slug(arguments[found[1]])

    return _ARGUMENT.sub(value, name)


def _default(function: str, arguments: Mapping[str, Any]) -> str:
    """Such as my_training-train-lr0.1-s0; seeds come last, as in other run names."""
    parts = [f"{key}{_slug(value)}" for key, value in arguments.items() if key != "seed"]
    seeds = [f"s{_slug(arguments['seed'])}"] if "seed" in arguments else []
    return "-".join([function.replace(":", "-"), *parts, *seeds])


def _slug(value: object) -> str:
    """A value as a part of a run name."""
    if isinstance(value, list):
        return "_".join(map(_slug, value))
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"[^A-Za-z0-9._+-]", "_", str(value))
