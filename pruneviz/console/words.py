"""Counts and durations in words."""

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
