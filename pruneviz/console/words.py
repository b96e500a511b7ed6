"""Counts, durations and amounts of memory in words."""

from __future__ import annotations

_UNITS = ((90, 1, "s"), (90 * 60, 60, "minutes"), (48 * 3600, 3600, "hours"))  # limit, size, name


def counted(number: int, what: str) -> str:
    """A number with its noun: "1 run", "2 runs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A duration, rounded: "about 12 minutes"."""
    for limit, size, name in _UNITS:
        if seconds < limit:
            return f"about {max(1, round(seconds / size))} {name}"
    return f"about {round(seconds / 86_400)} days"


def memory(amount: float) -> str:
    """An amount of memory, from its bytes: "1.5 GB"."""
    for name in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {name}"
        amount /= 1000
    return f"{amount:.3g} TB"
