"""A disk that loses power: what may be left of the files that a program wrote.

`recorded_operations` notes what a program does to the files of a folder. `Disk` replays the first
operations and makes folders as a power failure may leave them. Only what was flushed is safe: the
content of a file by its own fsync, and the names in a folder (new, renamed, deleted) by the fsync
of that folder. Anything else may or may not be on the disk, in any order.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Operation:
    """What happened to a name in the folder, which is relative to it."""

    kind: str  # write, flush, mkdir, flush folder, rename, delete
    name: str
    content: bytes = b""
    target: str = ""


@contextmanager
def recorded_operations(root: Path) -> Iterator[list[Operation]]:
    """The operations on files in a folder, in their order, as they happen.

    Contents are those at the time of a flush or rename. Files that are neither flushed nor renamed
    are not seen.
    """
    seen = _Seen(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync", "replace", "rename", "unlink", "mkdir", "rmdir"):
            patch.setattr(os, name, seen.watched(name, getattr(os, name)))
        patch.setattr(os, "remove", os.unlink)
        patch.setattr(shutil, "rmtree", _removed)
        yield seen.operations


class _Seen:
    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._contents: dict[str, bytes] = {}
        self.operations: list[Operation] = []

    def watched(self, name: str, call: Any) -> Any:
        def watching(where: Any, *others: Any, **options: Any) -> Any:
            path = Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else where
            inside = self._inside(path)
            if inside is not None:
                getattr(self, f"_{name}")(inside, *others[:1])
            return call(where, *others, **options)

        return watching

    def _inside(self, path: Any) -> str | None:
        full = Path(os.path.abspath(path))  # noqa: PTH100 - not resolved: the name itself counts
        return str(full.relative_to(self._root)) if full.is_relative_to(self._root) else None

    def _note(self, kind: str, name: str, **what: Any) -> None:
        self.operations.append(Operation(kind, name, **what))

    def _write(self, name: str) -> None:
        content = (self._root / name).read_bytes()
        if self._contents.get(name) != content:
            self._contents[name] = content
            self._note("write", name, content=content)

    def _fsync(self, name: str) -> None:
        if (self._root / name).is_dir():
            self._note("flush folder", name)
        else:
            self._write(name)
            self._note("flush", name)

    def _rename(self, name: str, target: Any) -> None:
        if (self._root / name).is_file():
            self._write(name)
        to = self._inside(target)
        assert to is not None
        self._contents = {
            to + held[len(name) :] if held == name or held.startswith(f"{name}/") else held: content
            for held, content in self._contents.items()
        }
        self._note("rename", name, target=to)

    def _unlink(self, name: str) -> None:
        if (self._root / name).exists():
            self._contents.pop(name, None)
            self._note("delete", name)

    def _mkdir(self, name: str, mode: int = 0) -> None:
        if not (self._root / name).exists() and (self._root / name).parent.exists():
            self._note("mkdir", name)

    _fdatasync, _replace, _rmdir = _fsync, _rename, _unlink


def _removed(folder: Any, ignore_errors: bool = False) -> None:
    for inside in sorted(Path(folder).iterdir()) if Path(folder).exists() else ():
        _removed(inside) if inside.is_dir() else inside.unlink()
    if Path(folder).exists() or not ignore_errors:
        Path(folder).rmdir()


@dataclass(eq=False)
class _File:
    content: bytes = b""
    flushed: bytes | None = None


@dataclass(eq=False)
class _Folder:
    """A folder: the names as programs see them, those on the disk, and changes in between."""

    names: dict[str, _File | _Folder] = field(default_factory=dict)
    flushed: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[dict[str, _File | _Folder | None]] = field(default_factory=list)

    def change(self, names: dict[str, _File | _Folder | None]) -> None:
        """Names that change at once: to another file, or to none."""
        _apply(self.names, names)
        self.pending.append(names)

    def flush(self) -> None:
        self.flushed, self.pending = dict(self.names), []


def _apply(names: dict[str, _File | _Folder], changes: dict[str, _File | _Folder | None]) -> None:
    for name, now in changes.items():
        if now is None:
            names.pop(name, None)
        else:
            names[name] = now


class Disk:
    """The state of a disk after some operations.

    Args:
        operations: The operations up to the power failure.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._root = _Folder()
        for operation in operations:
            self._do(operation)

    def _do(self, operation: Operation) -> None:
        folder, name = self._place(operation.name)
        match operation.kind:
            case "mkdir":
                folder.change({name: _Folder()})
            case "write":
                if name not in folder.names:
                    folder.change({name: _File()})
                self._file(folder, name).content = operation.content
            case "flush":
                file = self._file(folder, name)
                file.flushed = file.content
            case "flush folder":
                whole = folder.names[name] if name else self._root
                assert isinstance(whole, _Folder)
                whole.flush()
            case "rename":
                target, to = self._place(operation.target)
                assert target is folder, "no file is moved between folders"
                folder.change({name: None, to: folder.names[name]})
            case "delete":
                folder.change({name: None})

    def _place(self, name: str) -> tuple[_Folder, str]:
        *above, own = Path(name).parts or ("",)
        folder = self._root
        for part in above:
            inside = folder.names[part]
            assert isinstance(inside, _Folder)
            folder = inside
        return folder, own

    def _file(self, folder: _Folder, name: str) -> _File:
        file = folder.names[name]
        assert isinstance(file, _File)
        return file

    def leave(self, out: Path, chance: random.Random | None = None) -> None:
        """Make a folder as a power failure may leave it.

        Args:
            out: The folder; must be empty or missing.
            chance: Chooses what was written in time. Default: all was.
        """
        _leave(self._root, out, chance)


def _leave(folder: _Folder, out: Path, chance: random.Random | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # Some failures lose or keep all of a folder; independent halves alone would seldom do so.
    luck = 1.0 if chance is None else chance.choice([0.0, 0.5, 0.5, 1.0])
    names = dict(folder.flushed)
    for changes in folder.pending:
        if chance is None or chance.random() < luck:
            _apply(names, changes)
    for name, what in names.items():
        if isinstance(what, _Folder):
            _leave(what, out / name, chance)
        elif chance is None or what.flushed == what.content or chance.random() < luck:
            (out / name).write_bytes(what.content)
        else:
            (out / name).write_bytes(_torn(what, chance))


def _torn(file: _File, chance: random.Random) -> bytes:
    """What a file may hold whose content was not flushed."""
    part = file.content[: chance.randrange(len(file.content) + 1)]
    return chance.choice([file.flushed or b"", b"", part, bytes(len(file.content))])
