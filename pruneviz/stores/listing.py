"""What a store holds below a URL: one flat listing, and the runs in it."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pruneviz.errors import LogError
from pruneviz.stores.urls import file_system, is_safe, parts_of_url, store_errors

_MAGIC = re.compile(r"[*?\[]")
# What stores call the version of a file; the first that is there tells versions apart.
_TAGS = (
    *("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified"),
    *("updated", "modified", "created"),
)


@dataclass(frozen=True)
class RemoteFile:
    """A file as a listing names it.

    Attributes:
        size: Its bytes.
        tag: Tells its versions apart; "" where the store has nothing that does.
    """

    size: int
    tag: str


@dataclass(frozen=True)
class RemoteRun:
    """A folder with a recording in a store.

    Attributes:
        url: Its URL.
        files: Its files, by their path in it.
    """

    url: str
    files: Mapping[str, RemoteFile]

    def generation(self) -> str:
        """Tells versions of the run apart; never the same twice where the store cannot."""
        digest = hashlib.sha256(self.url.encode())
        for name, file in sorted(self.files.items()):
            tag = file.tag or secrets.token_hex(16)
            digest.update(f"\n{name}\t{file.size}\t{tag}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def files_below(url: str) -> dict[str, RemoteFile]:
    """All files at or below a URL, by their path below it, in as few requests as the store has.

    Raises:
        LogError: If the store cannot be read.
    """
    _, remote = parts_of_url(url)
    fs = file_system(url)
    with store_errors(f"{url} cannot be listed"):
        try:
            found = fs.find(remote, detail=True)
        except FileNotFoundError:
            return {}
    start = f"{remote.strip('/')}/"
    listed = {}
    for path, facts in found.items():
        name = path.lstrip("/").removeprefix(start)
        if path.lstrip("/").startswith(start) and is_safe(name):
            listed[name] = RemoteFile(int(facts.get("size") or 0), tag_of(facts))
    return listed


def content_of(url: str, most: int) -> bytes | None:
    """The content of a small file; None if there is none.

    Args:
        url: Its URL.
        most: Bytes that are read at most.

    Raises:
        LogError: If the store cannot be read.
    """
    with store_errors(f"{url} cannot be read"):
        try:
            found: bytes = file_system(url).cat_file(parts_of_url(url)[1], start=0, end=most)
        except FileNotFoundError:
            return None
    return found


def tag_of(facts: Mapping[str, Any]) -> str:
    """What tells versions of a file apart, by what its store says of it."""
    found = next((facts[name] for name in _TAGS if facts.get(name)), "")
    return str(found.timestamp() if isinstance(found, datetime) else found)


def runs_below(url: str, marks: Sequence[str]) -> tuple[list[RemoteRun], list[str]]:
    """The runs at or below a URL or glob pattern.

    Args:
        url: URL; `*`, `?`, `[...]` stand for parts of a name, `**` for folders of any depth.
        marks: Files that make a folder a run.

    Returns:
        The runs, sorted, and the URLs of runs that lie inside another one.

    Raises:
        LogError: If the store cannot be read.
    """
    base, pattern = _split(url)
    files = files_below(base)
    folders = {name.rpartition("/")[0] for name in files if name.rpartition("/")[2] in marks}
    if pattern is not None:
        folders = {folder for folder in folders if _matches(pattern, folder)}
    outer = {folder for folder in folders if not any(up in folders for up in _above(folder))}
    inside: dict[str, dict[str, RemoteFile]] = {folder: {} for folder in outer}
    for name, file in files.items():
        home = next((up for up in _above(name) if up in outer), None)
        if home is not None:
            inside[home][name.removeprefix(f"{home}/" if home else "")] = file
    runs = [RemoteRun(_joined(base, folder), inside[folder]) for folder in sorted(outer)]
    return runs, [_joined(base, folder) for folder in sorted(folders - outer)]


def _split(url: str) -> tuple[str, re.Pattern[str] | None]:
    """The part of a URL before its first pattern, and what follows as an expression."""
    if not _MAGIC.search(url):
        return url, None
    protocol, remote = parts_of_url(url)
    parts = remote.split("/")
    first = next(place for place, part in enumerate(parts) if _MAGIC.search(part))
    if not first:
        raise LogError(f"{url} has a pattern in the name of its bucket; name one bucket")
    from fsspec.utils import glob_translate

    file_system(url)  # names the extra that is missing
    return f"{protocol}://{'/'.join(parts[:first])}", re.compile(
        glob_translate("/".join(parts[first:]))
    )


def _matches(pattern: re.Pattern[str], folder: str) -> bool:
    """Whether a folder, or one above it, matches."""
    return any(up and pattern.match(up) for up in (folder, *_above(folder)))


def _above(name: str) -> list[str]:
    """The folders above a file or folder, the nearest first; "" is the last."""
    parts = name.split("/")[:-1] if name else []
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)] if name else []


def _joined(base: str, folder: str) -> str:
    return f"{base}/{folder}" if folder else base
