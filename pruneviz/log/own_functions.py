"""Functions of a person, by the text "module:function"."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pruneviz.errors import PrunevizError


def imported(text: str, what: str, kind: type[PrunevizError]) -> Callable[..., Any]:
    """The function that a text names; modules are also looked for in the working directory.

    Args:
        text: "module:function".
        what: What the function is, for errors.
        kind: Error class to raise.

    Raises:
        PrunevizError: Of that class, if there is no such function, or the import fails.
    """
    module, _, name = text.partition(":")
    with _working_directory_importable():
        try:
            home = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise kind(
                f"{what} {text!r}: module {module!r} cannot be imported: {error!r}; give "
                f"module:function of a module that is installed or in {Path.cwd()}"
            ) from error
    function = getattr(home, name, None)
    if not callable(function):
        has = ", ".join(n for n, v in vars(home).items() if callable(v) and not n.startswith("_"))
        raise kind(f"{what} {text!r}: {module} has no function {name!r}; it has [{has}]")
    found: Callable[..., Any] = function
    return found


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
