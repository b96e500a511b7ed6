"""Where runs lie that are recorded into an object store: folders on a disk, one for each URL."""

from __future__ import annotations

import os
from pathlib import Path

from pruneviz.stores.urls import parts_of_url

SPOOL_VARIABLE = "PRUNEVIZ_SPOOL"  # environment variable: where runs lie until they are uploaded
_FOLDER = "pruneviz-spool"


def spool_root() -> Path:
    """Folder of runs that are recorded into stores: below $PRUNEVIZ_SPOOL, else the state folder.

    Unlike a cache, the state folder of a person is never emptied by others.
    """
    given = os.environ.get(SPOOL_VARIABLE)
    return (Path(given) if given else _state_folder()).absolute() / _FOLDER


def spool_folder(url: str) -> Path:
    """The folder in which a run, or a set of runs, is recorded before it is uploaded."""
    protocol, remote = parts_of_url(url)
    return spool_root() / protocol / remote


def spool_url(folder: Path) -> str | None:
    """The URL that a folder of the spool is uploaded to; None for other folders."""
    try:
        protocol, *parts = folder.absolute().relative_to(spool_root()).parts
    except ValueError:
        return None
    return f"{protocol}://{'/'.join(parts)}" if parts else None


def _state_folder() -> Path:
    given = os.environ.get("XDG_STATE_HOME")
    return Path(given) / "pruneviz" if given else Path.home() / ".local" / "state" / "pruneviz"
