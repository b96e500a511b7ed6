"""Where runs are: folders, several of them or glob patterns, and names that tell runs apart."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pruneviz.errors import LogError, closest
from pruneviz.log.files import is_unfinished
from pruneviz.log.regular_files import is_something
from pruneviz.log.remote_runs import remote_run_paths
from pruneviz.log.spec_file import SPEC_FILE
from pruneviz.stores.urls import local_path, url_of

_logger = logging.getLogger("pruneviz")

_MAGIC = set("*?[")  # characters of a glob pattern
_USUAL = Path("data")  # where commands record by default, and the repository has recordings
_MOST_FOLDERS = 100_000  # that are searched for runs
_MOST_BESIDE = 8  # other folders that a message names

Where = str | Path | Iterable[str | Path]


def run_paths(where: Where, unlisted: list[str] | None = None) -> list[Path]:
    """The run directories at or below some folders, each once.

    Args:
        where: A run directory, a folder with run directories, a glob pattern such as
            "data/*/seed?" (`**` stands for folders of any depth), a URL of any of these such as
            "s3://bucket/sets/*", or several of them.
        unlisted: Gets a sentence for each folder that cannot be listed. Default: these are errors.

    Returns:
        Run directories in the order of `where`, sorted within each of its entries.

    Raises:
        LogError: If a folder does not exist, a pattern matches nothing, or there are no runs.
    """
    given = _entries(where)
    if not given:
        raise LogError("no folder was given; name a run directory, or a folder with some")
    found: dict[Path, Path] = {}
    for entry in given:
        for path in _runs_of(entry, unlisted):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def holds_run(folder: Path) -> bool:
    """Whether a folder is a run directory, also one whose spec is lost or no regular file.

    Args:
        folder: The folder.
    """
    return is_something(folder / SPEC_FILE) or is_something(folder / "epochs.parquet")


def folders_beside(path: Path) -> list[str]:
    """Folders with recordings beside one that has none, else in `data`; the most alike first.

    Args:
        path: The folder.
    """
    own = Path(os.path.realpath(path))  # also of a link to itself
    above = path.parent if path.name else Path(os.path.relpath(own.parent))  # of "."
    for parent in dict.fromkeys((above, _USUAL)):
        inside = sorted(_children(parent), key=Path.is_symlink, reverse=True)
        once = {one.resolve(): one for one in inside}
        names = sorted(one.name for real, one in once.items() if real != own and _has_runs(one))
        if names:
            alike = closest(path.name, names)
            names.sort(key=lambda name: name != alike)  # stable
            return [str(parent / name) for name in names[:_MOST_BESIDE]]
    return []


def names_apart(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Names of runs, those that occur twice with a part of their path in front.

    The part is the shortest that tells them apart: runs called run0 in the folders `mine/a/run0`
    and `mine/b/run0` become `a/run0` and `b/run0`.

    Args:
        paths: Run directories.
        names: Their names.
    """
    prefixes = folders_apart(paths, names)
    apart = zip(prefixes, names, strict=True)
    return [f"{prefix}/{name}" if prefix else name for prefix, name in apart]


def folders_apart(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """For every run, the part of its path that tells it from others of its name; "" if alone."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    found = [""] * len(paths)
    for same in places.values():
        if len(same) > 1:
            parts = [paths[place].absolute().parts for place in same]
            for place, part in zip(same, _shortest_apart(parts), strict=True):
                found[place] = part
    return found


def _shortest_apart(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest end of every path that tells it apart, without the end that all share."""
    shared = 0
    while all(len(path) > shared + 1 for path in paths) and _same_at(paths, shared):
        shared += 1
    bare = [path[: len(path) - shared] for path in paths]
    length = 1
    while max(Counter(path[-length:] for path in bare).values()) > 1:
        length += 1
    joined = ("/".join(path[-length:]).replace("//", "/") for path in bare)
    # bytes of a folder's name that are no Unicode cannot stand in a table
    return [name.encode("utf-8", "backslashreplace").decode() for name in joined]


def _same_at(paths: Sequence[tuple[str, ...]], from_end: int) -> bool:
    return len({path[-1 - from_end] for path in paths}) == 1


def _entries(where: Where) -> list[str | Path]:
    if isinstance(where, str | Path):
        return [where]
    if not isinstance(where, Iterable):
        raise LogError(
            f"{type(where).__name__} is no folder; give a path, a glob pattern, or a list of them"
        )
    entries = list(where)
    wrong = [entry for entry in entries if not isinstance(entry, str | Path)]
    if wrong:
        raise LogError(
            f"{wrong[0]!r} is no folder; give paths and glob patterns, as text or as Path"
        )
    return entries


def _runs_of(entry: str | Path, unlisted: list[str] | None = None) -> list[Path]:
    if url := url_of(entry):
        local = local_path(entry)
        if local is None:
            return remote_run_paths(url, unlisted)
        entry = local
    path = Path(entry).expanduser()
    if path.is_dir():
        found = _runs_below(path, unlisted)
        if not found and not unlisted:
            nothing = f"{path} holds no recordings (no {SPEC_FILE} in it or below it)"
            raise LogError(f"{nothing}; {_advice(path)}")
        return found
    if not _MAGIC & set(str(entry)):
        what = f"{path} is a file" if path.exists() else f"there is no folder {path}"
        raise LogError(f"{what}; {_advice(path)}")
    matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    found = [run for match in matches if match.is_dir() for run in _runs_below(match, unlisted)]
    if not found and not unlisted:
        what = f"matches {len(matches)} files and folders, none with" if matches else "matches no"
        raise LogError(f"the pattern {entry} {what} recordings; check it, or name a folder")
    return found


def _advice(path: Path) -> str:
    beside = folders_beside(path)
    if not beside:
        return "record some with pruneviz record"
    return f"there are recordings in {', '.join(beside)}; record others with pruneviz record"


def _has_runs(folder: Path) -> bool:
    """Whether a folder is a run or holds some; deeper ones are not searched, as they are many."""
    try:
        return (folder / SPEC_FILE).is_file() or any(folder.glob(f"*/{SPEC_FILE}"))
    except OSError:  # not to be read, as other people's folders beside a misspelt one
        return False


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _runs_below(folder: Path, unlisted: list[str] | None = None) -> list[Path]:
    """Run directories at or below a folder, also linked ones, each once; links come last.

    Folders are told apart by their numbers on the disk, as long paths are slow to resolve.
    """
    found: list[Path] = []
    inside: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, False)]
    linked: list[tuple[Path, bool]] = []
    while waiting or linked:
        path, in_run = waiting.pop() if waiting else linked.pop()
        try:
            number, below = _inside(path)
        except LogError as error:
            if unlisted is None:
                raise
            unlisted.append(str(error))
            continue
        if number is None or number in seen:
            continue
        seen.add(number)
        if len(seen) > _MOST_FOLDERS:
            raise LogError(
                f"{folder} has more than {_MOST_FOLDERS:,} folders below it, with those that links "
                "lead to; name the folder with the runs"
            )
        is_run = holds_run(path)
        if is_run:
            (inside if in_run else found).append(path)
        for one in below:
            (linked if one.is_symlink() else waiting).append((one, in_run or is_run))
    for path in inside:
        _logger.warning("%s lies inside another run and is left out; move it out of there", path)
    return sorted(found)


def _inside(folder: Path) -> tuple[tuple[int, int] | None, list[Path]]:
    """The number of a folder on its disk, None if there is none, and the folders in it."""
    try:
        here = folder.stat()
        return (here.st_dev, here.st_ino), list(filter(_may_hold_runs, folder.iterdir()))
    except FileNotFoundError:  # removed meanwhile
        return None, []
    except OSError as error:
        raise LogError(
            f"{folder} cannot be searched for recordings ({error.strerror}); make it readable, or "
            "name other folders"
        ) from error


def _may_hold_runs(path: Path) -> bool:
    """Whether it is a folder, and none that a killed process left half-written."""
    return path.is_dir() and not is_unfinished(path)
