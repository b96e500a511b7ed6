"""A process that records and rewinds runs, and one that reads them all the time."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EPOCHS = 6


def read_beside_a_writer(folder: Path, reads: int, seed: int) -> str:
    """Check that every look at a run that is written shows whole epochs, the same in all tables.

    Returns:
        What was seen, in words.

    Raises:
        AssertionError: If one does not, or a look fails.
    """
    command = [sys.executable, "-m", __name__, str(folder), str(reads), str(seed)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], text=True, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def main(folder: Path, reads: int, seed: int) -> None:
    """Read `reads` times beside a writer."""
    writer = os.fork()
    if not writer:
        try:
            _write(folder, random.Random(seed))
        finally:
            os._exit(1)
    logging.disable()
    try:
        while not (folder / "r0" / "spec.json").exists():
            time.sleep(0.01)
        seen = [_look(folder, how) for how in range(reads)]
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    unfinished = sum(not sealed for sealed, _ in seen)
    sys.stdout.write(f"{reads} looks, {unfinished} at an unfinished run; epochs up to ")
    sys.stdout.write(f"{max(last for _, last in seen)}\n")


def _write(folder: Path, rng: random.Random) -> None:
    from pruneviz.log.reopening import reopen
    from pruneviz.log.run_directory import RunLog
    from pruneviz.log.run_spec import RunSpec
    from tests.log.test_run_directory import append, epoch_row, filter_rows

    spec = RunSpec("r0")
    log = RunLog.create(folder / "r0", spec)
    while True:
        for epoch in range(max(log.epochs, default=-1) + 1, EPOCHS):
            append(log, epoch)
        row = epoch_row(EPOCHS - 1).assign(sample_loss=0.5)
        log.replace(EPOCHS - 1, epochs=row, filters=filter_rows(EPOCHS - 1, theta_hg=1.0))
        if rng.random() < 0.5:
            log.drop_after(rng.randrange(EPOCHS))
            continue
        log.seal()
        reopen(log.path)
        log = RunLog.resume(log.path, spec)
        log.drop_after(rng.randrange(EPOCHS))


def _look(folder: Path, how: int) -> tuple[bool, int]:
    from pruneviz.errors import LogError
    from pruneviz.log.live_runs import runs_so_far
    from pruneviz.log.runs import load

    try:
        runs: Any = load(folder) if how % 2 else runs_so_far(folder / "r0")
        sealed = not runs.unfinished if how % 2 else False
        epochs = list(runs.epochs["epoch"])
        filters = runs.filters
    except LogError as error:
        # a finished run that is opened again in the middle of a look has no tables any more
        assert "is missing" in str(error) and "parts" not in str(error), str(error)
        return True, -1
    assert epochs == list(range(len(epochs))), epochs
    measured = runs.epochs["sample_loss"].notna()
    if how % 2 or not measured.any():
        expected = epochs if how % 2 else epochs[-1:]
    else:
        expected = list(runs.epochs.loc[measured, "epoch"])
    assert sorted(set(filters["epoch"])) == expected, (expected, sorted(set(filters["epoch"])))
    assert len(filters) == 6 * len(expected)
    last = filters[filters["epoch"] == EPOCHS - 1]
    if len(last):
        assert bool(measured.iloc[-1]) == bool(last["theta_hg"].notna().all())
    return sealed, max(epochs, default=-1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
