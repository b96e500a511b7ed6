"""Processes that race to record the same run, some of them killed; run by itself, it forks them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

EPOCHS = 8
WRITERS = 3
ALLOWED = ("is being recorded by", "nothing to resume", "already holds the finished run")


def race(folder: Path, trials: int, seed: int) -> None:
    """Check that of racing processes one at a time records, and that the run is whole.

    Raises:
        AssertionError: If it is not, or an error says anything else.
    """
    command = [sys.executable, "-m", __name__, str(folder), str(trials), str(seed)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], text=True, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].startswith(f"{trials} runs whole"), ended.stdout


def main(folder: Path, trials: int, seed: int) -> None:
    """Race for `trials` runs."""
    rng = random.Random(seed)
    counts = {"finished": 0, "refused": 0, "killed": 0}
    for trial in range(trials):
        path = folder / f"r{trial}"
        while not _is_finished(path):
            _race_once(path, rng, counts)
        _check_whole(path)
        shutil.rmtree(path)
    sys.stdout.write(f"{trials} runs whole; processes: {counts}\n")


def _race_once(path: Path, rng: random.Random, counts: dict[str, int]) -> None:
    children = [_fork(path, rng.random()) for _ in range(WRITERS)]
    doomed = rng.choice([*children, None])
    if doomed is not None:
        time.sleep(0.15 * rng.random())
        os.kill(doomed, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, 3, -signal.SIGKILL}, codes
    assert codes.count(0) <= 1, "two processes report to have finished the run"
    counts["finished"] += codes.count(0)
    counts["refused"] += codes.count(3)
    counts["killed"] += codes.count(-signal.SIGKILL)


def _fork(path: Path, seed: float) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = _record(path, random.Random(seed))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _record(path: Path, rng: random.Random) -> int:
    """Record a run as a command does: resume it from a checkpoint if it was begun."""
    from pruneviz.errors import LogError
    from pruneviz.log.run_directory import RunLog
    from pruneviz.log.run_spec import RunSpec
    from pruneviz.log.spec_file import is_sealed
    from tests.log.test_run_directory import append

    time.sleep(0.03 * rng.random())
    try:
        begun = (path / "spec.json").exists() and not is_sealed(path)
        open_it = RunLog.resume if begun else RunLog.create
        log = open_it(path, RunSpec("r"))
        log.drop_after(rng.choice([-1, 2, 5]))
        for epoch in range(max(log.epochs, default=-1) + 1, EPOCHS):
            append(log, epoch)
            time.sleep(0.003 * rng.random())
        log.seal()
    except LogError as error:
        if any(words in str(error) for words in ALLOWED):
            return 3
        sys.stdout.write(f"{error}\n")
        return 4
    return 0


def _is_finished(path: Path) -> bool:
    from pruneviz.log.spec_file import is_sealed

    return is_sealed(path)


def _check_whole(path: Path) -> None:
    from pruneviz.log.runs import load

    runs = load(path)
    assert list(runs.epochs["epoch"]) == list(range(EPOCHS)), list(runs.epochs["epoch"])
    assert len(runs.filters) == 6 * EPOCHS
    assert sorted(file.name for file in path.iterdir()) == [
        *("correlations.parquet", "epochs.parquet", "filters.parquet", "rounds.parquet"),
        "spec.json",
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
