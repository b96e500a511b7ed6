"""Local copies of remote runs, filled when a file is read.

```
<mirror>/<version>/s3/bucket/sets/run0/.pruneviz-remote.json    what the store listed, with sizes
<mirror>/<version>/s3/bucket/sets/run0/spec.json ...            files that were read so far
```
A copy is of one version of its run, told by names, sizes and ETags (or times) of all files, and a
file in it is never replaced: a run that changed has another copy, into which files that stayed the
same are linked. So a table that was opened keeps its rows, whatever happens in the store.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pruneviz.console.url_names import mirror_folder, mirror_root
from pruneviz.errors import LogError, PrunevizError
from pruneviz.stores.listing import RemoteFile, RemoteRun, tag_of
from pruneviz.stores.urls import file_system, parts_of_url, store_errors

MARKER = ".pruneviz-remote.json"
_AT_ONCE = 32  # requests; each waits for the network most of the time
_LAST = "last"  # folder in the mirror: the last version of each run
_DEEPEST = 2  # folders of a run above a file: parts/, weights/


@dataclass(frozen=True)
class Copy:
    """A local folder whose files come from a store.

    Attributes:
        folder: The folder.
        run: What it is a copy of.
    """

    folder: Path
    run: RemoteRun

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch files that are not there yet, several at once.

        Args:
            names: Their paths in the run.

        Raises:
            LogError: If a file cannot be read, or is not the one that was listed; the first one.
        """
        missing = [name for name in names if not (self.folder / name).exists()]
        if len(missing) < 2:
            for name in missing:
                self._fetch(name)
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(missing))) as pool:
            list(pool.map(self._fetch, missing))

    def _fetch(self, name: str) -> None:
        """Fetch a file and check that it is still the one that was listed."""
        url, listed = f"{self.run.url}/{name}", self.run.files[name]
        target, (_, remote) = self.folder / name, parts_of_url(f"{self.run.url}/{name}")
        temporary = target.with_name(f".{target.name}.{os.getpid()}{threading.get_ident()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_space(target.parent, url, listed.size)
            fs = file_system(url)
            with store_errors(f"{target} cannot be read"):
                fs.get_file(remote, str(temporary))
                now = fs.info(remote, refresh=True) if listed.tag else {}
            if temporary.stat().st_size != listed.size or tag_of(now) != listed.tag:
                raise LogError(
                    f"{target} changed after it was listed; read the run again, or wait until "
                    "nothing writes it any more"
                )
            temporary.replace(target)
        except OSError as error:
            raise LogError(
                f"cannot copy {url} to {mirror_root()}: {error.strerror or error}; free some "
                "space, or name another folder in $PRUNEVIZ_MIRROR"
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def copied(run: RemoteRun) -> Copy:
    """The local copy of a version of a run; nothing is fetched."""
    protocol, remote = parts_of_url(run.url)
    copy = Copy(mirror_folder(run.generation(), protocol, remote), run)
    if not (copy.folder / MARKER).exists():
        place(copy)
        _link_unchanged(copy)
    with suppress(OSError):  # used now
        os.utime(copy.folder / MARKER)
    return copy


def place(copy: Copy) -> None:
    """Make a folder the copy of a run: its files are fetched when they are read.

    Raises:
        LogError: If the disk cannot be written to.
    """
    listed = {name: [file.size, file.tag] for name, file in copy.run.files.items()}
    temporary = copy.folder / f".{MARKER}.{os.getpid()}{threading.get_ident()}.tmp"
    try:
        copy.folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"url": copy.run.url, "files": listed}), encoding="utf-8")
        temporary.replace(copy.folder / MARKER)
    except OSError as error:
        raise LogError(
            f"cannot write to {mirror_root()}, where copies of remote runs lie: "
            f"{error.strerror or error}; name another folder in $PRUNEVIZ_MIRROR"
        ) from error


def copy_at(folder: Path) -> Copy | None:
    """The copy that a folder is; None for a folder of another kind."""
    marker = folder / MARKER
    try:
        facts = marker.stat()
    except OSError:
        return None
    return _read_marker(marker, facts.st_ino, facts.st_size)


def fetched(file: Path) -> None:
    """Fetch a file if it is one of a copy and not there yet; others are left alone.

    Raises:
        LogError: If it cannot be fetched.
    """
    try:
        facts = file.stat()
    except FileNotFoundError:
        pass
    except OSError:
        return
    else:
        if _may_be_copy(file):  # used now; the time of its content stays
            with suppress(OSError):
                os.utime(file, ns=(time.time_ns(), facts.st_mtime_ns))
        return
    found = _place_of(file)
    if found is not None and found[1] in found[0].run.files:
        found[0].fetch([found[1]])


def fetch_together(files: Iterable[Path]) -> None:
    """Fetch files of any copies, several at once; what fails is told when the file is read."""
    missing = [file for file in files if listed_file(file) is not None and not file.exists()]

    def one(file: Path) -> None:
        with suppress(PrunevizError):
            fetched(file)

    if len(missing) > 1:
        with ThreadPoolExecutor(min(_AT_ONCE, len(missing))) as pool:
            list(pool.map(one, missing))


@contextmanager
def whole_copy(folder: Path) -> Iterator[None]:
    """Hold all files of a copy, and remove afterwards those that were not there before.

    Nothing happens to a folder of another kind.

    Raises:
        LogError: If a file cannot be fetched.
    """
    copy = copy_at(folder)
    missing = [n for n in copy.run.files if not (folder / n).exists()] if copy else []
    try:
        if copy:
            copy.fetch(missing)
        yield
    finally:
        for name in missing:
            with suppress(OSError):
                (folder / name).unlink()


def listed_file(file: Path) -> RemoteFile | None:
    """What a store says of a file of a copy; None if it is no such file."""
    found = _place_of(file)
    return found[0].run.files.get(found[1]) if found else None


def listed_names(folder: Path) -> list[str]:
    """The files in a folder of a copy, fetched or not; none if it is no such folder."""
    found = _place_of(folder / "*")
    if found is None:
        return []
    start = found[1].removesuffix("*")
    below = [name.removeprefix(start) for name in found[0].run.files if name.startswith(start)]
    return [name for name in below if "/" not in name]


def _place_of(file: Path) -> tuple[Copy, str] | None:
    """The copy that a file belongs to, and its path in it."""
    folder, name = file.parent, file.name
    for _ in range(_DEEPEST):
        copy = copy_at(folder)
        if copy is not None:
            return copy, name
        folder, name = folder.parent, f"{folder.name}/{name}"
    return None


@functools.lru_cache(maxsize=4096)
def _read_marker(marker: Path, number: int, size: int) -> Copy | None:
    """What a marker says; its number and size tell whether it is still the same."""
    try:
        held = json.loads(marker.read_text(encoding="utf-8"))
        files = {
            name: RemoteFile(int(size), str(tag)) for name, (size, tag) in held["files"].items()
        }
        return Copy(marker.parent, RemoteRun(str(held["url"]), files))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_be_copy(file: Path) -> bool:
    return str(file).startswith(f"{mirror_root()}{os.sep}")


def _link_unchanged(copy: Copy) -> None:
    """Link what is unchanged from the copy of the version before, and note this one."""
    protocol, remote = parts_of_url(copy.run.url)
    noted = mirror_root() / _LAST / hashlib.sha256(copy.run.url.encode()).hexdigest()[:32]
    with suppress(OSError):
        before = copy_at(mirror_folder(noted.read_text(), protocol, remote))
        for name, file in copy.run.files.items():
            if before and file.tag and before.run.files.get(name) == file:
                target = copy.folder / name
                with suppress(OSError):  # not fetched before, or a file system without links
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(before.folder / name, target)
    with suppress(OSError):
        noted.parent.mkdir(exist_ok=True)
        noted.write_text(copy.folder.relative_to(mirror_root()).parts[0])


def _check_space(folder: Path, url: str, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise LogError(
            f"{url} has {size / 1e9:,.1f} GB, and {mirror_root()} has {free / 1e9:,.1f} GB free; "
            "free some space, or name another folder in $PRUNEVIZ_MIRROR"
        )
