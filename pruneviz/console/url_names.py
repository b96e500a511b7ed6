"""Files of object stores as they are named to a person: by their URL, not by their local copy."""

from __future__ import annotations

import os
import re
from pathlib import Path

MIRROR_VARIABLE = "PRUNEVIZ_MIRROR"  # environment variable: where copies of remote runs lie
# Kinds of URLs that stay URLs with one slash, which `Path` leaves of two, and with none.
STORES = ("s3", "s3a", "gs", "gcs", "memory", "abfs", "abfss", "az", "adl", "hdfs", "http", "https")

_LOST_SLASH = re.compile(rf"\b({'|'.join(STORES)}):/(?=[^/\s])")
_FOLDER = "pruneviz-mirror"
_GENERATION = r"[0-9a-f]{16}"


def mirror_root() -> Path:
    """Folder of the local copies of remote runs: below $PRUNEVIZ_MIRROR, else the cache folder."""
    given = os.environ.get(MIRROR_VARIABLE)
    above = Path(given) if given else _cache_folder()
    return above.absolute() / _FOLDER


def mirror_folder(generation: str, protocol: str, remote: str) -> Path:
    """The folder of a copy, from which `with_urls` finds its URL.

    Args:
        generation: 16 hexadecimal digits that tell versions of a run apart.
        protocol: Such as "s3".
        remote: Bucket and path in it.
    """
    return mirror_root() / generation / protocol / remote


def with_urls(text: str) -> str:
    """A text in which local copies have the URLs of what they are copies of.

    URLs that were made a `Path` have both slashes again.
    """
    if ":/" in text:
        text = _LOST_SLASH.sub(r"\1://", text)
    if _FOLDER not in text:
        return text
    start = re.escape(f"{mirror_root().as_posix()}/")
    return re.sub(rf"{start}{_GENERATION}/([a-z0-9+.-]+)/", r"\1://", text)


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given) / "pruneviz" if given else Path.home() / ".cache" / "pruneviz"
