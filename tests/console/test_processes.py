"""Worker processes: how many, and their end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pruneviz.console import processes
from pruneviz.console.processes import cores, end_with_parent, threads_each

_SCRIPT = """
import multiprocessing, os, time
from pruneviz.console.processes import end_with_parent

def work(ready):
    end_with_parent()
    ready.set()
    time.sleep(600)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    worker = spawn.Process(target=work, args=(ready,))
    worker.start()
    ready.wait(60)
    print(worker.pid, flush=True)
    os._exit(0)  # as a killed command ends: without a word to its worker
"""


def test_there_are_cores_and_no_more_than_the_machine_has() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("allowed", "at_once", "threads"),
    [
        ("", 1, 8),
        ("", 3, 2),
        ("", 20, 1),
        ("1", 1, 1),
        ("4", 1, 4),
        ("4", 4, 2),
        ("64", 1, 8),
        (" 2,1 ", 1, 2),  # of nested regions, the outermost counts
        ("+1", 1, 1),
        ("-1", 1, 8),
        ("0", 1, 8),  # as torch: no number of threads
        ("many", 1, 8),
    ],
)
def test_cores_are_shared_evenly_and_no_more_threads_than_the_person_allows(
    monkeypatch: pytest.MonkeyPatch, allowed: str, at_once: int, threads: int
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert threads_each(at_once) == threads
    if not allowed:
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert threads_each(at_once) == threads


def test_a_process_that_no_worker_started_goes_on() -> None:
    before = threading.active_count()
    end_with_parent()
    assert threading.active_count() == before, "nothing waits for an end"


def test_a_worker_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    # The output ends when the last process that holds it does.
    done = subprocess.run([sys.executable, script], capture_output=True, timeout=60, check=True)
    assert int(done.stdout) > 0
