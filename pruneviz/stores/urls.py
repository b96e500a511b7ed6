"""URLs of object stores: told from folders, opened by fsspec, and their errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pruneviz.console.url_names import STORES
from pruneviz.errors import LogError, MissingExtraError, PrunevizError

# Two letters at least: one is a drive of Windows. `Path` leaves one slash of two.
_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_LOCAL = ("file", "local")
_EXTRA = "pip install 'pruneviz[s3]'"
_FORBIDDEN = ("", ".", "..")  # parts of a path that lead elsewhere on a disk


def url_of(where: str | Path) -> str | None:
    """The URL that a person means, without a slash at its end; None for a folder on a disk.

    Args:
        where: A folder or URL; also a URL that was made a Path, which has one slash of two.

    Raises:
        LogError: If it begins as a URL does and names no bucket or folder.
    """
    found = _URL.fullmatch(str(where))
    if found is None:
        return None
    protocol, slashes, rest = found["protocol"].lower(), found["slashes"], found["rest"]
    if len(slashes) < 2 and not _stays_url(protocol, slashes, isinstance(where, Path)):
        return None
    rest = rest.rstrip("/")
    if not slashes or not rest:
        named = f"{protocol}://{rest or 'bucket/runs'}"
        raise LogError(f"{where} is no URL of recordings; write it as {named}")
    if protocol in _LOCAL:
        return f"file:///{rest}"
    if any(part in _FORBIDDEN for part in rest.split("/")):
        raise LogError(f"{where} has a part that is empty, '.' or '..'; write the URL without it")
    return f"{protocol}://{rest}"


def local_path(where: str | Path) -> Path | None:
    """The folder of a `file://` URL; None for other URLs and for folders."""
    url = url_of(where)
    return Path(url.removeprefix("file://")) if url and url.startswith("file://") else None


def parts_of_url(url: str) -> tuple[str, str]:
    """The protocol of a URL, and bucket and path as one text."""
    protocol, _, remote = url.partition("://")
    return protocol, remote


def is_safe(name: str) -> bool:
    """Whether the name of a remote file stays within its folder on any disk."""
    parts = name.split("/")
    return not any(part in _FORBIDDEN or "\\" in part or "\0" in part for part in parts)


def file_system(url: str) -> Any:
    """fsspec's file system of a URL.

    Endpoints and credentials are those of the environment and of fsspec's configuration.

    Raises:
        MissingExtraError: If fsspec, or the package for this kind of URL, is not installed.
        LogError: If there is no such kind of URL.
    """
    protocol, _ = parts_of_url(url)
    try:
        import fsspec
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"{protocol}:// needs fsspec, which is not installed: {_EXTRA}"
        ) from None
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            raise MissingExtraError(
                f"{protocol}:// needs s3fs, which is not installed: {_EXTRA}"
            ) from None
        raise MissingExtraError(f"{protocol}:// needs a package of fsspec: {error}") from error
    except ValueError as error:
        raise LogError(f"{url}: {error}; give a URL that fsspec knows, such as s3://") from error
    except Exception as error:  # of a library that the package needs
        raise LogError(
            f"{url} cannot be opened ({reason_of(error)}); install what {protocol}:// needs, or "
            "give another URL"
        ) from error


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn failures of a store into errors that say what to do.

    Args:
        what: What fails, such as "s3://bucket/run cannot be read".
    """
    try:
        yield
    except PrunevizError:
        raise
    except Exception as error:  # each store has its own kinds, of several packages
        raise LogError(f"{what} ({reason_of(error)}); {_repair(error)}") from error


def reason_of(error: BaseException) -> str:
    """Why a store failed, on one line."""
    said = " ".join(str(error).split())
    return said or type(error).__name__


def _stays_url(protocol: str, slashes: str, is_path: bool) -> bool:
    """Whether a text with fewer than two slashes is a URL that lost some."""
    return protocol in STORES or (is_path and slashes == "/")


def _repair(error: BaseException) -> str:
    name, said = type(error).__name__, str(error).lower()
    if isinstance(error, FileNotFoundError):
        return "check the URL"
    if isinstance(error, PermissionError) or "credential" in name.lower() or "token" in said:
        return "give credentials that are valid and may do this, and repeat it"
    return "check the network and the address of the store, and repeat it"
