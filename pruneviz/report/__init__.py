"""An interactive page of recordings: one HTML file, or served while a run is recorded.

`pruneviz.report` is this package and a function at once: a package and a function of the same name
would hide each other, whichever is imported last.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _Report(ModuleType):
    """A package that is called as `pruneviz.report(runs, path)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from pruneviz.report.page import report

        return report(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        from pruneviz.report.page import report

        return inspect.signature(report)


sys.modules[__name__].__class__ = _Report
