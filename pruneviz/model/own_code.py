"""Which Python code is the person's own, and what a function refers to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

_LIBRARIES = {
    "torch", "torchvision", "torchaudio", "numpy", "timm", "transformers", "lightning",
    "pytorch_lightning", "accelerate", "peft", "pruneviz",
}  # fmt: skip


@cache
def is_own(module: str) -> bool:
    """Whether a Python module is the person's: not of Python itself, and not installed.

    Args:
        module: Its name.
    """
    top = module.partition(".")[0]
    if top in _LIBRARIES or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


def names_in(code: CodeType) -> set[str]:
    """Global names and attributes in the code of a function, and of functions inside it.

    Args:
        code: Of a Python function.
    """
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= names_in(constant)
    return found


def methods_of(kind: type) -> dict[str, FunctionType]:
    """The functions that a class itself defines, by name; properties by their getter.

    Args:
        kind: Any class.
    """
    return {name: f for name, value in vars(kind).items() for f in _functions_in(value)}


def called_methods(kind: type, first: str = "forward") -> list[FunctionType]:
    """The methods of a class, and of its bases, to which a method leads by name.

    Args:
        kind: Any class.
        first: Name of the method.
    """
    known: dict[str, list[FunctionType]] = {}
    for base in kind.__mro__:
        if is_own(base.__module__):
            for name, function in methods_of(base).items():
                known.setdefault(name, []).append(function)
    found: dict[FunctionType, None] = {}
    todo = [first, "__call__"]
    while todo:
        for function in known.pop(todo.pop(), ()):
            found[function] = None
            todo += names_in(function.__code__) & known.keys()
    return list(found)


def _functions_in(value: Any) -> Iterator[FunctionType]:
    """The function of a method, static or class method, or property."""
    for found in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
        if isinstance(found, FunctionType):
            yield found
            return
