"""Runs that are recorded into a store: their folder in the spool, made to go on with what is there.

Where the spool holds the run, it goes on from there. Where it does not, an unfinished run is copied
from the store, and a finished one is a copy that is filled when it is read.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pruneviz.errors import LogError, PrunevizError
from pruneviz.log.files import disk_errors, make_folder, whole_folder
from pruneviz.log.run_lock import LOCK_FILE, check_idle
from pruneviz.log.spec_file import SPEC_FILE, is_sealed
from pruneviz.log.upload_state import LocalFile, Uploaded
from pruneviz.log.uploads import START_SECONDS, Uploads, lock_of, lock_text
from pruneviz.stores.listing import RemoteFile, RemoteRun
from pruneviz.stores.mirror import MARKER, Copy, copied, copy_at, place
from pruneviz.stores.remote_folder import RemoteFolder
from pruneviz.stores.spool import spool_folder, spool_url
from pruneviz.stores.urls import file_system, local_path, url_of

Result = TypeVar("Result")
_AT_ONCE = 16  # requests

_logger = logging.getLogger("pruneviz")


def in_spool(out: str | Path) -> Path:
    """The folder on this disk into which is recorded: `out`, or that of a URL in the spool.

    Nothing is read or written.

    Raises:
        LogError: If `out` begins as a URL does and is none.
    """
    url = url_of(out)
    if url is None:
        return Path(out)
    local = local_path(out)
    if local is None:
        file_system(url)  # names what is missing
        if any(letter in url for letter in "*?["):
            raise LogError(
                f"{url} is a pattern, and a recording needs a place of its own; choose a URL "
                "without *, ? and ["
            )
    return local or spool_folder(url)


def check_many_processes(folder: Path) -> None:
    """Check that several processes can record into a folder and its place in a store.

    Raises:
        LogError: If the store lies in the memory of one process.
    """
    url = spool_url(folder)
    if url is not None and url.startswith("memory:"):
        raise LogError(
            f"{url} lies in the memory of one process, and each run is recorded by another; record "
            "into a folder or a bucket"
        )


def named_out(folder: Path) -> str:
    """A folder into which is recorded, as a person named it: one of the spool by its URL."""
    return spool_url(folder) or str(folder)


def prepare(path: Path, *, resume: bool) -> None:
    """Make a folder of the spool ready to record into; nothing happens to other folders.

    Args:
        path: Run directory.
        resume: Whether a run that is there is gone on with.

    Raises:
        LogError: If the store cannot be read, or holds another recording than the folder.
    """
    url = spool_url(path)
    if url is None:
        return
    remote = RemoteFolder(url)
    begun = (path / SPEC_FILE).exists() and copy_at(path) is None
    try:
        there = within(START_SECONDS, remote.files, f"{url} did not answer")
    except PrunevizError as error:
        if not begun:
            raise
        _logger.warning("%s; the recording goes on in %s", error.args[0], path)
        return
    if not begun:
        _drop_copy(path)
        if SPEC_FILE in there:
            if not resume:
                raise LogError(
                    f"{url} already holds a run; choose another place, delete it first, or go on "
                    "with resume=True or 'auto'"
                )
            _fetch_run(RemoteRun(url, there), path)
        else:
            _check_free(url, there)
    elif SPEC_FILE in there:
        _check_same(remote, path, there)


def prepare_all(paths: Iterable[Path]) -> None:
    """Make folders of the spool ready to go on with, several at once; raises as `prepare` does."""
    spooled = [path for path in paths if spool_url(path)]
    if spooled:
        with ThreadPoolExecutor(min(_AT_ONCE, len(spooled))) as pool:
            list(pool.map(lambda path: prepare(path, resume=True), spooled))


def waiting_runs(folder: Path) -> list[Path]:
    """The runs at or below a folder of the spool that are not, or not whole, in the store."""
    found = [file.parent for file in sorted(folder.rglob(SPEC_FILE))]
    return [path for path in found if copy_at(path) is None]


def upload_runs(paths: Iterable[Path]) -> Iterator[tuple[Path, LogError | None]]:
    """Upload runs of the spool that no process records.

    Args:
        paths: Run directories; others than those of the spool are left alone.

    Yields:
        Each run that waited, and why it is not uploaded, if so.
    """
    for path in paths:
        if spool_url(path) and (path / SPEC_FILE).exists() and copy_at(path) is None:
            try:
                check_idle(path)
                Uploads(path).finish()
            except LogError as error:
                yield path, error
            else:
                yield path, None


def own_copy(path: Path) -> None:
    """Make a finished run of the spool, which is a copy that is filled on demand, a whole one.

    Nothing happens to other folders.

    Raises:
        LogError: If a file cannot be fetched.
    """
    copy = copy_at(path)
    if copy is not None and spool_url(path) is not None:
        copy.fetch(copy.run.files)
        with disk_errors(path):
            (path / MARKER).unlink()
            _known(path, copy.run.files)


def within(seconds: float, call: Callable[[], Result], what: str) -> Result:
    """The result of a call, if it comes in time; a call that hangs is left alone.

    Raises:
        LogError: If it does not come in time.
    """
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise LogError(f"{what} within {seconds:.0f} seconds; check the network, and repeat it")
    if isinstance(found[0], BaseException):
        raise found[0]
    result: Result = found[0]
    return result


def _fetch_run(run: RemoteRun, path: Path) -> None:
    """Put a run of a store into the spool: an unfinished one whole, a finished one as a copy."""
    if is_sealed(_with_spec(run)):
        place(Copy(path, run))
        Copy(path, run).fetch([SPEC_FILE])
        return
    _logger.warning("%s is not in %s, and is copied there", run.url, path)
    with disk_errors(path):
        if path.exists():
            shutil.rmtree(path)
        with whole_folder(path) as folder:
            Copy(folder, run).fetch(run.files)
        _known(path, run.files)


def _with_spec(run: RemoteRun) -> Path:
    copy = copied(run)
    copy.fetch([SPEC_FILE])
    return copy.folder


def _known(path: Path, files: Any) -> None:
    """Note that the files of a run are in the store as they are here."""
    held: dict[str, tuple[LocalFile, RemoteFile]] = {
        name: (LocalFile.of(path / name), file) for name, file in files.items() if name != LOCK_FILE
    }
    make_folder(path.parent)
    Uploaded(held, files.get(LOCK_FILE)).write(path)


def _drop_copy(path: Path) -> None:
    """Remove a folder of the spool without a recording of its own."""
    if copy_at(path) is not None:
        shutil.rmtree(path, ignore_errors=True)


def _check_free(url: str, there: dict[str, RemoteFile]) -> None:
    if there:
        raise LogError(
            f"{url} already holds other files, such as {min(there)}; choose another place, or "
            "delete them if nothing records into it"
        )


def _check_same(remote: RemoteFolder, path: Path, there: dict[str, RemoteFile]) -> None:
    """Check that the store holds what the spool recorded, and nothing that came after it."""
    known = Uploaded.read(path)
    spec = known.files.get(SPEC_FILE)
    ours = spec is not None and spec[1] == there[SPEC_FILE]
    if LOCK_FILE not in there:
        if ours or remote.content(SPEC_FILE, 4 << 20) == (path / SPEC_FILE).read_bytes():
            return
    elif known.lock == there[LOCK_FILE]:
        return
    else:
        found, own = lock_of(remote), lock_text(path)
        same_run = found.get("run_id") == own.get("run_id")
        # a run that was finished here has no lock any more that could tell its writer
        if found.get("writer") in known.writers:
            return
        if same_run and found.get("writer") == own.get("writer"):
            return
    raise LogError(
        f"{remote.url} holds another recording than {path}, or was recorded further elsewhere; to "
        f"go on from what is there, delete {path}, otherwise choose another place"
    )
