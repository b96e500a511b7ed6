"""A limit on the time of a command, at whose end it stops by itself."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Annotated

import typer

# Seconds before the limit at which runs are asked to stop: those that a command may take to end,
# see `experiment.parallel`, and to start before its options are read.
MARGIN = 15.0
_LEAST = 30.0
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


@dataclass(frozen=True)
class TimeLimit:
    """The time that a command may take, from when its options were read.

    Args:
        text: The limit as given, such as "1h30m".
        seconds: The same in seconds.
        began: When the command began, by `time.monotonic`.
    """

    text: str
    seconds: float
    began: float = field(default_factory=time.monotonic)

    def is_near(self) -> bool:
        """Whether runs have to stop now, to be saved before the limit."""
        return time.monotonic() - self.began >= self.seconds - MARGIN


def time_limit(text: str) -> TimeLimit:
    """The limit that a text means, from now on.

    Args:
        text: Days, hours, minutes and seconds, such as "55m", "2h", "90s" or "1h30m".

    Raises:
        typer.BadParameter: If it is no duration, or too short to stop in.
    """
    found = _PARTS.fullmatch(text.strip().lower())
    if not found or not any(found.groups()):
        raise typer.BadParameter(
            f"{text!r} is no duration; give days, hours, minutes and seconds with their letters, "
            "such as 55m, 2h, 90s or 1h30m"
        )
    counts = zip(found.groups(default="0"), _UNITS.values(), strict=True)
    seconds = float(sum(int(count) * size for count, size in counts))
    if seconds < _LEAST:
        raise typer.BadParameter(
            f"{text!r} is too short: runs are stopped {MARGIN:.0f} s before the limit, to be "
            f"saved; give at least {_LEAST:.0f}s"
        )
    return TimeLimit(text.strip(), seconds)


Limit = Annotated[
    TimeLimit | None,
    typer.Option(
        "--time-limit",
        metavar="DURATION",
        parser=time_limit,
        help=f"Stop {MARGIN:.0f} s before this time is over, such as 55m or 1h30m, as by a signal, "
        "with exit code 0 if all is recorded and 1 if not; the same command goes on.",
    ),
]
