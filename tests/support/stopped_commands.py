"""`pruneviz record` in processes of its own, which get real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pruneviz.plans.run_plan import RunPlan

_SCRIPT = """
from pruneviz.console.stop_signals import end_at_once
if __name__ == "__main__":
    end_at_once()
import sys
from pruneviz import record
from pruneviz.log.pruning_options import PruningOptions
from pruneviz.plans.run_plan import RunPlan
{patches}
if __name__ == "__main__":
    record.plan_runs = lambda *options: {plans!r}
    from pruneviz.__main__ import main
    sys.argv = ["pruneviz", "record", *sys.argv[1:]]
    main()
"""


@dataclass(frozen=True)
class Ended:
    """What a command said, and what is left of it.

    Attributes:
        code: Exit code.
        stdout, stderr: What it printed.
        seconds: From the first signal to the end.
        left: Processes of its group that go on.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    left: list[int]


class StoppedCommand:
    """A started command that records plans.

    Args:
        folder: Folder for the script and for the runs.
        plans: What to record.
        *options: Further options.
        patches: Python code that is run first, in the command and in its workers.
    """

    def __init__(
        self, folder: Path, plans: Sequence[RunPlan], *options: str, patches: str = ""
    ) -> None:
        self.out = folder / "out"
        script = command_script(folder, plans, patches)
        self.process = started(str(script), "--out", str(self.out), "--device", "cpu", *options)

    def wait_for(self, pattern: str) -> None:
        """Wait until there is a file in the folder of the runs."""
        deadline = time.monotonic() + 250
        while self.process.poll() is None and not list(self.out.glob(pattern)):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_for_an_epoch(self) -> None:
        """Wait until it has recorded another epoch, or has ended."""
        before = set(self.out.glob("*/parts/epochs-*.parquet"))
        while self.process.poll() is None:
            if set(self.out.glob("*/parts/epochs-*.parquet")) - before:
                return
            time.sleep(0.01)

    def kill_worker(self) -> None:
        """Kill one of its workers."""
        for worker in self._workers()[:1]:
            worker.kill()

    def _workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        return []

    def stop(self, *numbers: int, alone: bool = False, between: float = 0.0) -> Ended:
        """Send signals, and wait for the end; see `stopped`."""
        return stopped(self.process, *numbers, alone=alone, between=between)


def command_script(folder: Path, plans: Sequence[RunPlan], patches: str = "") -> Path:
    """A script in a folder that records plans, with the options that it is given."""
    script = folder / "command.py"
    script.write_text(_SCRIPT.format(plans=list(plans), patches=patches), encoding="utf-8")
    return script


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start Python in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def stopped(
    process: subprocess.Popen[str], *numbers: int, alone: bool = False, between: float = 0.0
) -> Ended:
    """Send signals to a process or its group, and wait for its end.

    Args:
        process: A process from `started`.
        *numbers: The signals.
        alone: Send them to this process, and not to its children.
        between: Seconds between two signals.
    """
    began = time.monotonic()
    for count, number in enumerate(numbers):
        time.sleep(between if count else 0)
        with contextlib.suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(process.pid, number)
    try:
        stdout, stderr = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    seconds = time.monotonic() - began
    deadline = time.monotonic() + 60
    while (left := _group(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return Ended(process.returncode, stdout, stderr, seconds, left)


def _group(number: int) -> list[int]:
    """The processes of a group that run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
