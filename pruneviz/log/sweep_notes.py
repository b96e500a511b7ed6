"""What is kept of the runs of a sweep between commands: how they were begun, why they failed.

One small file per run, in the hidden folder `.sweep` beside the runs, so that commands on several
machines never write the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pruneviz.log.files import disk_errors, make_folder, write_whole

_FOLDER = ".sweep"
_LARGEST = 1_000_000  # bytes of a note that is read


@dataclass(frozen=True)
class Note:
    """What is kept of one run.

    Attributes:
        begun: What it was begun with, such as function and arguments, as JSON holds them.
        failed: Why it failed the last time; "" if it did not.
    """

    begun: Mapping[str, Any] = field(default_factory=dict)
    failed: str = ""


def note_of(out: Path, run: str) -> Note:
    """What is kept of a run; nothing if there is no note, or none that can be read.

    Args:
        out: Folder with the run directories.
        run: Run name.
    """
    try:
        file = _file(out, run)
        if not file.is_file() or file.stat().st_size > _LARGEST:
            return Note()
        found = json.loads(file.read_text(encoding="utf-8"))
        begun, failed = found["begun"], found["failed"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Note()
    whole = isinstance(begun, dict) and isinstance(failed, str)
    return Note(begun, failed) if whole else Note()


def keep_note(out: Path, run: str, note: Note) -> None:
    """Keep something of a run, in the place of what was kept before.

    Args:
        out: Folder with the run directories.
        run: Run name.
        note: What to keep.

    Raises:
        LogError: If the disk cannot be written to.
    """
    file = _file(out, run)
    text = json.dumps(asdict(note), default=str, indent=1)
    with disk_errors(file):
        make_folder(file.parent)
        write_whole(file, lambda path: path.write_text(text + "\n", encoding="utf-8"), flush=False)


def as_kept(begun: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is begun with, as a note gives it back."""
    kept: dict[str, Any] = json.loads(json.dumps(begun, default=str))
    return kept


def trace_file(out: Path, run: str) -> Path:
    """The file with the stack trace of a run whose function raised an exception."""
    return _file(out, run).with_suffix(".txt")


def _file(out: Path, run: str) -> Path:
    return out / _FOLDER / f"{run}.json"
