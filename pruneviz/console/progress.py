"""Progress of parallel runs: bars on a terminal, a line at intervals elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pruneviz.console.words import counted, duration

Item = TypeVar("Item")

INTERVAL = 30.0  # seconds between two lines about one run
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} {unit}s [{elapsed}<{remaining}{postfix}]"


def with_bar(items: Sequence[Item], unit: str) -> Iterator[Item]:
    """Items one after another, with a bar on a terminal and nothing elsewhere.

    Args:
        items: The items.
        unit: What an item is.
    """
    from tqdm import tqdm

    with tqdm(items, unit=unit, leave=False, disable=not sys.stderr.isatty()) as bar:
        yield from bar


class Progress(ABC):
    """Progress of several runs, shown by the parent process only.

    Use it as a context manager and call `start`, `move` and `end` for each run; runs may overlap.

    Args:
        runs: Total number of runs.
        say: Prints one line.
        unit: What the progress of a run counts.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        runs: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        unit: str = "epoch",
    ) -> None:
        self.runs, self.say, self.clock, self.unit = runs, say, clock, unit
        self.ended, self.began = 0, clock()

    def __enter__(self) -> Progress:
        return self

    @abstractmethod
    def __exit__(self, *exception: object) -> None:
        """Leave the terminal as it was."""

    @abstractmethod
    def start(self, run: str, total: int) -> None:
        """Begin a run of `total` epochs or other units; no-op if it has already started."""

    @abstractmethod
    def move(self, run: str, epochs: float, note: str = "") -> None:
        """Set the number of epochs done and the current activity."""

    @abstractmethod
    def end(self, run: str, message: str) -> None:
        """End a run, whether it started or not, and print the result."""

    def _closing(self, message: str) -> str:
        """Count a run as ended and return its last line."""
        self.ended += 1
        seconds = self.clock() - self.began
        return f"{message} ({self.ended} of {counted(self.runs, 'run')}, {seconds:.0f} s)"


def show_progress(runs: int, say: Callable[[str], None], unit: str = "epoch") -> Progress:
    """Progress bars if stderr is a terminal, else a line every `INTERVAL` seconds.

    Args:
        runs: Total number of runs.
        say: Prints one line.
        unit: What the progress of a run counts.
    """
    return (Bars if sys.stderr.isatty() else Lines)(runs, say, unit=unit)


class Bars(Progress):
    """Bars on stderr: one for the epochs of each active run, and one for runs."""

    def __init__(
        self,
        runs: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        unit: str = "epoch",
    ) -> None:
        from tqdm import tqdm

        super().__init__(runs, say, clock, unit)
        self._new_bar = tqdm
        self._all = tqdm(total=runs, desc="runs", unit="run")
        self._totals: dict[str, int] = {}
        self._bars: dict[str, Any] = {}

    def __exit__(self, *exception: object) -> None:
        for bar in (*self._bars.values(), self._all):
            bar.close()

    def start(self, run: str, total: int) -> None:
        """Note the length of a run; its bar appears when it first moves."""
        self._totals.setdefault(run, total)

    def move(self, run: str, epochs: float, note: str = "") -> None:
        """Move a bar. Its remaining time is estimated from its first appearance."""
        if run not in self._bars:
            self._bars[run] = self._new_bar(
                total=self._totals[run],
                initial=epochs,
                desc=run,
                leave=False,
                bar_format=_BAR,
                unit=self.unit,
            )
        self._bars[run].n = epochs
        self._bars[run].set_postfix_str(note)

    def end(self, run: str, message: str) -> None:
        """Remove a bar and print the result of its run."""
        if run in self._bars:
            self._bars.pop(run).close()
        self._all.update()
        with self._all.external_write_mode():
            self.say(self._closing(message))


@dataclass
class _Run:
    """Progress of a run, and the time and position of its first move."""

    total: int
    told: float
    first: tuple[float, float] | None = None  # seconds, epochs


class Lines(Progress):
    """A line about each active run every `INTERVAL` seconds, for log files and CI."""

    def __init__(
        self,
        runs: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        unit: str = "epoch",
    ) -> None:
        super().__init__(runs, say, clock, unit)
        self._under_way: dict[str, _Run] = {}

    def __exit__(self, *exception: object) -> None:
        """No-op."""

    def start(self, run: str, total: int) -> None:
        """Note when a run begins."""
        self._under_way.setdefault(run, _Run(total, told=self.clock()))

    def move(self, run: str, epochs: float, note: str = "") -> None:
        """Print the progress of a run if its last line is old enough."""
        state, now = self._under_way[run], self.clock()
        if state.first is None:
            state.first = (now, epochs)
        if now - state.told >= INTERVAL:
            state.told = now
            doing = f", {note}" if note else ""
            left = _left(state, epochs, now)
            self.say(f"{run}: {epochs:.1f} of {counted(state.total, self.unit)}{doing}{left}")

    def end(self, run: str, message: str) -> None:
        """Print the result of a run."""
        self._under_way.pop(run, None)
        self.say(self._closing(message))


def _left(state: _Run, epochs: float, now: float) -> str:
    """Remaining time at the current pace; empty before the first progress."""
    seconds, start = state.first or (now, epochs)
    if epochs <= start:
        return ""
    pace = (now - seconds) / (epochs - start)
    return f"; {duration(pace * (state.total - epochs))} left"
