"""A recording that is killed, at any file operation or moment, goes on to the bit.

`make soak` kills 500 times and more, the ordinary tests a few times.
"""

from __future__ import annotations

import os
import random
import signal
import time
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support import killed_runs
from tests.support.killed_runs import KINDS, content, record

_LONGEST = 120.0  # seconds in which a recording of a second must have ended


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    return killed_runs.server()


@cache
def whole(server: ForkServerContext, kind: str, folder: Path) -> tuple[int, float, Any]:
    """An uninterrupted recording: its file operations, seconds and content."""
    counted = server.Value("i", 0)
    start = time.monotonic()
    assert _ended(server, kind, folder, None, counted) == 0
    return counted.value, time.monotonic() - start, content(folder)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def _ended(
    server: ForkServerContext,
    kind: str,
    folder: Path,
    at: int | None = None,
    counted: Any = None,
    after: float | None = None,
) -> int:
    """Record in a process of its own; kill it before operation `at`, or after some seconds.

    Returns:
        The exit code; -9 if it was killed.
    """
    folder.mkdir(exist_ok=True)
    process = server.Process(target=record, args=(kind, folder, at, counted))
    process.start()
    process.join(after if after is not None else _LONGEST)
    if process.is_alive():
        assert after is not None, f"a recording ({kind}) does not end"
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    return process.exitcode or 0


def check_killed(server: ForkServerContext, kind: str, folder: Path, once: Path, seed: int) -> str:
    """Kill a recording at drawn instants, one to three times, let it end, and compare it.

    Returns:
        How it was killed.
    """
    rng = random.Random(f"{kind} {seed}")
    operations, seconds, expected = whole(server, kind, once / kind.replace(" ", ""))
    how = rng.choice(["operation", "operation", "moment"])
    for _ in range(rng.choice([1, 2, 3])):
        at = rng.randrange(operations) if how == "operation" else None
        after = None if how == "operation" else rng.uniform(0, seconds)
        _ended(server, kind, folder, at, None, after)
    assert _ended(server, kind, folder) == 0, f"{kind}, seed {seed}: cannot go on"
    _compare(content(folder), expected, f"{kind}, seed {seed}")
    left = sorted(path.name for path in (folder / "run").iterdir() if path.suffix != ".parquet")
    assert left == ["spec.json"], f"{kind}, seed {seed}: leaves {left}"
    return how


def _compare(found: Any, expected: Any, what: str) -> None:
    for table, frame in expected[0].items():
        pd.testing.assert_frame_equal(found[0][table], frame, obj=f"{what}: {table}")
    pd.testing.assert_series_equal(
        pd.Series(found[1]), pd.Series(expected[1]), obj=f"{what}: facts", check_index_type=False
    )


@pytest.mark.parametrize("kind", ["carried", "own loop saved first"])
def test_a_killed_recording_goes_on_to_the_bit(
    server: ForkServerContext, kind: str, tmp_path: Path, once: Path
) -> None:
    check_killed(server, kind, tmp_path / "killed", once, 0)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_500_killed_recordings_go_on_to_the_bit(
    server: ForkServerContext, kind: str, part: int, tmp_path: Path, once: Path
) -> None:
    for seed in range(4 * part + 1, 4 * part + 5):
        check_killed(server, kind, tmp_path / str(seed), once, seed)
