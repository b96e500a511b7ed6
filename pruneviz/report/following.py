"""Recordings that change while they are looked at: which ones did, and what the page holds now."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pruneviz.errors import LogError, PrunevizError
from pruneviz.log.found_runs import run_paths
from pruneviz.log.runs import Runs, as_they_are
from pruneviz.report.contents import RunContents, run_contents
from pruneviz.report.page import title_of

# Name, time of change and size of every file of a run.
_Stamp = tuple[tuple[str, int, int], ...]


@dataclass
class Followed:
    """What some folders hold, read again when files change.

    Attributes:
        where: Run directories, folders with runs, or patterns; none need exist yet.
        columns: Columns of the filters that the page can show; None for all.
        contents: What the page holds of every run that has an epoch.
        title: Title of the page.
        trouble: Why the folders could not be read the last time; "" if they could.
        version: Grows with every change.
        closed: Whether nobody follows any more.
    """

    where: Sequence[str]
    columns: Sequence[str] | None = None
    contents: list[RunContents] = field(default_factory=list)
    title: str = "waiting for the first epoch"
    trouble: str = ""
    version: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)
    _stamps: dict[Path, _Stamp] = field(default_factory=dict)
    _known: dict[str, tuple[_Stamp, RunContents]] = field(default_factory=dict)

    def look(self) -> bool:
        """Read what has changed since the last look; whether anything has."""
        try:
            paths = run_paths(self.where)
        except LogError as error:
            return self._tell(str(error))
        stamps = {path: _stamp(path) for path in paths}
        if stamps == self._stamps and not self.trouble:
            return False
        try:
            runs = as_they_are(list(self.where))
            contents = self._read(runs, stamps)
        except (PrunevizError, OSError) as error:
            # A run that is being sealed loses its parts in the middle of a look: look again.
            return self._tell(str(error))
        with self.changed:
            self._stamps, self.contents, self.trouble = stamps, contents, ""
            self.title = title_of(runs) if contents else self.title
            self.version += 1
            self.changed.notify_all()
        return True

    def wait(self, version: int, seconds: float) -> int:
        """The version once it is another than this one or nobody follows, or after some seconds."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.version != version, seconds)
            return self.version

    def close(self) -> None:
        """End all waiting."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _tell(self, trouble: str) -> bool:
        with self.changed:
            news = trouble != self.trouble
            self.trouble = trouble
            return news

    def _read(self, runs: Runs, stamps: dict[Path, _Stamp]) -> list[RunContents]:
        """Contents of every run; of those whose files are as before, the ones of before."""
        known: dict[str, tuple[_Stamp, RunContents]] = {}
        ordered = zip(map(str, runs.spec["run"]), stamps.values(), strict=True)
        for name, stamp in ordered:
            before = self._known.get(name)
            if before is not None and before[0] == stamp:
                known[name] = before
                continue
            run = runs.named(name)
            if len(run.read("filters", ["epoch"])):
                known[name] = (stamp, run_contents(run, self.columns))
        self._known = known
        return [contents for _, contents in known.values()]


def _stamp(run: Path) -> _Stamp:
    """What tells whether the files of a run have changed."""
    found = []
    for file in sorted(run.rglob("*.parquet")) + sorted(run.glob("spec.json")):
        try:
            facts = file.stat()
        except FileNotFoundError:
            continue  # it was replaced in the meantime
        found.append((str(file.relative_to(run)), facts.st_mtime_ns, facts.st_size))
    return tuple(found)
