"""Work for worker processes: functions at module level, which can be pickled."""

from __future__ import annotations

from collections.abc import Callable

from pruneviz.errors import DataError

Report = Callable[[float, str], None]


def succeed(report: Report) -> str:
    """Report an epoch, and end well."""
    report(1, "half way")
    return "recorded"


def miss_images(report: Report) -> str:
    """Fail for a reason that other runs share."""
    raise DataError("no images; download them")


def fail_without_words(report: Report) -> str:
    """Fail with an error that has no message."""
    raise NotImplementedError


def break_down(report: Report) -> str:
    """Fail because of a bug."""
    raise TypeError("a bug")
