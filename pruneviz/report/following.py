"""Recordings that change while they are looked at: which ones did, and what the page holds now."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from pruneviz.errors import LogError, PrunevizError, ReportError, unknown_name
from pruneviz.log.found_runs import names_apart, run_paths
from pruneviz.log.runs import as_they_are
from pruneviz.log.schema import FILTERS, ON_REQUEST, is_filter_column
from pruneviz.report.contents import NOT_QUANTITIES, RunContents, run_contents
from pruneviz.report.page import title_of

# Name, time of change and size of every file of a run.
_Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Look:
    """What a look at a run found.

    Attributes:
        stamp: Its files.
        spec: Its facts; None if it could not be read.
        contents: What the page holds of it; None before its first epoch, or if it could not be
            read.
        trouble: Why it could not be read; "" if it could.
    """

    stamp: _Stamp
    spec: pd.DataFrame | None = field(default=None, repr=False)
    contents: RunContents | None = field(default=None, repr=False)
    trouble: str = ""


@dataclass
class Followed:
    """What some folders hold, read again when files change.

    Attributes:
        where: Run directories, folders with runs, or patterns; none need exist yet.
        columns: Columns of the filters that the page can show; None for all.
        contents: What the page holds of every run that has an epoch.
        title: Title of the page.
        trouble: What could not be read at the last look; "" if all could.
        version: Grows with every change.

    Raises:
        ReportError: If there is no such column.
    """

    where: Sequence[str]
    columns: Sequence[str] | None = None
    contents: list[RunContents] = field(default_factory=list)
    title: str = "waiting for the first epoch"
    trouble: str = ""
    version: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: dict[Path, _Look] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [name for name in (*FILTERS, *ON_REQUEST) if name not in NOT_QUANTITIES]
        for name in self.columns or ():
            if name in NOT_QUANTITIES or not is_filter_column(name):
                raise ReportError(unknown_name("column", name, known))

    def look(self) -> bool:
        """Read what has changed since the last look; whether anything has."""
        try:
            paths = run_paths(self.where)
        except (LogError, OSError) as error:
            return self._hold(self.contents, self.title, str(error))
        self._known = {path: self._looked_at(path) for path in paths}
        troubles = [look.trouble for look in self._known.values() if look.trouble]
        shown = {path: look for path, look in self._known.items() if look.contents is not None}
        return self._hold(*_together(shown), "; ".join(troubles))

    def state(self) -> tuple[int, list[RunContents], str, str]:
        """Version, contents, title and trouble of one moment."""
        with self._lock:
            return self.version, self.contents, self.title, self.trouble

    def _looked_at(self, path: Path) -> _Look:
        """A run as it is now; as it was before if its files are."""
        stamp = _stamp(path)
        before = self._known.get(path)
        if before is not None and before.stamp == stamp and not before.trouble:
            return before
        try:
            run = as_they_are([path])
            there = len(run.read("filters", ["epoch"])) > 0
            return _Look(stamp, run.spec, run_contents(run, self.columns) if there else None)
        except (PrunevizError, OSError) as error:
            # A run that is being sealed loses its parts in the middle of a look. What was shown of
            # it stays, and the next look tries again.
            shown = before or _Look(stamp)
            return replace(shown, stamp=stamp, trouble=str(error))

    def _hold(self, contents: list[RunContents], title: str, trouble: str) -> bool:
        """Hold what a look found; whether it is another than before."""
        same = len(contents) == len(self.contents) and all(
            one.blocks is other.blocks and one.facts["name"] == other.facts["name"]
            for one, other in zip(contents, self.contents, strict=True)
        )
        title = title or self.title
        if same and (title, trouble) == (self.title, self.trouble):
            return False
        with self._lock:
            self.contents, self.title, self.trouble = contents, title, trouble
            self.version += 1
        return True


def _together(looks: dict[Path, _Look]) -> tuple[list[RunContents], str]:
    """Contents of runs under names that tell them apart, and the title of their page."""
    paths = list(looks)
    own = [look.contents for look in looks.values() if look.contents is not None]
    names = names_apart(paths, [str(contents.facts["name"]) for contents in own])
    named = [
        _renamed(contents, name, path)
        for contents, name, path in zip(own, names, paths, strict=True)
    ]
    specs = [look.spec for look in looks.values() if look.spec is not None]
    return named, title_of(pd.concat(specs, ignore_index=True)) if specs else ""


def _renamed(contents: RunContents, name: str, path: Path) -> RunContents:
    """Contents under another name; the place of the run tells it from others for good."""
    return RunContents({**contents.facts, "name": name, "id": str(path)}, contents.blocks)


def _stamp(run: Path) -> _Stamp:
    """What tells whether the files of a run have changed."""
    found = []
    # A file that is replaced in the meantime, or may not be read, is told of when it is read.
    with suppress(OSError):
        for file in sorted([*run.rglob("*.parquet"), *run.glob("spec.json")]):
            facts = file.stat()
            found.append((str(file.relative_to(run)), facts.st_mtime_ns, facts.st_size))
    return tuple(found)
