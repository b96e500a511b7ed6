"""Sweep files: many runs from a few lines of TOML, each fault named with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pruneviz.errors import LogError, PresetError, unknown_name
from pruneviz.log.arguments import as_tuple
from pruneviz.log.spooled_runs import in_spool
from pruneviz.plans.grids import KEYS, check_value
from pruneviz.plans.own_runs import OwnRun, own_runs
from pruneviz.plans.sweep_runs import RecordedRun, recorded_runs
from pruneviz.stores.urls import url_of

_TABLES = ("record", "train")
_HEADER = re.compile(r"^\s*\[\[?\s*(\w+)\s*\]")


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep file.

    Attributes:
        file: The file.
        out: Folder for the run directories; for a URL the one from which they are uploaded.
        runs: The runs, in the order of the file, each once.
    """

    file: Path
    out: Path
    runs: tuple[RecordedRun | OwnRun, ...]


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file.

    Args:
        file: The file; paths in it are relative to the working directory.

    Raises:
        PresetError: If the file cannot be read, or does not say which runs to record; names the
            line and the key.
    """
    return _Reader(file).sweep()


class _Reader:
    """A sweep file as text and as data."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._text = file.read_text(encoding="utf-8")
            self._given = tomllib.loads(self._text)
        except FileNotFoundError as error:
            raise PresetError(
                f"there is no file {file}; write one, beginning with pruneviz sweep --example"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise PresetError(f"{file} cannot be read ({error}); give a text file") from error
        except tomllib.TOMLDecodeError as error:
            raise PresetError(f"{file} is no TOML: {error}; correct it there") from error

    def sweep(self) -> Sweep:
        """All that the file asks for."""
        for name in self._given:
            if name not in ("out", *_TABLES):
                self._fail(unknown_name("key", name, ("out", *_TABLES)), name)
        out = self._given.get("out")
        if not isinstance(out, str) or not out:
            self._fail('out is missing; name the folder of the runs, such as out = "data/sweep"')
        runs: dict[str, tuple[RecordedRun | OwnRun, str]] = {}
        for name in _TABLES:
            for number, table in enumerate(self._tables(name), 1):
                for run in self._runs_of(name, number, table):
                    self._add(runs, run, name, number)
        if not runs:
            self._fail("there are no runs; add a table [[record]] or [[train]]")
        if url_of(out) and any(isinstance(run, OwnRun) for run, _ in runs.values()):
            self._fail(
                "out is a URL, and arguments of [[train]] are compared with those of before in a "
                "folder alone; name a folder, or give the URL to pv.Recorder in the function",
                "out",
            )
        return Sweep(self._file, in_spool(out).expanduser(), tuple(run for run, _ in runs.values()))

    def _tables(self, name: str) -> list[dict[str, Any]]:
        tables = self._given.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            self._fail(f"{name} is no list of tables; begin each with [[{name}]]", name)
        return tables

    def _runs_of(
        self, name: str, number: int, table: Mapping[str, Any]
    ) -> Iterator[RecordedRun | OwnRun]:
        """The runs of one table."""
        if name == "train":
            with self._named(name, number, table):
                yield from own_runs(table)
            return
        for key, value in table.items():
            with self._named(name, number, table, key):
                if key not in KEYS:
                    raise PresetError(unknown_name("key", key, tuple(KEYS)))
                check_value(key, value)
        with self._named(name, number, table):
            yield from recorded_runs(table)

    def _add(
        self,
        runs: dict[str, tuple[RecordedRun | OwnRun, str]],
        run: RecordedRun | OwnRun,
        name: str,
        number: int,
    ) -> None:
        """Add a run; the same one may be asked for twice, another of its name may not."""
        table = f"[[{name}]] {number}"
        before = runs.setdefault(run.run, (run, table))
        if before[0] != run:
            both = table if before[1] == table else f"{before[1]} and {table}"
            repair = (
                "add to name what differs, as {argument}"
                if isinstance(run, OwnRun)
                else "put them into two sweep files with an out of their own"
            )
            self._fail(f"two different runs of {both} are called {run.run}; {repair}", name, number)

    @contextmanager
    def _named(
        self, name: str, number: int, table: Mapping[str, Any], key: str = ""
    ) -> Iterator[None]:
        """Context in which errors say where in the file they come from."""
        try:
            yield
        except (PresetError, LogError) as error:
            key = key or _blamed(str(error), table)
            what = f"{key} of " if key else ""
            where = f"line {self._line(name, number, key)}, {what}[[{name}]] {number}"
            raise PresetError(f"{self._file}, {where}: {error}") from error

    def _fail(self, why: str, name: str = "", number: int = 0) -> NoReturn:
        where = f", line {self._line(name, number)}" if name else ""
        raise PresetError(f"{self._file}{where}: {why}")

    def _line(self, name: str, number: int, key: str = "") -> int:
        """The line of a key of a table, or else of the table; of a key outside of tables."""
        found, seen = 1, 0
        wanted = re.compile(rf"^\s*(\w+\.)*[\"']?{re.escape(key or name)}[\"']?\s*[=.]")
        for line, text in enumerate(self._text.splitlines(), 1):
            header = _HEADER.match(text)
            if header and header[1] == name:
                seen += 1
                found = line if seen == max(1, number) else found
            inside = seen == number and (key or not number)
            if inside and not header and wanted.match(text):
                return line
        return found


def _blamed(error: str, table: Mapping[str, Any]) -> str:
    """The key that an error is about, by the text that it quotes, or else by its words."""
    given = {**table}
    for value in table.values():
        given |= value if isinstance(value, dict) else {}
    for key, value in given.items():
        if any(isinstance(one, str) and repr(one) in error for one in as_tuple(value)):
            return key
    return next((word for word in re.findall(r"\w+", error) if word in given), "")
