"""fsspec's file system in memory as a store, with requests that are counted and may fail."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec


def new_bucket() -> str:
    """The URL of a bucket that nobody used before."""
    return f"memory://b{secrets.token_hex(6)}"


def put(folder: Path, url: str) -> None:
    """Copy a folder to a URL, file by file."""
    store = fsspec.filesystem("memory")
    for file in folder.rglob("*"):
        if file.is_file():
            store.pipe_file(f"{url}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def names_at(url: str) -> set[str]:
    """The files at a URL, by their paths below it."""
    start = "/" + url.removeprefix("memory://").strip("/") + "/"
    store = fsspec.filesystem("memory")
    found = store.find(start) if store.exists(start) else []
    return {path.removeprefix(start) for path in found}


class Requests(Counter[str]):
    """How often each method of the store was called, by `watched`."""


@contextmanager
def watched(before: Callable[[str, str], None] = lambda method, path: None) -> Iterator[Requests]:
    """Count requests to the store, and call a function before each, which may raise.

    Args:
        before: Gets the method and the path.
    """
    counted = Requests()
    kind = type(fsspec.filesystem("memory"))
    with pytest.MonkeyPatch.context() as patch:
        for method in ("find", "info", "get_file", "put_file", "pipe_file", "cat_file", "rm_file"):
            patch.setattr(kind, method, _counting(method, getattr(kind, method), counted, before))
        yield counted


def _counting(
    method: str, real: Any, counted: Requests, before: Callable[[str, str], None]
) -> Callable[..., Any]:
    def called(self: Any, path: str, *args: Any, **options: Any) -> Any:
        counted[method] += 1
        before(method, str(args[0] if method == "put_file" else path))
        return real(self, path, *args, **options)

    return called


# Recordings without a network


def new_log(path: Path) -> RunLog:
    """A new run without epochs."""
    facts = {"run": path.name, "network": "tiny", "dataset": "noise", "seed": 0}
    return RunLog.create(path, RunSpec.from_dict({**facts, "columns": ["theta_g"]}))


def add_epoch(log: RunLog, epoch: int, value: float = 1.0) -> None:
    """Record an epoch of two filters."""
    keys = {"epoch": epoch, "layer": "features.0", "filter": [0, 1], "kept": True}
    log.append(
        epoch,
        epochs=pd.DataFrame({"epoch": [epoch], "phase": ["train"], "kept_fraction": 1.0}),
        filters=pd.DataFrame({**keys, "theta_g": [value, -epoch]}),
    )
