"""What was uploaded of a run, kept beside its folder in the spool, so that a kill costs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pruneviz.log.files import write_whole
from pruneviz.log.run_lock import LOCK_FILE
from pruneviz.stores.listing import RemoteFile


@dataclass(frozen=True)
class LocalFile:
    """A file of a run on this disk, as far as it tells whether it changed.

    Attributes:
        size: Its bytes.
        time: Its last change, in ns.
    """

    size: int
    time: int

    @classmethod
    def of(cls, file: Path) -> LocalFile:
        """The file as it is now.

        Raises:
            OSError: If it is gone.
        """
        facts = file.stat()
        return cls(facts.st_size, facts.st_mtime_ns)


@dataclass(frozen=True)
class Uploaded:
    """What is known to be in the store.

    Attributes:
        files: By name, the local file that was uploaded, and what the store says of it.
        lock: Version of the lock file that this recording wrote; None before.
        writers: What tells the recorders apart that wrote it from this disk.
    """

    files: Mapping[str, tuple[LocalFile, RemoteFile]] = field(default_factory=dict)
    lock: RemoteFile | None = None
    writers: tuple[str, ...] = ()

    def write(self, run: Path) -> None:
        """Keep it beside a run directory."""
        files = {n: [*vars(a).values(), *vars(b).values()] for n, (a, b) in self.files.items()}
        lock = None if self.lock is None else [*vars(self.lock).values()]
        text = json.dumps({"files": files, "lock": lock, "writers": self.writers})
        write_whole(_file(run), lambda file: file.write_text(text, encoding="utf-8"), flush=False)

    @classmethod
    def read(cls, run: Path) -> Uploaded:
        """What was kept; nothing if that is lost, so that all is uploaded again."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            held = json.loads(_file(run).read_text(encoding="utf-8"))
            files = {
                str(name): (LocalFile(size, time), RemoteFile(there, str(tag)))
                for name, (size, time, there, tag) in held["files"].items()
            }
            lock = None if held["lock"] is None else RemoteFile(*held["lock"])
            return cls(files, lock, tuple(map(str, held["writers"])))
        return cls()

    @staticmethod
    def remove(run: Path) -> None:
        """Remove what was kept."""
        _file(run).unlink(missing_ok=True)

    def lacks(self, local: Mapping[str, LocalFile], there: Mapping[str, RemoteFile]) -> set[str]:
        """Names of files that are not in the store as they are on the disk."""
        return {
            name
            for name, file in local.items()
            if name != LOCK_FILE and self.files.get(name) != (file, there.get(name))
        }


def _file(run: Path) -> Path:
    return run.with_name(f".{run.name}.upload.json")
