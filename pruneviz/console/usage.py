"""Wording of usage errors: unknown options, missing values, wrong numbers and names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pruneviz.errors import unknown_name

_NOT_ONE_OF = re.compile(r"'(.*?)' is not one of (.*?)\.?$")
_NO_NUMBER = re.compile(r"'(.*?)' is not a valid (integer|float)")
# What a value should have been, by the kind of error that the command library reports.
_EXPECTED: Mapping[str, str] = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "integer": "a whole number",
    "float_parsing": "a number",
    "float": "a number",
}


def usage_message(error: Any) -> str:
    """Message for a usage error: what came, what was expected, and the closest known name."""
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        known = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts]
        return f"there is no option {error.option_name}{suggestion(error.option_name, known)}"
    named = _of_parameter(error) or error.format_message()
    if named.startswith("--"):
        return named
    return f"{named[:1].lower()}{named[1:].rstrip('.')}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name; empty if no known one is similar."""
    bare = {candidate.lstrip("-"): candidate for candidate in known}  # dashes are no likeness
    near = difflib.get_close_matches(name.lstrip("-"), bare, n=1)
    return f"; did you mean {bare[near[0]]}?" if near else ""


def swallowed_option(args: Sequence[str], takes_value: Iterable[str]) -> tuple[str, str] | None:
    """The first option without its value that another option follows, and that other option.

    Without this check, `--out --list` would write into a folder called --list.
    """
    expecting = set(takes_value)
    for option, value in pairwise(args):
        if option == "--":
            return None
        if option in expecting and re.match(r"--?[a-z]", value):
            return option, value
    return None


def _of_parameter(error: Any) -> str | None:
    """Message for a value that an option or argument does not take."""
    param = getattr(error, "param", None)
    if param is None:
        return None
    # Typer's arguments have no readable name of their own, as those of Click have.
    named = param.opts[0] if param.param_type_name == "option" else param.metavar or param.name
    option = str(named)
    if error.message.startswith("there is no"):
        return str(error.message)
    choice = _NOT_ONE_OF.search(error.message)
    if choice:
        known = [name.strip().strip("'") for name in choice[2].split(",")]
        return unknown_name(option.lstrip("-").replace("-", " "), choice[1], known)
    kind, given, limits = _details(error)
    if kind == "greater_than_equal":
        return f"{option} is {given}, expected {limits['ge']} or more"
    if kind not in _EXPECTED:
        return None
    return f"{option} is {given!r}, expected {_EXPECTED[kind]}"


def _details(error: Any) -> tuple[str, str, Mapping[str, Any]]:
    """Kind of a wrong value, the value, and the limits that it breaks."""
    cause = error.__cause__
    if hasattr(cause, "errors"):
        first = cause.errors()[0]
        return first["type"], str(first["input"]), first.get("ctx", {})
    number = _NO_NUMBER.search(error.message)
    return (number[2], number[1], {}) if number else ("", "", {})
