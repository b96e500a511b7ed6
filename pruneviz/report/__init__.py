"""An interactive page of recordings: one HTML file, or served while a run is recorded.

`pruneviz.report` is this package and a function at once: a package and a function of the same name
would hide each other, whichever is imported last.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Report(ModuleType):
    """A package that is called as `pruneviz.report(runs, path)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from pruneviz.report.page import report

        return report(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # `help` and signatures are those of the function; it is imported only when asked for.
        if name in ("__signature__", "__wrapped__"):
            from pruneviz.report.page import report

            return report if name == "__wrapped__" else __import__("inspect").signature(report)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _Report
